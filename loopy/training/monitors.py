"""How fast a run is and what it waits for, and its loss by timestep.

Lightning's ThroughputMonitor needs a logger, counts validations in and knows no wait for data.
"""

from itertools import pairwise
from time import perf_counter
from typing import Any, cast

import lightning.pytorch as pl
import torch
from jaxtyping import Float
from torch import Tensor

from loopy.errors import ConfigurationError
from loopy.training.datamodule import ResumableLoader
from loopy.training.module import LoopyModule
from loopy.training.optim import is_logged

KEY = "timestep_losses"
"""What has been summed since the last log, in a checkpoint."""


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
        if not _ends_logged_step(trainer, batch_idx):
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


class TimestepLosses(pl.Callback):
    """Logs the mean loss of each bucket of timesteps, over all ranks' samples since the last log.

    The loss of one batch says more about the timesteps that were drawn than about the network.
    Bucket k of n holds the timesteps with floor(t n / T) = k. A bucket that no sample fell into is
    not logged. Losses are those that are trained, their weights included.

    Nothing waits for the device between two logs. A resumed run goes on with the same sums.

    Args:
        buckets: Into how many equal spans the noise schedule is cut, at least 1.
    """

    def __init__(self, buckets: int = 4) -> None:
        if buckets < 1:
            raise ConfigurationError(f"buckets must be at least 1, got {buckets}")
        self.buckets = buckets
        self._sums: list[Float[Tensor, "2 buckets"]] = []
        """Of each batch: losses, and how many, by bucket."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Makes sure that what is trained has timesteps."""
        if not isinstance(pl_module, LoopyModule):
            name = type(pl_module).__name__
            raise ConfigurationError(f"{name} draws no timesteps; leave TimestepLosses out")
        self._sums = [sums.to(pl_module.device) for sums in self._sums]

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Takes in a batch, and logs when it is time."""
        stage = cast(LoopyModule, pl_module)
        losses, timesteps = stage.latest_losses
        longest = stage.scheduler.config["num_train_timesteps"]
        numbers = torch.arange(self.buckets, device=timesteps.device)
        inside = ((timesteps * self.buckets // longest)[:, None] == numbers).float()
        self._sums.append(torch.stack([(losses.float()[:, None] * inside).sum(0), inside.sum(0)]))
        if not _ends_logged_step(trainer, batch_idx):
            return
        total, count = self._of_all_ranks(trainer).sum(0)
        self._sums = []
        filled = [(k, float(total[k] / count[k])) for k in range(self.buckets) if count[k]]
        names = bucket_names(self.buckets, longest)
        pl_module.log_dict({names[k]: mean for k, mean in filled})

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Stores the sums of all ranks."""
        if self._sums:
            checkpoint[KEY] = self._of_all_ranks(trainer)

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """The first rank goes on with all of them, the others with as many zeros."""
        stored = checkpoint.get(KEY, torch.zeros(0, 2, self.buckets)).float()
        if stored.shape[2] == self.buckets:
            self._sums = list(stored if trainer.is_global_zero else torch.zeros_like(stored))

    def _of_all_ranks(self, trainer: pl.Trainer) -> Float[Tensor, "batches 2 buckets"]:
        together = trainer.strategy.reduce(torch.stack(self._sums), reduce_op="sum")
        return together.cpu().double()


def bucket_names(buckets: int, timesteps: int) -> list[str]:
    """Names of the buckets by their first and last timestep: ``loss_by_timestep/000-249``."""
    starts = [-(-k * timesteps // buckets) for k in range(buckets + 1)]
    return [f"loss_by_timestep/{start:03d}-{end - 1:03d}" for start, end in pairwise(starts)]


def _ends_logged_step(trainer: pl.Trainer, batch_idx: int) -> bool:
    """Whether a batch, counted from 0 in the one epoch of a run, ends a step that is logged."""
    stepped = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
    return stepped and is_logged(trainer, trainer.global_step)


def _waited(trainer: pl.Trainer) -> float:
    """Seconds that this rank has waited for batches so far."""
    loader = trainer.train_dataloader
    return loader.waited_s if isinstance(loader, ResumableLoader) else float("nan")
