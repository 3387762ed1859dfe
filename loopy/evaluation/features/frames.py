"""Extractors that need frames alone: rows, means of segments, smoothness."""

from collections.abc import Callable

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from loopy.errors import MetricError
from loopy.metrics.extractors import Interpolator, SegmentFeatures, check_numbers
from loopy.metrics.smoothness import smoothness
from loopy.metrics.video_features import SEGMENT, segments


class FrameRows:
    """A row for each frame.

    Args:
        function: Frames to rows.
        track: Values of each frame that the function takes too, for example a box.
        before: Frames before those of a row that the function takes too; without them no row.
    """

    def __init__(
        self, function: Callable[..., Tensor], track: Tensor | None = None, *, before: int = 0
    ) -> None:
        self._function, self._track, self._before = function, track, before
        self._last, self._rows, self._frames = list[Tensor](), list[Tensor](), 0

    def update(self, frames: UInt8[Tensor, "n h w 3"]) -> None:
        """Takes the next frames."""
        start, self._frames = self._frames, self._frames + len(frames)
        more = [] if self._track is None else [self._track[start : self._frames]]
        frames = torch.cat([*self._last, frames]) if self._last else frames
        self._last = [frames[-self._before :]] if self._before else []
        if len(frames) > self._before:
            rows = self._function(frames, *more).cpu()
            self._rows.append(rows.float() if rows.is_floating_point() else rows)

    def compute(self) -> Float[Tensor, "f *d"]:
        """All rows.

        Raises:
            MetricError: There was no frame, or none with others before it.
        """
        if not self._rows:
            raise MetricError(f"a video of {self._frames} frames is too short")
        return torch.cat(self._rows)


class SegmentMean:
    """The mean of the features of stretches of 16 frames, part by part.

    Args:
        network: Features of 16 frames.
    """

    def __init__(self, network: SegmentFeatures) -> None:
        self._network, self._rows = network, list[Tensor]()

    def update(self, frames: UInt8[Tensor, "n h w 3"]) -> None:
        """Takes the next frames.

        Raises:
            MetricError: The whole video is shorter than a segment.
        """
        if self._rows:  # the last segment may be short, as long as the video is not
            missing = max(0, SEGMENT - len(frames))
            frames = torch.cat([frames, frames[-1:].expand(missing, -1, -1, -1)])
        self._rows += [self._network(some).float().cpu() for some in segments(frames).split(4)]

    def compute(self) -> Float[Tensor, "d"]:
        """The mean over segments."""
        features = torch.cat(self._rows)
        check_numbers(features, name="the features of segments")
        return features.mean(0)


class PartSmoothness:
    """`loopy.metrics.smoothness.smoothness`, part by part.

    Args:
        interpolator: Makes up a picture between two.
    """

    def __init__(self, interpolator: Interpolator) -> None:
        self._interpolator, self._before = interpolator, list[Tensor]()
        self._total, self._count = 0.0, 0

    def update(self, frames: UInt8[Tensor, "n h w 3"]) -> None:
        """Takes the next frames."""
        frames = torch.cat([*self._before, frames])
        if len(frames) > 2:
            count = (len(frames) - 1) // 2
            self._total += smoothness(frames, self._interpolator) * count
            self._count += count
        self._before = [frames[-2 + len(frames) % 2 :]]  # from the last one of the even places

    def compute(self) -> Float[Tensor, ""]:
        """Mean over the frames that were made up.

        Raises:
            MetricError: Fewer than 3 frames.
        """
        if not self._count:
            raise MetricError("smoothness needs 3 frames")
        return torch.tensor(self._total / self._count, dtype=torch.float64)
