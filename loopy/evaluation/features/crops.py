"""Crops of faces by their landmarks, as SyncNet and recognition networks expect them."""

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor
from torch.nn import functional

from loopy.errors import MetricError
from loopy.pixels import from_pixels

MIN_FOUND = 0.5
"""Share of frames in which the face must have been found."""
ROOM, STEADY = 0.4, 13
"""SyncNet's authors leave 40 % of the face's half around it, and take medians over 13 frames."""

TEMPLATE = ((38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041))  # fmt: skip  # noqa: E501
"""Eyes, nose tip and corners of the mouth in a picture of 112 px, as ArcFace was trained."""
TEMPLATE_PX = 112
_EYES, _NOSE, _CORNERS = (slice(36, 42), slice(42, 48)), 30, (48, 54)
NEEDED = (_NOSE, *range(36, 48), *_CORNERS)
"""Points without which `align` does not know where a face is."""


def has_eyes_nose_mouth(points: Float[Tensor, "f 68 2"]) -> Bool[Tensor, "f"]:
    """Frames in which the points are found that `align` needs."""
    return ~points[:, list(NEEDED)].isnan().flatten(1).any(1)


def has_half(points: Float[Tensor, "f 68 2"]) -> Bool[Tensor, "f"]:
    """Frames in which half of the points are found, as `loopy.preprocess.measurements` asks."""
    return (~points.isnan().any(-1)).float().mean(1) >= 0.5


def fill_missing(
    points: Float[Tensor, "f 68 2"], found: Bool[Tensor, "f"]
) -> Float[Tensor, "f 68 2"]:
    """The same track with the nearest earlier frame (at the start: later one) in its gaps.

    Args:
        points: A track; NaN where a point is missing.
        found: Where there is a face; all other frames are gaps.

    Raises:
        MetricError: The face is missing in more than half of the frames.
    """
    if found.float().mean() < MIN_FOUND:
        raise MetricError(f"a face is found in {int(found.sum())} of {len(found)} frames only")
    places = torch.where(found, torch.arange(len(found)), -1).cummax(0).values
    return points[places.where(places >= 0, found.nonzero()[0, 0])]


def sync_boxes(points: Float[Tensor, "f 68 2"]) -> Float[Tensor, "f 4"]:
    """Squares around faces as SyncNet's authors cut them, left-top-right-bottom in pixels.

    They find faces by S3FD; here the points bound the face, so that figures are near theirs and not
    the same.

    Raises:
        MetricError: The face is missing in more than half of the frames.
    """
    points = fill_missing(points, has_half(points))
    missing = points.isnan()
    least = points.masked_fill(missing, torch.inf).amin(1)
    corners = torch.stack([least, points.masked_fill(missing, -torch.inf).amax(1)])
    middle, half = corners.mean(0), (corners[1] - corners[0]).amax(1, keepdim=True) / 2
    steady = torch.cat([middle, half], 1).T[None]
    padded = functional.pad(steady, (STEADY // 2, STEADY // 2), mode="replicate")[0]
    x, y, half = padded.unfold(1, STEADY, 1).median(-1).values
    side = half * (1 + ROOM)
    return torch.stack([x - side, y - half, x + side, y - half + 2 * side], 1)


def crop(
    frames: UInt8[Tensor, "f h w 3"], boxes: Float[Tensor, "f 4"], *, size_px: int
) -> UInt8[Tensor, "f {size_px} {size_px} 3"]:
    """The square in each frame; what lies outside the picture is grey."""
    pieces = []
    for frame, box in zip(frames, boxes.round().long().tolist(), strict=True):
        left, top, right, bottom = box
        height, width = frame.shape[:2]
        rows = slice(max(top, 0), max(min(bottom, height), 0))
        columns = slice(max(left, 0), max(min(right, width), 0))
        side = max(bottom - top, right - left, 1)
        square = torch.full((side, side, 3), 110.0)
        inside = frame[rows, columns].float()
        down, over = rows.start - top, columns.start - left
        square[down : down + inside.shape[0], over : over + inside.shape[1]] = inside
        pieces.append(
            functional.interpolate(
                square.permute(2, 0, 1)[None], (size_px, size_px), mode="bilinear", antialias=True
            )
        )
    return torch.cat(pieces).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)


def align(
    frames: UInt8[Tensor, "f h w 3"], points: Float[Tensor, "f 68 2"]
) -> Float[Tensor, "f 3 112 112"]:
    """Faces turned, moved and scaled so that eyes, nose and mouth lie where ArcFace expects them.

    Args:
        frames: Pictures.
        points: In their pixels, none of `NEEDED` missing; see `fill_missing`.

    Returns:
        Pictures in [-1, 1].
    """
    target = points.new_tensor(TEMPLATE)
    left, right = (points[:, eye].mean(1) for eye in _EYES)
    five = [left, right, points[:, _NOSE], *(points[:, corner] for corner in _CORNERS)]
    turn, shift = _similarity(target, torch.stack(five, 1))
    places = torch.arange(TEMPLATE_PX) + 0.5
    grid = torch.stack(torch.meshgrid(places, places, indexing="xy"), -1)
    at = torch.einsum("nij,hwj->nhwi", turn, grid) + shift[:, None, None]
    size = points.new_tensor([frames.shape[2], frames.shape[1]])
    pictures = from_pixels(frames.permute(0, 3, 1, 2))
    return functional.grid_sample(pictures, at / size * 2 - 1, align_corners=False)


def _similarity(
    source: Float[Tensor, "p 2"], target: Float[Tensor, "n p 2"]
) -> tuple[Float[Tensor, "n 2 2"], Float[Tensor, "n 2"]]:
    """Turn, scale and shift that lead from points to others with least squares, never mirrored."""
    centre, centres = source.mean(0), target.mean(1)
    a, b = source - centre, target - centres[:, None]
    cos = (a * b).sum((1, 2)) / a.square().sum()
    sin = (a[:, 0] * b[..., 1] - a[:, 1] * b[..., 0]).sum(1) / a.square().sum()
    turn = torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], 1)
    return turn, centres - turn @ centre
