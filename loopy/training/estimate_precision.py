"""Precisions of a training step that is run by shapes, on tensors that say they are on a CPU."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal

import torch
from lightning.pytorch.plugins import HalfPrecision, MixedPrecision, Precision
from torch import Tensor, nn

from loopy.errors import ConfigurationError

Device = Literal["cuda", "cpu"]

IN_FLOAT32 = (torch.layer_norm, torch.group_norm)
"""Of what our networks call, autocast computes these in float32 on CUDA, and not on a CPU."""


def precision_plugin(precision: str) -> Precision:
    """Lightning's plugin of a precision, for tensors that say they are on a CPU.

    Raises:
        ConfigurationError: A precision that is not known.
    """
    match precision:
        case "32" | "32-true":
            return Precision()
        case "bf16-mixed" | "16-mixed":
            return MixedPrecision(precision, "cpu")
        case "bf16-true" | "16-true":
            return HalfPrecision(precision)
    raise ConfigurationError(
        f"no estimate for precision {precision!r}; give 32-true, bf16-mixed, 16-mixed, bf16-true "
        "or 16-true"
    )


def cast(network: nn.Module, dtype: torch.dtype) -> None:
    """Give a network other parameters of ``dtype``, where they are not; fake ones refuse `to`."""
    for module in network.modules():
        for name, old in list(module.named_parameters(recurse=False)):
            if old.dtype != dtype:
                new = nn.Parameter(old.detach().to(dtype), requires_grad=old.requires_grad)
                setattr(module, name, new)


@contextmanager
def autocast_as_on(device: Device) -> Iterator[None]:
    """Let autocast of tensors on a CPU compute in float32 what it would on ``device``.

    Kernels are registered with torch's dispatcher, which is asked in recomputations too, and
    taken out again.
    """
    with torch.library._scoped_library("aten", "IMPL") as library:
        for operation in IN_FLOAT32 if device == "cuda" else ():
            library.impl(operation.__name__, partial(_in_float32, operation), "AutocastCPU")
        yield


def _in_float32(operation: Callable[..., Tensor], x: Tensor, *rest: Any) -> Tensor:
    with torch.autocast("cpu", enabled=False):
        return operation(x.float(), *rest)
