"""Where a run goes on after it was killed: one file, whole at any moment."""

import os
import zipfile
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Checkpoint

from loopy.errors import ModelError


def last_checkpoint(run: Path) -> Path:
    """Where the last checkpoint of a run is, by the folder of the run."""
    return run / "checkpoints" / "last.ckpt"


def check_whole(path: Path) -> None:
    """Makes sure that a checkpoint is not cut off, without reading all of it.

    Raises:
        ModelError: It is.
    """
    if not zipfile.is_zipfile(path):  # torch's format ends with a zip file's table of contents
        raise ModelError(
            f"the checkpoint {path} is cut off or no checkpoint; give another one by --ckpt_path, "
            "or delete it to start anew"
        )


class LastCheckpoint(Checkpoint):
    """Keeps `checkpoints/last.ckpt` in the folder of the run, in place of ModelCheckpoint.

    Killed at any moment and started again, a run ends as if it had not been killed. Three habits
    of lightning's own callback stand against that: it moves a file from the folder for temporary
    files, which on another disk is a copy that a kill cuts off; in a step with a validation it
    saves before that, and a resumed run does not make up for it; and a run begun anew beside
    an old last.ckpt writes last-v1.ckpt, so that the next start goes on with the old one.

    Args:
        every: Steps between two checkpoints; the last step has one in any case.
    """

    def __init__(self, every: int = 100) -> None:
        self.every = every
        self._saved_step = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Knows what the checkpoint that the run goes on from holds."""
        self._saved_step = trainer.global_step

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Saves, unless a validation is about to follow in this step."""
        if not _validates(trainer, batch_idx):
            self._save(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Saves, once all that belongs to this step is written."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._save(trainer)

    def _save(self, trainer: pl.Trainer) -> None:
        step = trainer.global_step
        due = step % self.every == 0 or step == trainer.max_steps
        if not due or step == self._saved_step:
            return
        self._saved_step = step
        path = last_checkpoint(Path(trainer.default_root_dir))
        hidden = path.with_name(f".{path.name}")
        trainer.save_checkpoint(hidden)  # by all ranks; the first one writes
        if trainer.is_global_zero:
            with hidden.open("rb") as file:
                os.fsync(file.fileno())
            os.replace(hidden, path)


def _validates(trainer: pl.Trainer, batch_idx: int) -> bool:
    """Whether lightning validates behind this batch."""
    epochs, batches = trainer.check_val_every_n_epoch or 1, trainer.val_check_batch
    return bool(
        trainer.enable_validation
        and sum(trainer.num_val_batches)
        and (trainer.current_epoch + 1) % epochs == 0
        and batches
        and (batch_idx + 1) % batches == 0
    )
