"""What somebody sees who types `loopy`."""

import logging
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from time import perf_counter

import pytest
from safetensors.torch import load_file

from loopy.cli import VERBS, main

ROOT = Path(__file__).parents[1]
HEAVY = ("torch", "lightning", "diffusers", "transformers", "jsonargparse")

TOY = [
    "--trainer.max_steps=2",
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
    "--data.size_px=32",
    "--data.batch_size=2",
    "--data.validation_batches=1",
    "--model.network.init_args.widths=[8,16]",
    "--model.network.init_args.latent_channels=4",
]


def test_help_names_every_verb_and_loads_nothing_heavy():
    start = perf_counter()
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "loopy", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    seconds = perf_counter() - start
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert not loaded & set(HEAVY)
    assert seconds < 1
    for name, verb in VERBS.items():
        assert f"  {name}\n" in done.stdout
        assert verb.sentence in done.stdout
        assert verb.example in done.stdout


@pytest.mark.parametrize("name", VERBS)
def test_each_verb_has_one_sentence_and_its_own_example(name):
    sentence = VERBS[name].sentence
    assert sentence.endswith(".")
    assert sentence.count(".") == 1
    assert VERBS[name].example.startswith(f"loopy {name} ")


def test_no_verb_is_help(capsys):
    assert main([]) == 0
    assert capsys.readouterr().out.startswith("loopy: ")


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["sing"], "no verb 'sing'; the verbs are "),
        (["fit", "--config", "configs/none.yaml"], "no recipe 'configs/none.yaml'"),
        (["export", "--ckpt", "no/checkpoints/last.ckpt", "--out", "x"], "no file no/"),
        (["export"], "the following arguments are required: ckpt, out; see loopy export"),
        (["export", "--ckpt", "a", "--out", "b", "--dtype", "8"], 'Parser key "dtype"'),
        (["evaluate", "celebvhq"], "loopy evaluate has no 'celebvhq'; give toon, "),
    ],
)
def test_an_error_is_one_line_and_code_2(words, part, capsys):
    assert main(words) == 2
    answer = capsys.readouterr()
    assert answer.out == ""
    assert answer.err.startswith(f"loopy: error: {part}")
    assert answer.err.count("\n") == 1


@pytest.mark.parametrize(
    ("given", "expected"),
    [({}, "0"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "active"}, None)],
)
def test_threads_that_wait_leave_the_core_unless_it_is_said(given, expected, monkeypatch):
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.setenv(name, "")  # taken back behind the test
        monkeypatch.delenv(name)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert main(["no-such-verb"]) == 2
    assert os.environ.get("GOMP_SPINCOUNT") == expected


def test_the_script_hands_on_the_code():
    done = subprocess.run([sys.executable, "-m", "loopy", "sing"], capture_output=True, check=False)
    assert done.returncode == 2


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # between lightning and jsonargparse
def test_fit_resumes_by_itself_and_exports(tmp_path, caplog, monkeypatch):
    logger = logging.getLogger("lightning.pytorch")
    monkeypatch.setattr(logger, "handlers", [caplog.handler])
    monkeypatch.setattr(logger, "level", logging.INFO)
    fit = ["fit", "--config", "toon/vae.yaml", f"--trainer.default_root_dir={tmp_path}", *TOY]
    assert main(fit) == 0
    assert main([*fit, "--trainer.max_steps=4"]) == 0
    assert "Restored all states from the checkpoint" in caplog.text
    last = tmp_path / "checkpoints" / "last.ckpt"
    assert main(["export", "--ckpt", str(last), "--out", str(tmp_path / "model")]) == 0
    part = tmp_path / "model" / "vae"
    assert (part / "config.json").is_file()
    assert load_file(part / "diffusion_pytorch_model.safetensors")


@pytest.mark.skipif(sys.platform == "win32", reason="pipes there end otherwise")
def test_an_output_that_nobody_reads_ends_quietly():
    """As in `loopy --help | head -0`."""
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "loopy", "--help"],
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, "")


def test_a_damaged_checkpoint_is_one_line(tmp_path, capsys):
    checkpoints = tmp_path / "checkpoints"
    checkpoints.mkdir()
    shutil.copy(ROOT / "configs/toon/vae.yaml", tmp_path / "config.yaml")
    (checkpoints / "last.ckpt").write_bytes(b"not a checkpoint")
    words = ["export", "--ckpt", str(checkpoints / "last.ckpt"), "--out", str(tmp_path / "out")]
    assert main(words) == 2
    said = capsys.readouterr().err.strip()
    assert "last.ckpt (it is damaged, or holds more than tensors and plain values)" in said
    assert "Traceback" not in said
    assert not (tmp_path / "out").exists()
