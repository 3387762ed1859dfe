"""One square crop per shot: the head with hair and shoulders, never stretched, never padded."""

from dataclasses import dataclass
from math import ceil, floor

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn.functional import interpolate

from loopy.errors import ConfigurationError, MediaError

Box = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels; the last two are the first ones outside."""


@dataclass(frozen=True)
class CropOptions:
    """Room around the 68 points, in sides of the face (the longer one of its points' box).

    On a mean head the points reach from ear to ear and from the brows to the chin, a square; the
    bare crown is 0.6 of its side above the brows. With hair that is 0.8; 0.6 under the chin shows
    the shoulders. The face then takes 2/5 of the crop, as in the paper's portraits.

    Args:
        above: Over the brows.
        below: Under the chin.
        beside: Left and right of the ears, each.

    Raises:
        ConfigurationError: A negative margin.
    """

    above: float = 0.8
    below: float = 0.6
    beside: float = 0.7

    def __post_init__(self) -> None:
        """Refuse to cut into the face."""
        if not all(margin >= 0 for margin in (self.above, self.below, self.beside)):
            raise ConfigurationError(f"margins of a crop are 0 or more, got {self}")


def square_box(
    points: Float[Tensor, "f 68 2"],
    *,
    width_px: int,
    height_px: int,
    options: CropOptions = CropOptions(),
) -> Box | None:
    """The square that holds a face during a whole shot, with its margins; None without a point.

    Where it leaves the picture it is shifted back, and where it is larger than the picture it
    shrinks to the shorter side; in both cases it keeps the face if a square of that size can.
    Points are in pixels of the upright picture, whose size is given, and NaN where one is missing.
    """
    missing = points.isnan().any(-1)
    found, hidden = points[~missing.all(-1)], missing[~missing.all(-1), :, None]
    if not len(found):
        return None
    low = found.masked_fill(hidden, torch.inf).amin(1)
    high = found.masked_fill(hidden, -torch.inf).amax(1)
    face_px = (high - low).amax(-1).median().item()  # of a frame: motion adds no margin
    left, top, right, bottom = torch.cat([low.amin(0), high.amax(0)]).tolist()
    beside, above, below = (
        options.beside * face_px,
        options.above * face_px,
        options.below * face_px,
    )
    wished = max(right - left + 2 * beside, bottom - top + above + below)
    side = min(max(ceil(wished), 1), width_px, height_px)
    x = _start((left + right) / 2, left, right, side=side, length=width_px)
    y = _start((top - above + bottom + below) / 2, top, bottom, side=side, length=height_px)
    return x, y, x + side, y + side


def _start(centre: float, low: float, high: float, *, side: int, length: int) -> int:
    """Where a span of ``side`` begins on an axis: near its centre, over low to high, inside."""
    low, high = min(max(low, 0), length), min(max(high, 0), length)
    start = round(centre - side / 2)
    if ceil(high) - floor(low) <= side:
        start = min(max(start, ceil(high) - side), floor(low))
    else:
        start = round((low + high - side) / 2)
    return min(max(start, 0), length - side)


def crop_frames(
    frames: UInt8[Tensor, "f h w 3"], box: Box, *, size_px: int
) -> UInt8[Tensor, "f size size 3"]:
    """Cuts a `square_box` out of upright frames; each new pixel is the mean of what it covers.

    Pictures that do not hold the box, so are not those it was found in, are a MediaError.
    """
    left, top, right, bottom = box
    if min(left, top) < 0 or right > frames.shape[2] or bottom > frames.shape[1]:
        raise MediaError(
            f"pictures of {frames.shape[2]} x {frames.shape[1]} do not hold the crop {box}; the "
            "video has changed, or changes its size: convert it"
        )
    cut = frames[:, top:bottom, left:right].permute(0, 3, 1, 2)
    if cut.device.type != "cpu":  # bytes are resized on a CPU only
        cut = cut.float()
    resized = interpolate(cut, size=(size_px, size_px), mode="bilinear", antialias=True)
    return resized.round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def crop_points(
    points: Float[Tensor, "f 68 2"], box: Box, *, size_px: int
) -> Float[Tensor, "f 68 2"]:
    """Moves points along with `crop_frames`; NaN stays NaN.

    Coordinates are 0 at the outer edge of the first pixel, so a pixel's middle is at 0.5.
    """
    left, top, right, _ = box
    return (points - points.new_tensor([left, top])) * (size_px / (right - left))
