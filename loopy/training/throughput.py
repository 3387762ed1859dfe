"""How fast a run is, and what it waits for."""

from time import perf_counter
from typing import Any

import lightning.pytorch as pl
import torch

from loopy.training.datamodule import ResumableLoader
from loopy.training.log_steps import ends_logged_step


class Throughput(pl.Callback):
    """Logs speed, the share of time spent waiting for data, and the peak of memory.

    All are of the time since the last log, or since this process began to train; validations are
    left out, checkpoints are not. Names:

    - ``speed/clips_per_second``: samples of all ranks together.
    - ``speed/seconds_per_step``: of an optimiser step.
    - ``speed/data_wait``: share of the time in which a rank had no batch and waited for its loader;
      of the rank that waited most. On an accelerator it is the most that can have been lost: what
      was queued there before goes on meanwhile.
    - ``speed/peak_memory_gb``: most memory of tensors on the accelerator since this process
      began, in 10^9 bytes, of the rank that has most; not on a CPU.
    """

    def __init__(self) -> None:
        self._start = self._paused = self._waited = 0.0
        self._clips = self._batches = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Starts the clock."""
        self._restart(trainer)

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Counts, and logs when it is time."""
        self._clips += len(batch)
        self._batches += 1
        if not ends_logged_step(trainer, batch_idx):
            return
        accelerated = pl_module.device.type != "cpu"
        if accelerated:
            torch.accelerator.synchronize(pl_module.device)
        seconds = perf_counter() - self._start
        steps = self._batches / trainer.accumulate_grad_batches
        slowest = {"speed/data_wait": (_waited(trainer) - self._waited) / seconds}
        if accelerated:
            peak = torch.accelerator.max_memory_allocated(pl_module.device)
            slowest["speed/peak_memory_gb"] = peak / 1e9
        pl_module.log("speed/clips_per_second", self._clips * trainer.world_size / seconds)
        pl_module.log("speed/seconds_per_step", seconds / steps)
        pl_module.log_dict(slowest, sync_dist=True, reduce_fx="max")
        self._restart(trainer)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stops the clock."""
        self._paused = perf_counter()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Lets it go on."""
        self._start += perf_counter() - self._paused

    def _restart(self, trainer: pl.Trainer) -> None:
        self._clips = self._batches = 0
        self._waited, self._start = _waited(trainer), perf_counter()


def _waited(trainer: pl.Trainer) -> float:
    """Seconds that this rank has waited for batches so far."""
    loader = trainer.train_dataloader
    return loader.waited_s if isinstance(loader, ResumableLoader) else float("nan")
