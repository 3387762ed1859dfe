"""Where a run goes on after it was killed or asked to stop."""

import signal
from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.utilities import rank_zero_info
from torch import nn
from torch.distributed.tensor import DTensor

from loopy.errors import ConfigurationError, ModelError
from loopy.stopping import StopSignals
from loopy.training.checkpoint_files import last_checkpoint, write_checkpoint


class LastCheckpoint(Checkpoint):
    """Keeps `checkpoints/last.ckpt` in the folder of the run, in place of ModelCheckpoint.

    Killed at any moment and started again, a run ends as if it had not been killed. Three habits
    of lightning's own callback stand against that: it moves a file from the folder for temporary
    files, which on another disk is a copy that a kill cuts off; in a step with a validation it
    saves before that, and a resumed run does not make up for it; and a run begun anew beside
    an old last.ckpt writes last-v1.ckpt, so that the next start goes on with the old one.

    Asked to stop by a signal (`loopy.stopping`) that any rank gets, all ranks end a step
    and its validation, save, and leave with exit code 128 + number of the signal.

    Weights that are not finite on any rank are never saved: the run ends there (ModelError).

    Args:
        every: Steps between two checkpoints; the last step has one in any case.
        ask_every: Steps between two questions whether any rank was asked to stop: each makes
            all devices wait. A run of one rank asks itself in every step.
    """

    def __init__(self, every: int = 100, ask_every: int = 2) -> None:
        self.every, self.ask_every = every, ask_every
        self.signals = StopSignals()
        self._saved_step = 0
        self._mid_step = False
        self._stopping = 0

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Makes sure that all ranks have read a checkpoint, or none (FSDP2 reads it later)."""
        self._check_same(trainer, int(trainer.ckpt_path is not None))

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Makes sure that all ranks go on from the same step."""
        self._check_same(trainer, trainer.global_step)
        self._saved_step = trainer.global_step
        self.signals.watch()

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Leaves, when all that belongs to the last step is written."""
        if self._stopping:
            name = signal.Signals(self._stopping).name
            rank_zero_info(f"{name}: stopped after step {trainer.global_step}; it can be resumed")
            raise SystemExit(128 + self._stopping)

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Saves, unless a validation is about to follow in this step."""
        self._mid_step = (batch_idx + 1) % trainer.accumulate_grad_batches > 0
        if not _validates(trainer, batch_idx):
            self._save(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Saves, once all that belongs to this step is written."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._save(trainer)

    def on_train_end(self, *_: Any, **__: Any) -> None:
        """Signals do again what they did before."""
        self.signals.release()

    on_exception = on_train_end

    def _save(self, trainer: pl.Trainer) -> None:
        step = trainer.global_step
        due = step % self.every == 0 or step == trainer.max_steps
        ask = due or step % self.ask_every == 0 or trainer.world_size == 1
        stopping = 0
        if ask and not self._mid_step:
            stopping = self._of_all_ranks(trainer, self.signals.received, "max")
        if (due or stopping) and step != self._saved_step:
            path = last_checkpoint(Path(trainer.default_root_dir))
            self._check_finite(trainer, path)
            self._saved_step = step
            write_checkpoint(trainer, path)
        self._stopping = stopping

    def _check_same(self, trainer: pl.Trainer, number: int) -> None:
        if self._of_all_ranks(trainer, number, "max") != self._of_all_ranks(trainer, number, "min"):
            last = last_checkpoint(Path(trainer.default_root_dir))
            raise ConfigurationError(
                f"some ranks go on from another checkpoint than others, or from none: {last} has "
                "to be the same on all machines; put the run's folder on a file system they share"
            )

    def _check_finite(self, trainer: pl.Trainer, path: Path) -> None:
        """Makes sure, by all ranks, that what is trained may take the checkpoint's place."""
        if self._of_all_ranks(trainer, int(not _is_finite(trainer.lightning_module)), "max"):
            kept = (
                f"{path} of step {self._saved_step} is whole: go on from it with a smaller "
                "--trainer.gradient_clip_val or in float32, or export it and train from there "
                "(init_from) with a smaller learning rate"
                if path.exists()
                else "there is no checkpoint yet: start anew with a smaller learning rate"
            )
            raise ModelError(f"weights are not finite at step {trainer.global_step}; {kept}")

    def _of_all_ranks(self, trainer: pl.Trainer, number: int, choice: Literal["max", "min"]) -> int:
        """The largest or smallest number that any rank has; all ranks ask at once."""
        told = torch.tensor(number, device=trainer.strategy.root_device)
        return int(trainer.strategy.reduce(told, reduce_op=choice))


def _is_finite(module: nn.Module) -> bool:
    """Whether all trained weights on this rank are numbers."""
    trained = (p.detach() for p in module.parameters() if p.requires_grad)
    parts = (p.to_local() if isinstance(p, DTensor) else p for p in trained)
    return bool(torch.stack([part.isfinite().all() for part in parts]).all())


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
