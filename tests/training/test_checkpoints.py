"""A run whose weights are no longer numbers keeps the checkpoint that it has."""

import lightning.pytorch as pl
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from loopy.errors import ModelError
from loopy.training.checkpoint_files import last_checkpoint
from loopy.training.checkpoints import LastCheckpoint


class Diverging(pl.LightningModule):
    """Its loss is no number in one step."""

    def __init__(self, step):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.frozen = nn.Parameter(torch.full((), torch.inf), requires_grad=False)
        self.step = step

    def training_step(self, batch, batch_idx):
        return self.weight * (torch.nan if self.global_step + 1 == self.step else 1.0)

    def configure_optimizers(self):
        return torch.optim.SGD([self.weight], 0.1)


def fit(folder, step):
    pl.Trainer(
        accelerator="cpu",
        max_steps=6,
        default_root_dir=folder,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[LastCheckpoint(2)],
    ).fit(Diverging(step), DataLoader(range(6)))


def test_weights_that_are_not_finite_are_not_saved(tmp_path):
    last = last_checkpoint(tmp_path)
    with pytest.raises(ModelError, match=rf"not finite at step 4; {last} of step 2 is whole"):
        fit(tmp_path, 3)
    kept = torch.load(last)
    assert kept["global_step"] == 2
    assert kept["state_dict"]["weight"] == pytest.approx(0.8)


def test_there_may_be_no_checkpoint_yet(tmp_path):
    with pytest.raises(ModelError, match="at step 2; there is no checkpoint yet"):
        fit(tmp_path, 1)
    assert not last_checkpoint(tmp_path).exists()
