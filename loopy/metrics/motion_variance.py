"""Glo, Exp, DGlo, DExp: how much head and upper face move (Loopy sec. 4); diversity of seeds.

The paper gives neither window nor unit. Windows of 12 frames, as in training, and px^2 at 512 px
fit its figures of real videos; whole videos do not. Nearer to the real video is better, not more.
DGlo and DExp are named by the paper's reviewers without a definition: here they are the absolute
difference of a video's figure and its real one's, mean over videos (`evaluation.table.columns`).
"""

from itertools import combinations
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from loopy.errors import MetricError
from loopy.metrics.extractors import check_numbers
from loopy.motion import MotionSequence, expression_variance, head_motion_variance
from loopy.motion.measures import REFERENCE_SIZE_PX
from loopy.timing import FPS

WINDOW = 12
OUTER_EYE_CORNERS = (36, 45)


class MotionVariances(NamedTuple):
    """Variances over time inside windows of 12 frames, averaged over windows.

    Attributes:
        glo: Of the nose tip, px^2 at 512 px, x and y summed.
        exp: Of 37 points of the upper face relative to the nose tip, mean over points.
        glo_interocular: `glo` over the squared distance of the outer eye corners.
        exp_interocular: `exp` over the same: a face near the camera does not move more.
    """

    glo: float
    exp: float
    glo_interocular: float
    exp_interocular: float


def motion_variances(motion: MotionSequence) -> MotionVariances:
    """Glo and Exp of one video.

    Without frames behind the last whole window, and windows without half of the points.

    Raises:
        MetricError: Not 25 frames a second, fewer than a window, or no window with a face.
    """
    if motion.fps != FPS:
        raise MetricError(
            f"windows of {WINDOW} frames are of {FPS} frames a second, got {motion.fps}; "
            "resample the track"
        )
    if len(motion) < WINDOW:
        raise MetricError(f"a track of {len(motion)} frames is shorter than a window of {WINDOW}")
    starts = range(0, len(motion) - WINDOW + 1, WINDOW)
    windows = [motion[start : start + WINDOW] for start in starts]
    glo = torch.stack([head_motion_variance(each) for each in windows]).nanmean()
    exp = torch.stack([expression_variance(each) for each in windows]).nanmean()
    apart = interocular_px(motion) ** 2
    figures = torch.stack([glo, exp, glo / apart, exp / apart])
    if not bool(figures.isfinite().all()):
        raise MetricError("no window has a face in half of its frames; look at the track")
    return MotionVariances(*figures.tolist())


def interocular_px(motion: MotionSequence) -> Float[Tensor, ""]:
    """Mean distance of the outer eye corners, in px at 512; NaN if never found together."""
    left, right = (motion.points[:, corner] for corner in OUTER_EYE_CORNERS)
    found = motion.valid[:, list(OUTER_EYE_CORNERS)].all(1)
    return (left - right)[found].norm(dim=1).mean() * (REFERENCE_SIZE_PX / motion.size_px)


def motion_diversity(motions: list[MotionSequence]) -> float:
    """Mean distance of a point between two seeds' videos, in px at 512; not counting lost points.

    Raises:
        MetricError: Fewer than 2 seeds, different lengths, or no point that all of them have.
    """
    if len({len(motion) for motion in motions}) > 1:
        lengths = [len(motion) for motion in motions]
        raise MetricError(f"tracks of different lengths {lengths}; cut them to the shortest")
    if len(motions) < 2:
        raise MetricError(f"diversity needs 2 seeds, got {len(motions)}")
    found = torch.stack([motion.valid for motion in motions]).all(0)
    if not bool(found.any()):
        raise MetricError("no point is found in all tracks; look at them")
    scaled = [motion.points * (REFERENCE_SIZE_PX / motion.size_px) for motion in motions]
    tracks = torch.stack([points[found] for points in scaled]).double()
    check_numbers(tracks.flatten(1), name="the tracks")
    pairs = combinations(tracks, 2)
    return float(torch.stack([(one - other).norm(dim=-1).mean() for one, other in pairs]).mean())
