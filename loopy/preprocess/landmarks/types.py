"""What a landmark estimator takes and gives, whichever it is."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from loopy.errors import LoopyError
from loopy.motion.sequence import POINTS


@dataclass(frozen=True, eq=False)
class FaceLandmarks:
    """The face of one person in each of ``f`` frames.

    Args:
        points: iBUG-68 order, in pixels of the given frames (x right, y down); NaN where a point
            is missing.
        scores: Confidence of each point, 0 to 1; also given for missing points.
        boxes: The tracked person, left-top-right-bottom in pixels; NaN where nobody was found.
        people: How many people were found.
        pose: Yaw, pitch, roll of the head in radians, where the estimator knows them.

    Raises:
        LoopyError: Fields that disagree in length or shape.
    """

    points: Float[Tensor, "f 68 2"]
    scores: Float[Tensor, "f 68"]
    boxes: Float[Tensor, "f 4"]
    people: Int[Tensor, " f"]
    pose: Float[Tensor, "f 3"] | None = None

    def __post_init__(self) -> None:
        """Refuses fields that disagree."""
        shapes = {"points": (POINTS, 2), "scores": (POINTS,), "boxes": (4,), "people": ()}
        if self.pose is not None:
            shapes["pose"] = (3,)
        for name, shape in shapes.items():
            expected, got = (len(self.points), *shape), tuple(getattr(self, name).shape)
            if got != expected:
                raise LoopyError(f"{name} must have shape {expected}, got {got}")

    def __len__(self) -> int:
        """Number of frames."""
        return len(self.points)

    @property
    def valid(self) -> Bool[Tensor, "f 68"]:
        """Which points were found."""
        return ~torch.isnan(self.points).any(-1)


@runtime_checkable
class FollowingEstimator(Protocol):
    """An estimator that follows a face from frame to frame: it is given a shot in one call."""

    def follow(self, parts: Iterable[UInt8[Tensor, "f h w 3"]]) -> FaceLandmarks:
        """Points of one shot, whose consecutive RGB frames come some at a time."""
        ...


class LandmarkEstimator(Protocol):
    """Finds the 68 points of the face of one person."""

    def __call__(self, frames: UInt8[Tensor, "f h w 3"]) -> FaceLandmarks:
        """Points of consecutive RGB frames of one shot, which may come in several calls."""
        ...
