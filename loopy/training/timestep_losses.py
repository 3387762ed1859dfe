"""The training loss by timestep: how well is little noise removed, and how well much of it?"""

from itertools import pairwise
from typing import Any

import lightning.pytorch as pl
import torch
from jaxtyping import Float
from torch import Tensor

from loopy.errors import ConfigurationError
from loopy.training.log_steps import ends_logged_step
from loopy.training.module import LoopyModule

KEY = "timestep_losses"
"""What has been summed since the last log, in a checkpoint."""


class TimestepLosses(pl.Callback):
    """Logs the mean loss of each bucket of timesteps, over all ranks' samples since the last log.

    The loss of one batch says more about the timesteps that were drawn than about the network.
    Bucket k of n holds the timesteps with floor(t n / T) = k. A bucket that no sample fell into is
    not logged. Losses are those that are trained, their weights included.

    Nothing waits for the device between two logs. A resumed run goes on with the same sums.

    Args:
        buckets: Into how many equal spans the noise schedule is cut.

    Raises:
        ConfigurationError: No bucket.
    """

    def __init__(self, buckets: int = 4) -> None:
        if buckets < 1:
            raise ConfigurationError(f"buckets must be at least 1, got {buckets}")
        self.buckets = buckets
        self._sums: list[Float[Tensor, "2 buckets"]] = []
        """Of each batch: losses, and how many, by bucket."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Makes sure that there are timesteps.

        Raises:
            ConfigurationError: What is trained has none.
        """
        _checked(pl_module)
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
        module = _checked(pl_module)
        losses, timesteps = module.latest_losses
        longest = module.scheduler.config["num_train_timesteps"]
        self._sums.append(bucket_sums(losses, timesteps * self.buckets // longest, self.buckets))
        if not ends_logged_step(trainer, batch_idx):
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


def _checked(module: pl.LightningModule) -> LoopyModule:
    if isinstance(module, LoopyModule):
        return module
    name = type(module).__name__
    raise ConfigurationError(f"{name} draws no timesteps; leave TimestepLosses out")


def bucket_sums(
    losses: Float[Tensor, "b"], places: Tensor, buckets: int
) -> Float[Tensor, "2 buckets"]:
    """Sum of the losses in each bucket, and how many there are.

    Args:
        losses: One a sample.
        places: The bucket of each.
        buckets: How many there are.
    """
    inside = (places[:, None] == torch.arange(buckets, device=places.device)).float()
    return torch.stack([(losses.float()[:, None] * inside).sum(0), inside.sum(0)])


def bucket_names(buckets: int, timesteps: int) -> list[str]:
    """Names of the buckets by their first and last timestep: ``loss_by_timestep/000-249``."""
    starts = [-(-k * timesteps // buckets) for k in range(buckets + 1)]
    return [f"loss_by_timestep/{start:03d}-{end - 1:03d}" for start, end in pairwise(starts)]
