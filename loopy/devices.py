"""Devices and precisions that a caller names."""

from typing import Any, Literal

import torch

from loopy.errors import ConfigurationError

Precision = Literal["float32", "bfloat16", "float16"]
"""Precisions in which a model may denoise, by the names that recipes and the command line take."""


def usable(device: Any) -> torch.device:
    """A device that exists and computes.

    Raises:
        ConfigurationError: It does not, or this torch was built without it.
    """
    try:
        found = torch.empty(0, device=device).device
    except (RuntimeError, AssertionError, ImportError, TypeError, ValueError) as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        raise ConfigurationError(f"no device {device!r:.80} ({reason}); try cpu") from error
    if found.type == "meta":
        raise ConfigurationError("no device 'meta' computes anything; try cpu")
    return found


def check_precision(dtype: Any) -> None:
    """Makes sure that networks can be of this type; None leaves theirs.

    Raises:
        ConfigurationError: It is no type of floating-point numbers.
    """
    if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise ConfigurationError(
            f"dtype is {dtype!r:.80}; give torch.float32, torch.bfloat16 or torch.float16"
        )


def dtype_of(precision: Precision) -> torch.dtype:
    """Torch's type of a precision."""
    return getattr(torch, precision)


def named(model: str, precision: Precision) -> str:
    """A model's name in reports, with the precision where it is not float32."""
    return model if precision == "float32" else f"{model} in {precision}"
