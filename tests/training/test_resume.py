"""Killed and resumed = not killed: same losses and same averages from the last checkpoint on."""

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from loopy.errors import ConfigurationError
from loopy.training.autoencoder import AutoencoderStage, small_autoencoder
from loopy.training.callbacks import AVERAGE, MovingAverage
from loopy.training.faces import SyntheticFaces
from loopy.training.loss_plot import LossPlot, read_rows

pytestmark = pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists")

STEPS, CHECKPOINT, KILL = 6, 4, 5


class Kill(pl.Callback):
    """Stops the process' work in the middle of a step, as a power cut would."""

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        if trainer.global_step == KILL:
            raise ConnectionAbortedError


def trainer(folder, *more):
    return pl.Trainer(
        accelerator="cpu",
        max_steps=STEPS,
        default_root_dir=folder,
        gradient_clip_val=1.0,
        val_check_interval=3,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[
            MovingAverage(0.9),
            LossPlot(every=1),
            ModelCheckpoint(every_n_train_steps=2, save_last=True),
            *more,
        ],
    )


def stage(seed=0):
    torch.manual_seed(seed)
    network = small_autoencoder(widths=(8, 16), latent_channels=4, groups=4, size_px=32)
    return AutoencoderStage(network, warmup_steps=2)


def faces(batch_size=2):
    return SyntheticFaces(size_px=32, batch_size=batch_size, validation_batches=1)


def last(folder):
    return folder / "checkpoints" / "last.ckpt"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run that was never stopped, and one that was killed in step 6 and resumed from step 4."""
    whole, killed = (tmp_path_factory.mktemp(name) for name in ("whole", "killed"))
    trainer(whole).fit(stage(), datamodule=faces())
    with pytest.raises(ConnectionAbortedError):
        trainer(killed, Kill()).fit(stage(), datamodule=faces())
    assert torch.load(last(killed))["global_step"] == CHECKPOINT
    # other weights at first: all must come from the checkpoint
    trainer(killed).fit(stage(seed=1), datamodule=faces(), ckpt_path=last(killed))
    return whole, killed


def test_losses_are_the_same(runs):
    whole, killed = (read_rows(folder / "losses.csv") for folder in runs)
    assert whole == killed
    assert {step for step, name, _ in whole if name == "loss"} == set(range(1, STEPS + 1))
    assert {step for step, name, _ in whole if name == "val/psnr"} == {3, 6}


def test_weights_and_averages_are_the_same(runs):
    whole, killed = (torch.load(last(folder)) for folder in runs)
    assert whole["global_step"] == killed["global_step"] == STEPS
    torch.testing.assert_close(whole["state_dict"], killed["state_dict"], rtol=0, atol=0)
    averages = [run[AVERAGE]["averages"] for run in (whole, killed)]
    torch.testing.assert_close(*averages, rtol=0, atol=0)
    assert not all(
        torch.equal(average, whole["state_dict"][name]) for name, average in averages[0].items()
    )


def test_a_finished_run_stays_finished(runs):
    whole, _ = runs
    before = read_rows(whole / "losses.csv")
    trainer(whole).fit(stage(), datamodule=faces(), ckpt_path=last(whole))
    assert read_rows(whole / "losses.csv") == before


def test_the_plot_is_drawn(runs):
    assert (runs[0] / "losses.png").stat().st_size > 1000


def test_other_batches_are_refused(runs):
    with pytest.raises(ConfigurationError, match="batch_size"):
        trainer(runs[0]).fit(stage(), datamodule=faces(batch_size=3), ckpt_path=last(runs[0]))
