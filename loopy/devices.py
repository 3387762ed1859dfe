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


def dtype_of(precision: Precision | torch.dtype) -> torch.dtype:
    """Torch's type of a precision, given by its name or as it is.

    Raises:
        ConfigurationError: It is no type of floating-point numbers.
    """
    found = getattr(torch, precision, None) if isinstance(precision, str) else precision
    if not (isinstance(found, torch.dtype) and found.is_floating_point):
        raise ConfigurationError(
            f"dtype is {precision!r:.80}; give torch.float32, torch.bfloat16 or torch.float16"
        )
    return found


def named(model: str, precision: Precision) -> str:
    """A model's name in reports, with the precision where it is not float32."""
    return model if precision == "float32" else f"{model} in {precision}"
