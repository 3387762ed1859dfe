"""Logged numbers as a table (losses.csv) and as a picture (losses.png) that grow with a run.

Lightning's CSVLogger deletes its file when a run is resumed.
"""

import csv
from collections import defaultdict
from pathlib import Path
from typing import Any

import lightning.pytorch as pl

from loopy.drafts import writing
from loopy.errors import DependencyError

Row = tuple[int, str, float]


def read_rows(table: Path) -> list[Row]:
    """Step, name and value of every number so far; a last line that was cut off is left out."""
    lines = table.read_text().splitlines(keepends=True) if table.exists() else []
    whole = [line for line in lines if line.endswith("\n")]
    return [(int(step), name, float(value)) for step, name, value in csv.reader(whole)]


def append_rows(table: Path, rows: list[Row]) -> None:
    """Adds rows at the end."""
    with table.open("a", newline="") as file:
        csv.writer(file).writerows((step, name, f"{value:.9g}") for step, name, value in rows)


def plot_losses(table: Path) -> None:
    """One panel for each name, beside the table; nothing while the table is empty."""
    curves: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for step, name, value in read_rows(table):
        curves[name].append((step, value))
    if not curves:
        return
    figure = _figure_class()(figsize=(9, 2 * len(curves) + 0.5), layout="constrained")
    panels = figure.subplots(len(curves), 1, squeeze=False, sharex=True)[:, 0]
    for panel, (name, curve) in zip(panels, curves.items(), strict=True):
        panel.plot(*zip(*curve, strict=True))
        panel.set_ylabel(name)
        if name.startswith("loss"):
            panel.set_yscale("log")
    panels[-1].set_xlabel("step")
    with writing(table.with_suffix(".png")) as hidden:
        figure.savefig(hidden, dpi=80)


class LossPlot(pl.Callback):
    """Writes every logged number to losses.csv and draws losses.png, in the run's folder.

    Held-out numbers are those whose name begins with "val/". Each has one row a step, however many
    batches and validations a step has. A resumed run keeps the rows up to its checkpoint.

    Args:
        every: Steps between two rows of training numbers.
    """

    def __init__(self, every: int = 10) -> None:
        self.every = every
        self._written: dict[str, int] = {}
        """The last step of each name in the table."""

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Looks for matplotlib before the first step, not at the first plot."""
        _figure_class()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Drops the rows that will be written again."""
        if trainer.is_global_zero:
            table = _table(trainer)
            table.parent.mkdir(parents=True, exist_ok=True)
            kept = [row for row in read_rows(table) if row[0] <= trainer.global_step]
            with writing(table) as hidden:
                append_rows(hidden, kept)
            self._written = {name: step for step, name, _ in kept}

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any, **__: Any
    ) -> None:
        """Adds the training numbers."""
        if trainer.is_global_zero and trainer.global_step % self.every == 0:
            self._append(trainer, held_out=False)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Adds the held-out numbers and draws."""
        if trainer.is_global_zero and trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._append(trainer, held_out=True)
            plot_losses(_table(trainer))

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draws the whole run, also where it was killed behind its last step."""
        if trainer.is_global_zero:
            plot_losses(_table(trainer))

    def _append(self, trainer: pl.Trainer, *, held_out: bool) -> None:
        step = trainer.global_step
        rows = [
            (step, name, float(value))
            for name, value in trainer.callback_metrics.items()
            if name.startswith("val/") == held_out and step > self._written.get(name, 0)
        ]
        append_rows(_table(trainer), rows)
        self._written |= dict.fromkeys((name for _, name, _ in rows), step)


def _figure_class() -> type[Any]:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise DependencyError(
            "the loss plot needs matplotlib; run: pip install loopy-portrait[notebooks]"
        ) from error
    return Figure


def _table(trainer: pl.Trainer) -> Path:
    return Path(trainer.default_root_dir) / "losses.csv"
