"""How often eyes blink: eye aspect ratio (Soukupova and Cech 2016), and closures of it."""

import torch
from jaxtyping import Float
from torch import Tensor

from loopy.errors import MetricError
from loopy.motion import MotionSequence
from loopy.timing import FPS

EYES = ((36, 37, 38, 39, 40, 41), (42, 43, 44, 45, 46, 47))
"""Outer corner, two points of the upper lid, other corner, two points of the lower lid."""

CLOSED, REOPENED = 0.5, 0.7
"""Parts of the eye's usual opening: a blink begins below the one and ends above the other."""

FEWEST = 0.5
"""Share of frames in which the eyes must be seen."""


def eye_openness(motion: MotionSequence) -> Float[Tensor, "f"]:
    """Mean eye aspect ratio: height of the lids over width of the eye; NaN where not found."""
    ratios = []
    for eye in EYES:
        points = motion.points[:, list(eye)]
        outer, up, up_too, inner, down_too, down = points.unbind(1)
        height = (up - down).norm(dim=1) + (up_too - down_too).norm(dim=1)
        ratios.append(height / (2 * (outer - inner).norm(dim=1)))
    found = motion.valid[:, [point for eye in EYES for point in eye]].all(1)
    return torch.stack(ratios).mean(0).where(found, torch.nan)


def blinks(openness: Float[Tensor, "f"]) -> list[tuple[int, int]]:
    """First frame of each closure and the first after it; one that lasts counts once.

    The opening of these eyes is the 90 % quantile of the video, so that narrow eyes are not shut.
    Frames without eyes are passed over. A video that begins with shut eyes begins with a closure.

    Args:
        openness: How open the eyes are, in any unit that is 0 for shut ones.

    Raises:
        MetricError: Eyes in fewer than half of the frames, or never open.
    """
    seen = openness[~openness.isnan()]
    if len(seen) < max(1.0, FEWEST * len(openness)):
        raise MetricError(f"eyes are found in {len(seen)} of {len(openness)} frames only")
    usual = float(seen.double().quantile(0.9))
    if not usual > 0:
        raise MetricError("the eyes never open; is it a track of eyes?")
    closures, start = [], None
    for frame, value in enumerate(openness.tolist()):
        if start is None and value < CLOSED * usual:
            start = frame
        elif start is not None and value > REOPENED * usual:
            closures.append((start, frame))
            start = None
    return closures if start is None else [*closures, (start, len(openness))]


def blink_rate(openness: Float[Tensor, "f"]) -> float:
    """Blinks a minute of frames in which the eyes are seen; people who speak have 15 to 30.

    Args and errors are those of `blinks`.
    """
    seen = int((~openness.isnan()).sum())
    return len(blinks(openness)) / (seen / int(FPS) / 60)
