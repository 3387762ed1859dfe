"""AdamW, with moments in float32 or in 8 bits."""

from collections.abc import Iterable
from typing import Literal

from torch import nn
from torch.distributed.tensor import DTensor
from torch.optim import AdamW, Optimizer

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
    if name == "adamw":
        parameters = list(parameters)
        # torch's own choice is to update parts of weights one by one
        parts = any(isinstance(parameter, DTensor) for parameter in parameters)
        return AdamW(
            parameters, learning_rate, weight_decay=weight_decay, foreach=True if parts else None
        )
    try:
        from bitsandbytes.optim import AdamW8bit  # pyright: ignore[reportMissingImports]  # optional
    except (ImportError, OSError, RuntimeError) as error:
        raise DependencyError(
            f"adamw_8bit needs bitsandbytes, which does not load ({error}); "
            "run: pip install loopy-portrait[adam8bit]"
        ) from error
    return AdamW8bit(parameters, learning_rate, weight_decay=weight_decay)
