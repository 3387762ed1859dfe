"""What a run that cannot draw is told, and when."""

import sys

import lightning.pytorch as pl
import pytest
from lightning.pytorch.demos.boring_classes import BoringModel

from loopy.errors import DependencyError
from loopy.training.loss_plot import LossPlot


def test_without_matplotlib_it_ends_before_the_first_step(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    trainer = pl.Trainer(
        accelerator="cpu",
        max_steps=1,
        default_root_dir=tmp_path,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[LossPlot()],
    )
    with pytest.raises(DependencyError, match=r"loopy-portrait\[notebooks\]"):
        trainer.fit(BoringModel())
    assert trainer.global_step == 0
    assert not (tmp_path / "losses.csv").exists()
