"""Both stages at quarter widths, some steps by one process, by DDP and by FSDP2."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from loopy.training.checkpoint_files import checkpoint_weights, last_checkpoint
from loopy.training.loss_plot import read_rows
from tests.training.test_two_stages import begun, store  # noqa: F401 (fixtures)

ROOT = Path(__file__).parents[2]
STEPS, RATE = 8, 1e-5
OVERLAYS = {"image": "quarter_image", "clip": "quarter"}


def fit(stage, name, run, *options):
    """Trains two clips a step; returns the losses."""
    configs = [f"configs/sd15/{stage}.yaml", f"configs/sd15/{OVERLAYS[stage]}.yaml"]
    start = [sys.executable, "-m", "loopy", "fit"]
    strategy = []
    if name != "one":
        start = ["bash", str(ROOT / "examples/launch_torchrun.sh")]
        strategy = ["--trainer.strategy=ddp"]
    if name == "fsdp2":
        configs.append("configs/sd15/fsdp2.yaml")
        strategy = ["--trainer.strategy.init_args.data_parallel_size=2"]
    words = [word for config in configs for word in ("--config", str(ROOT / config))]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    subprocess.run(
        [
            *(*start, *words, *strategy, *options),
            f"--data.batch_size={2 if name == 'one' else 1}",
            *("--data.workers=0", "--model.warmup_steps=0", f"--model.learning_rate={RATE}"),
            *("--trainer.precision=32-true", f"--trainer.max_steps={STEPS}"),
            *("--trainer.limit_val_batches=0", f"--trainer.default_root_dir={run}"),
        ],
        env=os.environ | {"GPUS": "2", "PATH": path, "OMP_NUM_THREADS": "1"},
        check=True,
    )
    table = read_rows(run / "losses.csv")
    return [value for _, logged, value in table if logged == "loss"]


@pytest.mark.slow
@pytest.mark.parametrize("stage", OVERLAYS)
def test_every_strategy_takes_the_same_steps(store, begun, tmp_path, stage):  # noqa: F811
    found = {}
    for name in ("one", "ddp", "fsdp2"):
        options = (f"--data.store={store}", f"--model.parts={begun}", f"--model.init_from={begun}")
        found[name] = fit(stage, name, tmp_path / name, *options)
        print(stage, name, found[name])
    assert found["one"]
    one = checkpoint_weights(last_checkpoint(tmp_path / "one"))
    for name in ("ddp", "fsdp2"):
        assert found[name] == pytest.approx(found["one"], rel=1e-4)
        two = checkpoint_weights(last_checkpoint(tmp_path / name))
        assert max(float((one[key] - two[key]).abs().max()) for key in one) < 0.1 * RATE * STEPS
