"""Checkpoints of strangers: nothing in them runs, and what is wrong with them is one line."""

import os
import pickle
import threading
import warnings
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import lightning.pytorch as pl
import pytest
import torch
import yaml
from lightning.pytorch.demos.boring_classes import BoringModel
from torch.distributed.checkpoint import FileSystemWriter, save

from loopy.cli import main
from loopy.errors import ModelError
from loopy.training.checkpoint_files import Reader, check_whole, checkpoint_weights, last_checkpoint

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists"),
]
STAGE = "loopy.training.autoencoder"

HEAD = "# lightning.pytorch==2.6\n"
"""How a recipe begins that a run has left."""


class Evil:
    """Makes a file when it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


def recipe(root, **trainer):
    """An autoencoder of almost no size."""
    small = {"widths": [8, 8], "groups": 4, "size_px": 16}
    network = {"class_path": f"{STAGE}.small_autoencoder", "init_args": small}
    data = {"size_px": 16, "batch_size": 1, "validation_batches": 1}
    options = {"accelerator": "cpu", "max_steps": 1, "num_sanity_val_steps": 0, "logger": False}
    silent = {"enable_progress_bar": False, "enable_model_summary": False, "limit_val_batches": 1}
    return {
        "seed_everything": 0,
        "model": {"class_path": f"{STAGE}.AutoencoderStage", "init_args": {"network": network}},
        "data": {"class_path": "loopy.training.autoencoder.SyntheticFaces", "init_args": data},
        "trainer": {**options, **silent, "default_root_dir": str(root), **trainer},
    }


@pytest.fixture
def run(tmp_path, capsys):
    """The folder of a run with its recipe, and a verb of it: (words) -> code, line."""
    root = tmp_path / "run"
    root.mkdir()
    (root / "config.yaml").write_text(HEAD + yaml.safe_dump(recipe(root)))

    def command(*words):
        words = list(words)
        if words[0] != "export":
            words[1:1] = ["--config", str(root / "config.yaml")]
        code = main(words)
        lines = capsys.readouterr().err.splitlines()
        said = [line for line in lines if line.startswith("loopy: error: ")]
        assert len(said) == int(code == 2), lines
        return code, said[0] if said else ""

    return root, command


def write_folder(path, state):
    """A checkpoint in FSDP2's form."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        save(state, storage_writer=FileSystemWriter(path), no_dist=True)
    torch.save({}, path / "meta.pt")
    return path


STATE = {
    "state_dict": {"weight": torch.arange(6.0).view(2, 3), "half": torch.ones(2).bfloat16()},
    "optimizer_0": {"param_groups": [{"lr": 0.1, "betas": (0.9, 0.99), "params": ["weight"]}]},
}


def test_an_honest_folder_is_read(tmp_path):
    path = write_folder(tmp_path / "last.ckpt", STATE)
    check_whole(path)
    kept = checkpoint_weights(path)
    assert all(torch.equal(kept[name], value) for name, value in STATE["state_dict"].items())


@pytest.mark.parametrize("verb", ["export", "fit", "resume"])
def test_a_table_of_contents_runs_nothing(run, tmp_path, verb):
    root, command = run
    mark, folder = tmp_path / "ran", last_checkpoint(root)
    write_folder(folder, STATE)
    (folder / ".metadata").write_bytes(pickle.dumps(Evil(mark)))
    words = {
        "export": ["export", "--ckpt", str(folder), "--out", str(tmp_path / "model")],
        "fit": ["fit", "--ckpt_path", str(folder)],
        "resume": ["fit"],
    }[verb]
    code, line = command(*words)
    assert code == 2
    assert ("posix.mkdir" if verb == "export" else "another strategy") in line
    with pytest.raises(ModelError, match=r"posix\.mkdir, which could run code"):
        check_whole(folder)
    assert not mark.exists()
    with pytest.raises((AttributeError, TypeError)):
        super(Reader, Reader(folder)).read_metadata()
    assert mark.exists()  # torch's own reading would have


