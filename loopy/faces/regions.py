"""Turned squares of a picture: cut out for a network, and its points moved back."""

from dataclasses import dataclass
from math import atan2, ceil, cos, floor, pi, sin

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn.functional import grid_sample


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
    left, right = max(floor(x.min()) - 1, 0), min(ceil(x.max()) + 2, width)
    top, bottom = max(floor(y.min()) - 1, 0), min(ceil(y.max()) + 2, height)
    if left >= right or top >= bottom:  # wholly outside
        return torch.zeros(size_px, size_px, 3)
    part = frame[top:bottom, left:right].permute(2, 0, 1)[None].float()
    spans = [max(part.shape[3] - 1, 1), max(part.shape[2] - 1, 1)]
    grid = torch.stack([(x - left) / spans[0], (y - top) / spans[1]], -1) * 2 - 1
    padding = "zeros" if black else "border"
    return grid_sample(part, grid[None], padding_mode=padding, align_corners=True)[0].permute(
        1, 2, 0
    )


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
