"""Turned squares of a picture: cut out for a network, and its points moved back."""

from dataclasses import dataclass
from itertools import product
from math import atan2, cos, pi, sin

import torch
from jaxtyping import Float, UInt8
from torch import Tensor


@dataclass(frozen=True)
class Region:
    """A square of a picture, turned about its centre.

    Args:
        x: Of its centre, in pixels of the picture.
        y: Likewise.
        side: Length of its sides, in pixels.
        angle: Clockwise as seen, in radians.
    """

    x: float
    y: float
    side: float
    angle: float = 0.0


def around(low: Tensor, high: Tensor, *, scale: float, angle: float = 0.0) -> Region:
    """The square around a box, its side the box's longer one times ``scale``."""
    centre, side = (low + high) / 2, (high - low).amax()
    return Region(centre[0].item(), centre[1].item(), side.item() * scale, angle)


def level(left: Float[Tensor, "2"], right: Float[Tensor, "2"]) -> float:
    """The angle at which two points of a face, left and right as seen, lie on one height."""
    across, down = (right - left).tolist()
    return (atan2(down, across) + pi) % (2 * pi) - pi


def cut(
    frame: UInt8[Tensor, "h w 3"], region: Region, *, size_px: int, black: bool = False
) -> Float[Tensor, "size size 3"]:
    """Samples a region bilinearly, as MediaPipe's networks were trained on it.

    Args:
        frame: An RGB picture.
        region: What of it.
        size_px: Height and width of the result.
        black: Outside the picture; otherwise its border goes on.

    Returns:
        Values of 0 to 255.
    """
    height, width, _ = frame.shape
    steps = torch.arange(size_px) * (region.side / size_px) - region.side / 2
    cosine, sine = cos(region.angle), sin(region.angle)
    x = region.x + steps * cosine - steps[:, None] * sine
    y = region.y + steps * sine + steps[:, None] * cosine
    columns, rows = x.floor(), y.floor()
    sampled = torch.zeros(size_px, size_px, 3)
    for right, below in product((0, 1), (0, 1)):  # the four pixels around each place
        column, row = columns + right, rows + below
        weight = (1 - (x - column).abs()) * (1 - (y - row).abs())
        inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
        pixels = frame[row.clamp(0, height - 1).long(), column.clamp(0, width - 1).long()]
        sampled += (weight * inside if black else weight)[..., None] * pixels
    return sampled


def moved_back(points: Float[Tensor, "p d"], region: Region) -> Float[Tensor, "p d"]:
    """Points of a region to points of the picture; a third coordinate is scaled alike.

    Args:
        points: x and y, and maybe a depth, in shares of the region's side (0 to 1 inside).
        region: The region that was cut.
    """
    across, down = (points[:, :2] - 0.5).unbind(1)
    cosine, sine = cos(region.angle), sin(region.angle)
    x = region.x + (across * cosine - down * sine) * region.side
    y = region.y + (across * sine + down * cosine) * region.side
    return torch.cat([torch.stack([x, y], 1), points[:, 2:] * region.side], 1)
