"""How different the videos are that other seeds make of the same portrait and sound."""

from itertools import combinations

import torch

from loopy.errors import MetricError
from loopy.metrics.extractors import check_numbers
from loopy.motion import MotionSequence
from loopy.motion.measures import REFERENCE_SIZE_PX


def motion_diversity(motions: list[MotionSequence]) -> float:
    """Mean distance of a point between two seeds' videos, in px at 512; not counting lost points.

    Args:
        motions: One track for each seed, of equal length.

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