def test_values_beside_the_tensors_run_nothing(tmp_path):
    """torch reads them by pickle, wherever the table of contents says that a value is."""
    mark = tmp_path / "ran"
    path = write_folder(tmp_path / "last.ckpt", STATE | {"value": Evil(mark)})
    with pytest.raises(ModelError, match="cut off or no checkpoint"):
        check_whole(path)
    with pytest.raises(ModelError):
        checkpoint_weights(path)
    assert not mark.exists()


def forged(folder, change):
    contents = pickle.loads((folder / ".metadata").read_bytes())
    change(contents)
    (folder / ".metadata").write_bytes(pickle.dumps(contents))


def outside(contents):
    next(iter(contents.storage_data.values())).relative_path = "../../etc/passwd"


def immense(contents):
    contents.state_dict_metadata["state_dict.weight"].size = torch.Size([10**12, 3])


def nothing(contents):
    contents.state_dict_metadata = None


@pytest.mark.parametrize(
    ("change", "words"),
    [(outside, "reaches for"), (immense, "bytes of tensors"), (nothing, "cannot be read: ")],
)
def test_a_table_of_contents_that_lies(tmp_path, change, words):
    path = write_folder(tmp_path / "last.ckpt", STATE)
    forged(path, change)
    with pytest.raises(ModelError, match=words):
        check_whole(path)


@pytest.mark.parametrize("place", [*range(0, 2600, 200), "cut"])
def test_a_damaged_table_of_contents_is_one_line(tmp_path, place):
    path = write_folder(tmp_path / "last.ckpt", STATE)
    content = bytearray((path / ".metadata").read_bytes())
    if place == "cut":
        content = content[:100]
    else:
        content[place % len(content)] ^= 0xFF
    (path / ".metadata").write_bytes(content)
    try:
        checkpoint_weights(path)
    except ModelError as error:
        assert "\n" not in str(error)  # noqa: PT017 (it may be harmless)


@pytest.fixture
def server(tmp_path):
    """Serves a folder on this machine: (address, folder, paths that were asked for)."""
    asked, folder = [], tmp_path / "served"
    folder.mkdir()

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, format, *args):
            asked.append(self.path)

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=folder)) as served:
        threading.Thread(target=served.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{served.server_port}", folder, asked
        served.shutdown()


@pytest.mark.parametrize("verb", ["fit", "validate", "predict"])
def test_an_address_is_no_checkpoint(run, server, tmp_path, monkeypatch, verb):
    """Of one lightning reads whatever pickle it gets."""
    (_, command), (address, folder, asked) = run, server
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))
    mark = tmp_path / "ran"
    torch.save({"state_dict": {}, "evil": Evil(mark)}, folder / "evil.ckpt")
    code, line = command(verb, "--ckpt_path", f"{address}/evil.ckpt")
    assert code == 2
    assert "no checkpoint" in line
    assert "nothing is downloaded" in line
    assert not asked
    assert not mark.exists()


@pytest.mark.parametrize(
    "name",
    ["hf://a/b", "s3://a/b.ckpt", "memory://x.ckpt", "registry:x", "best", "last", "hpc", ""],
)
def test_only_a_path_on_this_disk_is_a_checkpoint(run, name):
    root, command = run
    (root / "config.yaml").write_text(HEAD + yaml.safe_dump(recipe(root) | {"ckpt_path": name}))
    code, line = command("validate")
    assert code == 2
    assert "no checkpoint" in line


def test_a_checkpoint_does_not_choose_the_module(run, tmp_path):
    """lightning's command line would build the class that the file names."""
    _, command = run
    path = tmp_path / "other.ckpt"
    name = f"{BoringModel.__module__}.BoringModel"
    kept = {"pytorch-lightning_version": pl.__version__, "epoch": 0, "global_step": 0}
    torch.save(
        {
            **kept,
            "state_dict": BoringModel().state_dict(),
            "hyper_parameters": {"_class_path": name},
        },
        path,
    )
    code, line = command("validate", "--ckpt_path", str(path))
    assert code == 2
    assert "cannot be restored" in line
    assert "AutoencoderStage" in line


