"""Extractors that need frames alone: rows, differences, means of segments, smoothness."""

from collections.abc import Callable, Sequence

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
    """

    def __init__(self, function: Callable[..., Tensor], track: Tensor | None = None) -> None:
        self._function, self._track = function, track
        self._rows, self._frames = list[Tensor](), 0

    def update(self, frames: UInt8[Tensor, "n h w 3"]) -> None:
        """Takes the next frames."""
        start, self._frames = self._frames, self._frames + len(frames)
        more = [] if self._track is None else [self._track[start : self._frames]]
        self._rows.append(self._function(frames, *more).float().cpu())

    def compute(self) -> Float[Tensor, "f *d"]:
        """All rows.

        Raises:
            MetricError: There was no frame.
        """
        if not self._rows:
            raise MetricError("a video without frames")
        return torch.cat(self._rows)


class FramePairs:
    """A number for each frame but the first.

    Args:
        function: Earlier and later frames (n 3 h w), as float in 0 to 255, to a number each.
    """

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        self._function, self._before, self._rows = function, list[Tensor](), list[Tensor]()

    def update(self, frames: UInt8[Tensor, "n h w 3"]) -> None:
        """Takes the next frames."""
        pictures = torch.cat([*self._before, frames.permute(0, 3, 1, 2).float()])
        if len(pictures) > 1:
            self._rows.append(self._function(pictures[:-1], pictures[1:]))
        self._before = [pictures[-1:]]

    def compute(self) -> Float[Tensor, "f-1"]:
        """All numbers.

        Raises:
            MetricError: There was one frame at most.
        """
        if not self._rows:
            raise MetricError("a video of one frame has no changes")
        return torch.cat(self._rows)


class FramesAt:
    """Some of the frames.

    Args:
        numbers: Which, in ascending order.
    """

    def __init__(self, numbers: Sequence[int]) -> None:
        self._numbers, self._kept, self._frames = numbers, list[Tensor](), 0

    def update(self, frames: UInt8[Tensor, "n h w 3"]) -> None:
        """Takes the next frames."""
        start, self._frames = self._frames, self._frames + len(frames)
        self._kept.append(frames[[n - start for n in self._numbers if start <= n < self._frames]])

    def compute(self) -> UInt8[Tensor, "s h w 3"]:
        """The chosen frames."""
        return torch.cat(self._kept)


class SegmentMean:
    """`loopy.metrics.video_features.video_features`, part by part.

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
