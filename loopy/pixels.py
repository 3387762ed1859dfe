"""Pictures in [-1, 1] and pixels of 0 to 255, one to the other."""

import torch
from jaxtyping import Float, UInt8
from torch import Tensor


def to_pixels(pictures: Float[Tensor, "*shape"]) -> UInt8[Tensor, "*shape"]:
    """Rounds pictures to pixels; half precision is computed in float32.

    Args:
        pictures: In [-1, 1]; beyond, the result is undefined.
    """
    return ((pictures.float() + 1) * 127.5).round().to(torch.uint8)


def from_pixels(pixels: UInt8[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Pixels of 0 to 255 as pictures in [-1, 1], float32."""
    return pixels.float() / 127.5 - 1
