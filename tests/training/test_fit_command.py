"""What `loopy fit` and `loopy export` say and need, with data of a shot store."""

import re
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from loopy.cli import main
from loopy.data.store.shot_store import ShotStore
from loopy.data.store.shots import shot_path

pytestmark = [
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # between lightning and jsonargparse
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
]


@pytest.fixture
def run(clip_recipe, make_store, make_pipeline, tmp_path):
    """`loopy fit` for two steps: (options); its store, and the folder of the run."""
    make_pipeline().save_pretrained(tmp_path / "parts")
    store = make_store(tmp_path / "store", [str(number) for number in range(8)])
    recipe = clip_recipe(store, tmp_path / "parts")
    last = {"class_path": "loopy.training.checkpoints.LastCheckpoint", "init_args": {"every": 2}}
    recipe["trainer"]["callbacks"].append(last)
    recipe["trainer"] |= {"max_steps": 2, "limit_val_batches": 0, "enable_model_summary": False}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    folder = tmp_path / "run"

    def fit(*options):
        words = ["fit", "--config", str(tmp_path / "recipe.yaml")]
        return main([*words, f"--trainer.default_root_dir={folder}", *options])

    return fit, Path(store), folder


def said(capsys):
    """The one line that is an error."""
    (line,) = (x for x in capsys.readouterr().err.splitlines() if x.startswith("loopy: error: "))
    return line.removeprefix("loopy: error: ")


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--data.store=/no/where", "/no/where/store.json: there is no shot store"),
        ("--data.batch_size=90", "and a step takes 90"),
        ("--model.parts=/no/parts", "/no/parts"),
        ("--model.init_from=/no/where", "train and export the image stage first"),
    ],
)
def test_an_error_of_data_or_model_is_one_line(run, capsys, option, words):
    """Found as the parts are built, or before the first step; nothing has been trained."""
    fit, _, folder = run
    assert fit(option) == 2
    assert words in said(capsys)
    assert not (folder / "checkpoints").exists()


def test_a_users_config_is_not_replaced(run, capsys):
    fit, _, folder = run
    folder.mkdir()
    (folder / "config.yaml").write_text("mine: 1\n")
    assert fit() == 2
    assert "config.yaml would be replaced" in said(capsys)
    assert (folder / "config.yaml").read_text() == "mine: 1\n"
    (folder / "config.yaml").unlink()
    assert fit() == fit("--trainer.max_steps=3") == 0  # its own may be replaced


def test_an_error_of_a_worker_is_one_line(run, capsys):
    fit, store, _ = run
    opened = ShotStore.open(store)
    for row in range(len(opened)):
        (store / shot_path(opened.index.id(row))).write_bytes(b"")
    assert fit("--data.workers=1") == 2
    line = said(capsys)
    assert line.startswith(f"{store}/clips/")
    assert "skip_damaged (now 0)" in line


def test_folders_to_start_from_are_read_once(run, tmp_path, capfd):
    """A list of them; a run that goes on, and an export, need none."""
    fit, _, folder = run
    shutil.copytree(tmp_path / "parts", tmp_path / "image")
    begun = f"--model.init_from=[{tmp_path}/parts,{tmp_path}/image]"
    assert fit(begun, "--model.learning_rate=0", "--model.self_generated_history=0") == 0
    assert re.search(r"denoiser +\d+ +0 +0\n", capfd.readouterr().out)
    kept = yaml.safe_load((folder / "config.yaml").read_text())["model"]["init_args"]
    assert kept["init_from"] == [f"{tmp_path}/parts", f"{tmp_path}/image"]
    shutil.rmtree(tmp_path / "image")
    assert (
        fit(
            begun,
            "--model.learning_rate=0",
            "--model.self_generated_history=0",
            "--trainer.max_steps=3",
        )
        == 0
    )
    assert "denoiser" not in capfd.readouterr().out
    last = folder / "checkpoints" / "last.ckpt"
    assert main(["export", "--ckpt", str(last), "--out", str(tmp_path / "model")]) == 0
    part = "denoiser/diffusion_pytorch_model.safetensors"
    given, got = load_file(tmp_path / "parts" / part), load_file(tmp_path / "model" / part)
    assert all(torch.equal(given[name].half(), got[name]) for name in given)


def test_a_model_to_train_on_keeps_its_precision(run, tmp_path, capsys):
    """It is exported where the store is not."""
    fit, store, folder = run
    assert fit() == 0
    shutil.rmtree(store)
    checkpoint = folder / "checkpoints" / "last.ckpt"
    words = ["export", "--ckpt", str(checkpoint), "--out"]
    assert main([*words, str(tmp_path / "whole"), "--dtype", "float32"]) == 0
    part = "denoiser/diffusion_pytorch_model.safetensors"
    exported = load_file(tmp_path / "whole" / part)
    stored = torch.load(checkpoint)
    averages = stored["moving_average"]["averages"]
    weights = stored["state_dict"] | averages
    assert all(torch.equal(v, weights[f"network.denoiser.{k}"]) for k, v in exported.items())
    name = "network.denoiser.conv_out.weight"
    for weight, complaint in ((1e6, "--dtype float32"), (float("nan"), "not finite")):
        averages[name].fill_(weight)
        torch.save(stored, checkpoint)
        assert main([*words, str(tmp_path / "half")]) == 2
        assert complaint in said(capsys)
        assert not (tmp_path / "half").exists()
