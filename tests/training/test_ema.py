"""Averaged weights and sheets of samples."""

import lightning.pytorch as pl
import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader

from loopy.training.checkpoint_files import AVERAGE
from loopy.training.ema import MovingAverage
from loopy.training.samples import ValidationSamples

DECAY, STEPS = 0.5, 4


class Ramp(pl.LightningModule):
    """A weight that rises by one each step, beside one that is never trained."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.frozen = nn.Parameter(torch.full((), 7.0), requires_grad=False)
        self.validated = []
        self.drawn_in_half = False

    def training_step(self, batch, batch_idx):
        return -self.weight

    def validation_step(self, batch, batch_idx):
        self.validated.append(float(self.weight))

    def configure_optimizers(self):
        return torch.optim.SGD([self.weight], 1.0)

    def sample_sheet(self):
        self.drawn_in_half = torch.is_autocast_enabled("cpu")
        return Image.new("L", (int(100 * self.weight) + 1, 1))


def averages():
    """By the formula: a young average follows fast."""
    average = 0.0
    for n in range(1, STEPS + 1):
        decay = min(DECAY, (1 + n) / (10 + n))
        average = decay * average + (1 - decay) * n
        yield average


def train(module, tmp_path, precision="32-true"):
    trainer = pl.Trainer(
        accelerator="cpu",
        max_steps=STEPS,
        precision=precision,
        default_root_dir=tmp_path,
        val_check_interval=2,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[ValidationSamples(), MovingAverage(DECAY)],
    )
    trainer.fit(module, DataLoader(range(STEPS)), DataLoader(range(1)))
    return module, trainer


@pytest.fixture
def trained(tmp_path):
    return train(Ramp(), tmp_path)


def test_validation_sees_the_average(trained):
    module, _ = trained
    assert module.validated == pytest.approx(list(averages())[1::2])


def test_training_goes_on_with_the_trained_weights(trained):
    module, _ = trained
    assert module.weight == STEPS
    assert module.frozen == 7


def test_a_checkpoint_holds_both(trained, tmp_path):
    _, trainer = trained
    trainer.save_checkpoint(tmp_path / "x.ckpt")
    checkpoint = torch.load(tmp_path / "x.ckpt")
    assert checkpoint["state_dict"]["weight"] == STEPS
    assert set(checkpoint[AVERAGE]["averages"]) == {"weight"}
    assert checkpoint[AVERAGE]["averages"]["weight"] == pytest.approx(list(averages())[-1])


def test_sheets_are_drawn_with_the_average_whatever_the_order(trained, tmp_path):
    widths = []
    for path in sorted((tmp_path / "samples").iterdir()):
        with Image.open(path) as sheet:
            widths.append(sheet.width)
    assert widths == [int(100 * average) + 1 for average in list(averages())[1::2]]


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_sheets_are_drawn_in_the_precision_of_the_training(tmp_path, precision):
    module, _ = train(Ramp(), tmp_path, precision)
    assert module.drawn_in_half == (precision == "bf16-mixed")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_average_and_weights_come_back_to_the_bit(dtype):
    """An average of float32 beside weights of lower precision is not rounded."""
    module = Ramp().to(dtype)
    average = MovingAverage()
    average.averages = {"weight": torch.tensor(1 + 2**-20)}
    average.on_validation_start(None, module)
    assert module.weight == torch.tensor(1 + 2**-20, dtype=dtype)
    average.on_validation_end(None, module)
    assert module.weight == 0
    assert average.averages["weight"] == 1 + 2**-20
