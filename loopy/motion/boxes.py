"""The box around some points of a face, as a mask of pixels or cells."""

import torch
from jaxtyping import Float
from torch import Tensor

from loopy.motion.sequence import MotionSequence

FACE_PARTS = {"eyes": slice(36, 48), "mouth": slice(48, 68)}
"""Points of parts of a face whose loss may weigh more, iBUG order."""
MARGIN_CELLS = 0.5


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


def part_mask(motion: MotionSequence, part: str, *, cells: int) -> Float[Tensor, "f 1 h w"]:
    """One in the cells around a part of the face; nothing in frames that lack a point of it.

    Args:
        motion: Track of the frames.
        part: See `FACE_PARTS`.
        cells: Height and width of the latents.
    """
    points = motion.points[:, FACE_PARTS[part]] * (cells / motion.size_px)
    known = motion.valid[:, FACE_PARTS[part]].all(1)[:, None, None, None]
    return box_mask(points, size_px=cells, margin_px=MARGIN_CELLS) * known
