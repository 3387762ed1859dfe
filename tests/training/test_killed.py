"""`loopy fit` killed by `kill -9` ends like a run that nobody touched."""

import os
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import pytest
import torch
import yaml

from loopy.cli import main
from loopy.randomness import generator
from loopy.training.checkpoint_files import AVERAGE
from loopy.training.checkpoints import last_checkpoint
from loopy.training.loss_plot import read_rows

STEPS, VALIDATION, CHECKPOINT, KILLS = 48, 8, 2, 5


@pytest.fixture
def start(make_store, make_pipeline, clip_recipe, tmp_path):
    """Starts `loopy fit` for a folder of a run, always by the same command."""
    make_pipeline().save_pretrained(tmp_path / "parts")
    names = [str(number) for number in range(12)]
    store = make_store(tmp_path / "store", names, noise=True)
    recipe = clip_recipe(store, tmp_path / "parts")
    recipe["trainer"] |= {"max_steps": STEPS, "val_check_interval": VALIDATION}
    recipe["trainer"]["callbacks"].append(
        {
            "class_path": "loopy.training.checkpoints.LastCheckpoint",
            "init_args": {"every": CHECKPOINT},
        }
    )
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))

    def begin(run):
        run.mkdir(exist_ok=True)
        with (run.with_suffix(".log")).open("a") as log:
            return subprocess.Popen(
                [
                    *(sys.executable, "-m", "loopy", "fit"),
                    *("--config", str(tmp_path / "recipe.yaml")),
                    f"--trainer.default_root_dir={run}",
                ],
                env=os.environ | {"OMP_NUM_THREADS": "1"},
                stdout=log,
                stderr=log,
            )

    return begin


def finish(process, run):
    assert process.wait(600) == 0, run.with_suffix(".log").read_text()[-2000:]


def reached(run):
    return max((step for step, _, _ in read_rows(run / "losses.csv")), default=0)


def visible(run):
    paths = sorted(path.relative_to(run) for path in run.rglob("*"))
    return [path for path in paths if not path.name.startswith(".")]


@pytest.mark.slow
def test_killed_five_times_the_run_is_the_same(start, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    finish(start(whole), whole)
    draw = generator("moments")
    for number in range(KILLS):
        process, begun_at = start(killed), reached(killed)
        sooner, later = torch.rand(2, generator=draw).tolist()
        if number % 5 == 4:  # while it starts, or reads the checkpoint
            time.sleep(5 * later)
        else:
            while reached(killed) <= begun_at - CHECKPOINT + 8 * sooner and process.poll() is None:
                time.sleep(0.002)
            time.sleep(0.3 * later)
        assert process.poll() is None, killed.with_suffix(".log").read_text()[-2000:]
        process.kill()
        process.wait()
        if last_checkpoint(killed).exists():
            torch.load(last_checkpoint(killed))  # whole at any moment
    assert reached(killed) < STEPS
    finish(start(killed), killed)
    assert visible(whole) == visible(killed)
    for name in ("losses.csv", "losses.png"):
        assert (whole / name).read_bytes() == (killed / name).read_bytes()
    one, other = (torch.load(last_checkpoint(run)) for run in (whole, killed))
    assert one["global_step"] == other["global_step"] == STEPS
    for name in ("state_dict", AVERAGE, "optimizer_states", "lr_schedulers"):
        torch.testing.assert_close(one[name], other[name], rtol=0, atol=0)


LARGE = """
import sys
import lightning.pytorch as pl, torch
from torch.utils.data import DataLoader
from loopy.training.checkpoints import LastCheckpoint

class Large(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.register_buffer("ballast", torch.zeros(2**26))  # 256 MB

    def training_step(self, batch, batch_idx):
        return self.weight

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 1.0)

pl.Trainer(
    accelerator="cpu", max_steps=100, default_root_dir=sys.argv[1], logger=False,
    enable_progress_bar=False, callbacks=[LastCheckpoint(1)],
).fit(Large(), DataLoader(range(100)))
"""
OTHER_DISK = Path("/dev/shm")


@pytest.mark.slow
@pytest.mark.skipif(not OTHER_DISK.is_dir(), reason="needs a second file system")
def test_a_checkpoint_is_never_cut_off(tmp_path):
    """Temporary files are on another disk, and the kill comes while they are copied over."""
    last = last_checkpoint(tmp_path)
    command = [sys.executable, "-W", "ignore", "-c", LARGE, str(tmp_path)]
    with tempfile.TemporaryDirectory(dir=OTHER_DISK) as temporary:
        environment = os.environ | {"TMPDIR": temporary, "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
        try:
            while not last.exists():
                assert process.poll() is None
                time.sleep(0.001)
            whole = last.stat().st_size
            while _sizes(last) <= {0, whole}:
                assert process.poll() is None
                time.sleep(0.0005)
        finally:
            process.kill()
            process.wait()
    assert zipfile.is_zipfile(last)
    assert torch.load(last)["global_step"] >= 1


def _sizes(last):
    return {path.stat().st_size for path in last.parent.iterdir()}


def test_a_checkpoint_that_is_cut_off_is_one_line(tmp_path, capsys):
    """By a full disk, or a copy from elsewhere; it is neither taken nor silently left aside."""
    last = last_checkpoint(tmp_path)
    last.parent.mkdir()
    torch.save({"global_step": 1, "state_dict": {"x": torch.zeros(1000)}}, last)
    last.write_bytes(last.read_bytes()[:-1000])
    fit = ["fit", "--config", "toon/vae.yaml", f"--trainer.default_root_dir={tmp_path}"]
    assert main(fit) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert f"{last} is cut off" in said
    assert "delete it" in said
