"""What moves the weights: AdamW, its learning rate over a run, and the numbers logged of both."""

import math
from collections.abc import Iterable
from typing import Literal

import lightning.pytorch as pl
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import nn
from torch.distributed.tensor import DTensor
from torch.nn.utils import get_total_norm
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from loopy.errors import DependencyError

OptimiserName = Literal["adamw", "adamw_8bit"]


def make_optimiser(
    name: OptimiserName,
    parameters: Iterable[nn.Parameter],
    *,
    learning_rate: float,
    weight_decay: float,
) -> Optimizer:
    """Build an optimiser.

    Args:
        name: ``adamw``: 8 bytes of state a parameter. ``adamw_8bit``: 2 bytes, in blocks of 256
            values with a scale each (arXiv 2110.02861; bitsandbytes); small tensors keep 8.
        parameters: What is trained.
        learning_rate: At its peak.
        weight_decay: Decoupled, a share of the weights for each unit of learning rate.

    Raises:
        DependencyError: bitsandbytes is missing or does not load.
    """
    parameters = list(parameters)
    if name == "adamw":
        # torch's own choice is to update parts of weights one by one
        parts = any(isinstance(parameter, DTensor) for parameter in parameters) or None
        return AdamW(parameters, learning_rate, weight_decay=weight_decay, foreach=parts)
    try:
        from bitsandbytes.optim import AdamW8bit  # pyright: ignore[reportMissingImports]  # optional
    except (ImportError, OSError, RuntimeError) as error:
        raise DependencyError(
            f"adamw_8bit needs bitsandbytes, which does not load ({error}); "
            "run: pip install loopy-portrait[adam8bit]"
        ) from error
    return AdamW8bit(parameters, learning_rate, weight_decay=weight_decay)


def warm_cosine(optimizer: Optimizer, *, warmup_steps: int, total_steps: int | None) -> LambdaLR:
    """Linear warm-up, then half a cosine down to zero at the last step, or no decay at all.

    Args:
        optimizer: Its learning rates are the peak.
        warmup_steps: Steps until the peak.
        total_steps: Length of the run; None keeps the peak.
    """

    def share(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        if total_steps is None:
            return 1.0
        progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
        return 0.5 + 0.5 * math.cos(math.pi * min(1.0, progress))

    return LambdaLR(optimizer, share)


def scheduled(
    optimizer: Optimizer, *, warmup_steps: int, total_steps: int | None
) -> OptimizerLRScheduler:
    """An optimiser under `warm_cosine`, as a stage tells lightning."""
    schedule = warm_cosine(optimizer, warmup_steps=warmup_steps, total_steps=total_steps)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def is_logged(trainer: pl.Trainer, step: int) -> bool:
    """Whether lightning logs at the end of an optimiser step, counted from 1."""
    return step % trainer.log_every_n_steps == 0  # pyright: ignore[reportAttributeAccessIssue]  # set later


class StepSize(pl.Callback):
    """Logs the learning rate, and the norm of all gradients as it is before it is clipped.

    Unlike lightning's LearningRateMonitor it needs no logger, and unlike its `grad_norm` it
    measures gradients that are spread over devices, without a wait for each parameter.
    """

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        """Measures in the steps that lightning logs."""
        if not is_logged(trainer, trainer.global_step + 1):
            return
        pl_module.log("learning_rate", optimizer.param_groups[0]["lr"])
        gradients = [p.grad for p in pl_module.parameters() if p.grad is not None]
        if gradients:  # DeepSpeed keeps them to itself
            norm = get_total_norm(gradients)
            pl_module.log("gradient_norm", getattr(norm, "full_tensor", lambda: norm)())
