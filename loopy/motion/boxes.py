"""The box around some points of a face, as a mask of pixels or cells."""

import torch
from jaxtyping import Float
from torch import Tensor


def box_mask(
    points: Float[Tensor, "n p 2"], *, size_px: int, margin_px: float
) -> Float[Tensor, "n 1 H W"]:
    """One inside the box around the points, widened by a margin; zero outside.

    Args:
        points: x and y in pixels of the mask, or in cells where it is one of latents.
        size_px: Height and width of the mask.
        margin_px: How much further the box reaches on each side.
    """
    low, high = points.amin(1) - margin_px, points.amax(1) + margin_px
    pixel = torch.arange(size_px, device=points.device) + 0.5
    inside = (pixel >= low[..., None]) & (pixel <= high[..., None])  # n, x or y, pixel
    return (inside[:, 1, :, None] & inside[:, 0, None, :])[:, None].float()
