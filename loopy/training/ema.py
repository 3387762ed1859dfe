"""An average of the weights, which is what is validated and exported."""

from collections.abc import Iterator
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch.distributed.checkpoint import load

from loopy.training.checkpoint_files import AVERAGE, WEIGHTS
from loopy.training.sharding import is_sharded


class MovingAverage(pl.Callback):
    """Exponential moving average of the parameters that are trained, used to validate.

    average <- d average + (1 - d) parameter, with d = min(decay, (1 + n) / (10 + n)) at update n,
    so that a young average follows fast. Under FSDP2 each device averages its parts.

    Args:
        decay: Share of the old average once it is warm.
    """

    def __init__(self, decay: float = 0.999) -> None:
        self.decay = decay
        self.averages: dict[str, Tensor] = {}
        self.updates = 0
        self._kept: dict[str, Tensor] = {}
        self._inside = False

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Starts from the weights as they are, unless a checkpoint brought an average."""
        if not self.averages:
            self.averages = _copies(pl_module)
        self._to(pl_module.device)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any, **__: Any
    ) -> None:
        """Takes in the new weights, once an optimiser step."""
        if trainer.global_step == self.updates:
            return
        self.updates = trainer.global_step
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        trained = dict(_trained(pl_module))
        averages = [self.averages[name] for name in trained]
        with torch.no_grad():  # all at once: on a GPU a few kernels
            torch._foreach_lerp_(averages, [p.float() for p in trained.values()], 1 - decay)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Puts the average in."""
        if self.averages and not self._inside:
            self._exchange(pl_module)
            self._inside = True

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Puts the trained weights back."""
        if self._inside:
            self._exchange(pl_module)
            self._inside = False

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Stores the average beside the trained weights; parts of it where these are parts."""
        checkpoint[AVERAGE] = {"averages": self.averages, "updates": self.updates}
        if is_sharded(pl_module):  # all ranks write only what is among the weights
            checkpoint[AVERAGE] = {"updates": self.updates}
            checkpoint[WEIGHTS] |= self._named()

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Continues the stored average; a checkpoint without one starts anew."""
        stored = checkpoint.get(AVERAGE, {"averages": {}, "updates": 0})
        self.updates = stored["updates"]
        if "averages" in stored:
            self.averages = stored["averages"]
        else:
            self.averages = _copies(pl_module)
            load({WEIGHTS: self._named()}, checkpoint_id=trainer.ckpt_path)
        self._to(pl_module.device)

    def _named(self) -> dict[str, Tensor]:
        return {f"{AVERAGE}.{name}": average for name, average in self.averages.items()}

    def _to(self, device: torch.device) -> None:
        self.averages = {name: average.to(device) for name, average in self.averages.items()}

    @torch.no_grad()
    def _exchange(self, module: pl.LightningModule) -> None:
        """One by one, so that no second copy of all weights is ever there."""
        for name, parameter in _trained(module):
            held = parameter.detach().clone()
            if parameter.dtype == self.averages[name].dtype:
                parameter.copy_(self.averages[name])
                self.averages[name].copy_(held)
            elif name in self._kept:
                parameter.copy_(self._kept.pop(name))
            else:  # lower precision would round the average
                self._kept[name] = held
                parameter.copy_(self.averages[name])


def _trained(module: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    return ((name, p) for name, p in module.named_parameters() if p.requires_grad)


def _copies(module: nn.Module) -> dict[str, Tensor]:
    return {name: parameter.detach().float().clone() for name, parameter in _trained(module)}
