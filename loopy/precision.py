"""Precisions in which a model may denoise, by the names that recipes and the command line take."""

from typing import Literal

import torch

Precision = Literal["float32", "bfloat16", "float16"]


def dtype_of(precision: Precision) -> torch.dtype:
    """Torch's type of a precision."""
    return getattr(torch, precision)


def named(model: str, precision: Precision) -> str:
    """A model's name in reports, with the precision where it is not float32."""
    return model if precision == "float32" else f"{model} in {precision}"