def spoil(kind, path):
    kept = torch.load(path)
    if kind == "shape":
        name = next(iter(kept["state_dict"]))
        kept["state_dict"][name] = kept["state_dict"][name][:1]
    elif kind == "key":
        del kept["state_dict"]
    elif kind == "loops":
        kept["loops"] = {"fit_loop": 3}
    elif kind == "optimiser":
        kept["optimizer_states"] = [{"state": {}, "param_groups": []}]
    elif kind == "list":
        kept = [1, 2]
    elif kind == "object":
        kept["evil"] = Evil(path.parent / "ran")
    torch.save(kept, path)
    if kind == "flipped":
        content = bytearray(path.read_bytes())
        content[300:340] = bytes(b ^ 0x55 for b in content[300:340])
        path.write_bytes(content)


@pytest.mark.parametrize(
    "kind", ["shape", "key", "loops", "optimiser", "list", "object", "flipped"]
)
def test_what_cannot_be_restored_is_one_line(run, kind):
    """Without torch's advice to read it with whatever is in it."""
    root, command = run
    callback = {"class_path": "loopy.training.checkpoints.LastCheckpoint"}
    (root / "config.yaml").write_text(HEAD + yaml.safe_dump(recipe(root, callbacks=[callback])))
    assert command("fit") == (0, "")
    last = last_checkpoint(root)
    spoil(kind, last)
    code, line = command("fit", "--trainer.max_steps", "2")
    assert code == 2
    assert f"{last} cannot be restored" in line
    assert "weights_only" not in line
    assert not (last.parent / "ran").exists()


@pytest.mark.parametrize("kind", ["shape", "key", "list", "object", "flipped"])
def test_what_cannot_be_exported_is_one_line(run, tmp_path, monkeypatch, kind):
    root, command = run
    callback = {"class_path": "loopy.training.checkpoints.LastCheckpoint"}
    (root / "config.yaml").write_text(HEAD + yaml.safe_dump(recipe(root, callbacks=[callback])))
    assert command("fit") == (0, "")
    monkeypatch.chdir(root / "checkpoints")  # a name without a folder is as good as any
    assert command("export", "--ckpt", "last.ckpt", "--out", str(tmp_path / "parts")) == (0, "")
    spoil(kind, last_checkpoint(root))
    code, line = command("export", "--ckpt", "last.ckpt", "--out", str(tmp_path / "parts"))
    assert code == 2
    assert "last.ckpt" in line
    assert "weights_only" not in line
    assert not (root / "checkpoints/ran").exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no mapping"),
        (b"[1, 2]", "no mapping"),
        (b"{a: [", "no YAML"),
        (b"\xff\xfe\x00", "no YAML"),
        (b"data: {class_path: a}", "no model"),
        (b"model: null\ndata: null", "no model"),
        (b"model: {class_path: no.such.Class}\ndata: {class_path: a}", "no.such.Class"),
        (b"[" * 100_000, "no YAML"),
    ],
)
def test_a_recipe_beside_a_checkpoint_that_is_none(run, tmp_path, content, words):
    root, command = run
    last = last_checkpoint(root)
    last.parent.mkdir()
    torch.save({"state_dict": {}}, last)
    (root / "config.yaml").write_bytes(content)
    code, line = command("export", "--ckpt", str(last), "--out", str(tmp_path / "parts"))
    assert code == 2
    assert words in line
    if words != "no.such.Class":
        assert "config.yaml" in line


def test_a_local_file_is_trusted_only_where_that_is_said(run, tmp_path):
    """`--weights_only false` is the user's word for one file of this disk."""
    root, command = run
    callback = {"class_path": "loopy.training.checkpoints.LastCheckpoint"}
    (root / "config.yaml").write_text(HEAD + yaml.safe_dump(recipe(root, callbacks=[callback])))
    assert command("fit") == (0, "")
    spoil("object", last_checkpoint(root))
    assert command("validate")[0] == 2
    assert not (root / "checkpoints/ran").exists()
    assert command("validate", "--weights_only", "false") == (0, "")
    assert (root / "checkpoints/ran").exists()
