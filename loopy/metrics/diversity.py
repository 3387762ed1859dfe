"""How different the videos are that other seeds make of the same portrait and sound."""

import torch
from jaxtyping import Float
from torch import Tensor

from loopy.errors import MetricError
from loopy.metrics.extractors import check_numbers
from loopy.motion import MotionSequence
from loopy.motion.measures import REFERENCE_SIZE_PX


def diversity(tracks: Float[Tensor, "s f k"]) -> float:
    """Mean Euclidean distance of two seeds' rows in the same frame, over frames and pairs.

    Args:
        tracks: One video for each seed, of equal length: poses, points or features. Unit of those.

    Raises:
        MetricError: Fewer than 2 seeds, no frames, or NaN.
    """
    if len(tracks) < 2 or tracks.shape[1] == 0:
        raise MetricError(
            f"diversity needs 2 seeds with frames, got {len(tracks)} of {tracks.shape[1]} frames"
        )
    check_numbers(tracks.flatten(1), name="the tracks")
    first, second = torch.triu_indices(len(tracks), len(tracks), offset=1)
    pairs = [
        (tracks[int(i)].double() - tracks[int(j)].double()).norm(dim=-1).mean()
        for i, j in zip(first, second, strict=True)
    ]
    return float(torch.stack(pairs).mean())


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
    return diversity(torch.stack([points[found] for points in scaled]))
