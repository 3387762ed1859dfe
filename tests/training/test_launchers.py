"""The scripts that start many ranks."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from loopy.cli import main
from loopy.pipeline import LoopyPipeline
from loopy.training.checkpoint_files import check_whole, last_checkpoint
from loopy.training.loss_plot import read_rows

ROOT = Path(__file__).parents[2]
STEPS = 400
OVERLAY = yaml.safe_load((ROOT / "configs/sd15/fsdp2.yaml").read_text())


@pytest.fixture
def launch(make_store, make_pipeline, clip_recipe, tmp_path):
    """Starts the launcher with two ranks of FSDP2, always by the same command."""
    make_pipeline().save_pretrained(tmp_path / "parts")
    names = [str(number) for number in range(12)]
    store = make_store(tmp_path / "store", names, noise=True)
    recipe = clip_recipe(store, tmp_path / "parts")
    recipe["trainer"] |= OVERLAY["trainer"] | {"use_distributed_sampler": False}
    recipe["trainer"]["strategy"]["init_args"]["data_parallel_size"] = 2
    recipe["trainer"] |= {"max_steps": STEPS, "val_check_interval": STEPS}
    recipe["trainer"]["default_root_dir"] = str(tmp_path / "run")
    recipe["data"]["init_args"]["batch_size"] = 1
    recipe["trainer"]["precision"] = "bf16-mixed"
    recipe["trainer"]["callbacks"] += [
        {"class_path": "loopy.training.samples.ValidationSamples"},
        {"class_path": "loopy.training.checkpoints.LastCheckpoint", "init_args": {"every": 1000}},
    ]
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))

    def start(*options):
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        with (tmp_path / "log").open("a") as log:
            return subprocess.Popen(
                [
                    *("bash", str(ROOT / "examples/launch_torchrun.sh")),
                    *("--config", str(tmp_path / "recipe.yaml"), *options),
                ],
                env=os.environ | {"GPUS": "2", "PATH": path, "OMP_NUM_THREADS": "1"},
                stdout=log,
                stderr=log,
            )

    return start


def reached(run):
    return max((step for step, _, _ in read_rows(run / "losses.csv")), default=0)


def wait_for(condition, process, log):
    until = time.monotonic() + 600
    while not condition():
        assert process.poll() is None, log.read_text()[-3000:]
        assert time.monotonic() < until
        time.sleep(0.1)


@pytest.mark.slow
def test_torchrun_is_stopped_goes_on_and_is_exported(launch, tmp_path):
    run, log = tmp_path / "run", tmp_path / "log"
    process = launch()
    wait_for(lambda: reached(run) >= 2, process, log)
    process.send_signal(signal.SIGTERM)  # torchrun hands it on
    assert process.wait(120) != 0
    last = last_checkpoint(run)
    check_whole(last)  # in spite of every: 1000
    stopped = reached(run)
    assert 2 <= stopped < STEPS
    steps = f"--trainer.max_steps={stopped + 2}"
    process = launch(steps, f"--trainer.val_check_interval={stopped + 2}")
    assert process.wait(600) == 0, log.read_text()[-3000:]
    rows = [step for step, name, _ in read_rows(run / "losses.csv") if name == "loss"]
    assert rows == list(range(1, stopped + 3))
    names = sorted(path.name for path in (run / "samples").iterdir())
    assert names == [f"step_{stopped + 2:06d}.mp4", f"step_{stopped + 2:06d}.png"]  # of all ranks
    assert main(["export", "--ckpt", str(last), "--out", str(tmp_path / "model")]) == 0
    LoopyPipeline.from_pretrained(tmp_path / "model")
