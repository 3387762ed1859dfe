"""Measurements of a shot: plain numbers from its face track, for filters and report."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from loopy.faces.framing import Box
from loopy.motion import NOSE_TIP, MotionSequence, expression_variance, head_motion_variance
from loopy.timing import FPS

LEFT_EYE, RIGHT_EYE = slice(36, 42), slice(42, 48)
NOSE_DEPTH = 1.16
"""How far the nose tip stands before the line of the jaw ends, in half their distance: 84.3 / 72.4
in the mean 68-point 3D face of OpenFace."""
EDGE = 0.01
"""Points this near to the picture's edge, in its shorter side, count as outside: a detector that
loses half a face still finds the other half, up to the edge."""


class Sync(NamedTuple):
    """Lip sync of a shot: SyncNet's confidence, the higher the surer, and how late the sound is."""

    confidence: float
    offset_frames: float


@dataclass(frozen=True)
class Measurements:
    """A shot in numbers. NaN: could not be measured.

    Args:
        frames: Length on the grid.
        face_lost: Share of frames that lack a face: under half of its points were found.
        several_people: Share of frames with more than one person.
        outside: Share of frames in which a point is at the picture's edge or outside.
        crop_px: Side of its crop in the source's pixels; 0 without a face.
        yaw: Angle that the head exceeds in 5 % of the frames, to either side.
        roll: The same of its tilt.
        head_motion: `loopy.motion.head_motion_variance`, px^2 at 512.
        expression: `loopy.motion.expression_variance`, px^2 at 512.
        has_sound: Whether it has sound.
        sync: None where it was not scored.
    """

    frames: int
    face_lost: float
    several_people: float
    outside: float
    crop_px: int
    yaw: float
    roll: float
    head_motion: float
    expression: float
    has_sound: bool
    sync: Sync | None = None


def measure(
    points: Float[Tensor, "f 68 2"],
    people: Int[Tensor, " f"],
    box: Box | None,
    *,
    width_px: int,
    height_px: int,
    has_sound: bool,
    pose: Float[Tensor, "f 3"] | None = None,
) -> Measurements:
    """Measures the face track of one shot, as it was found: before `fill_gaps`.

    Args:
        points: In pixels of the upright picture, whose size is given; NaN where one is missing.
        people: How many were found in each frame.
        box: The crop; None where there was no face.
        width_px: Of the picture.
        height_px: Of the picture.
        has_sound: Whether the shot has sound.
        pose: Yaw, pitch, roll, where they are known better than `estimate_angles` knows.
    """
    valid = ~points.isnan().any(-1)
    angles = (estimate_angles(points) if pose is None else pose[:, [0, 2]]).abs()
    edge = EDGE * min(width_px, height_px)
    far = points.new_tensor([width_px, height_px]) - edge
    outside = ((points <= edge) | (points >= far)).any(-1).any(-1)
    crop_px = 0 if box is None else box[2] - box[0]
    motion = MotionSequence(points, points.new_zeros(len(points), 3), valid, max(crop_px, 1), FPS)
    return Measurements(
        frames=len(points),
        # double: 6 frames of 30 are 0.2 and no more
        face_lost=(valid.float().mean(1) < 0.5).double().mean().item(),
        several_people=(people > 1).double().mean().item(),
        outside=outside.double().mean().item(),
        crop_px=crop_px,
        yaw=angles[:, 0].nanquantile(0.95).item(),
        roll=angles[:, 1].nanquantile(0.95).item(),
        head_motion=head_motion_variance(motion).item(),
        expression=expression_variance(motion).item(),
        has_sound=has_sound,
    )


def estimate_angles(points: Float[Tensor, "f 68 2"]) -> Float[Tensor, "f 2"]:
    """Yaw and roll of a head from its points alone; NaN where one is missing.

    The nose tip stands before the line of the jaw ends (points 0 and 16) by `NOSE_DEPTH` of half
    their distance, so that yaw moves it along that line by tan(yaw) x NOSE_DEPTH, whatever the
    roll. Radians; yaw is positive to the right of the picture.
    """
    left, right, nose = points[:, 0], points[:, 16], points[:, NOSE_TIP]
    half = (right - left) / 2
    along = ((nose - (left + right) / 2) * half).sum(-1) / half.square().sum(-1)
    across, down = (points[:, RIGHT_EYE].mean(1) - points[:, LEFT_EYE].mean(1)).unbind(-1)
    return torch.stack([(along / NOSE_DEPTH).atan(), torch.atan2(down, across)], 1)


def fill_gaps(points: Float[Tensor, "f 68 2"], *, longest: int = 5) -> Float[Tensor, "f 68 2"]:
    """Draws a straight line over gaps of at most `longest` frames in the track of each point.

    Longer ones and those at either end of the shot stay NaN.
    """
    index = torch.arange(len(points))[:, None].expand(points.shape[:2])
    missing = points.isnan().any(-1)
    before = index.masked_fill(missing, -1).cummax(0).values
    after = index.masked_fill(missing, len(points)).flip(0).cummin(0).values.flip(0)
    fill = missing & (before >= 0) & (after < len(points)) & (after - before - 1 <= longest)
    frame, point = fill.nonzero(as_tuple=True)
    first, last = before[fill], after[fill]
    share = ((frame - first) / (last - first))[:, None].to(points)
    filled = points.clone()
    filled[fill] = torch.lerp(points[first, point], points[last, point], share)
    return filled
