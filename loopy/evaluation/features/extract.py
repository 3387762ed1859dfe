"""A video to numbers, in memory that stays flat.

One pass over its frames serves all who need nothing but frames: each takes them part by part and
gives a tensor at the end. Who needs what those have seen, as a face's points, goes over the video
again, each by himself: the box of a face is known only when all of its points are. One that cannot
tell says why; the others go on.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Protocol

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from loopy.data.media.sound import read_audio
from loopy.data.media.video_reader import in_parts, iterate_frames
from loopy.errors import LoopyError, MetricError
from loopy.metrics.extractors import FrameFeatures, Interpolator, SegmentFeatures, check_numbers
from loopy.metrics.smoothness import smoothness
from loopy.metrics.video_features import SEGMENT, segments

PART = 64
"""Frames in memory at a time: whole stretches of 16, and an even number."""
PART_BYTES = 2**29
"""Most bytes of them: 64 frames of 1920 x 1080; of larger ones 48, 32 or 16."""


@dataclass(frozen=True, eq=False)
class Film:
    """A video to look at, 25 frames a second.

    Attributes:
        path: The file.
        given: The portrait; None where there is none.
    """

    path: Path
    given: UInt8[Tensor, "h w 3"] | None

    @property
    def portrait(self) -> UInt8[Tensor, "h w 3"]:
        """Whom it shall show.

        Raises:
            MetricError: There is no portrait.
        """
        if self.given is None:
            raise MetricError("needs --real: the portrait is the first frame of the real video")
        return self.given

    def parts(self) -> Iterator[UInt8[Tensor, "_n h w 3"]]:
        """Its frames, `PART` at a time, of large ones fewer."""
        frames = iterate_frames(self.path)
        yield from in_parts(frames, most=PART, most_bytes=PART_BYTES, multiple=SEGMENT)

    @cached_property
    def sound(self) -> Float[Tensor, " samples"]:
        """Its sound."""
        return read_audio(self.path, zero="pictures")


@dataclass(frozen=True, eq=False)
class Look:
    """What was seen in a video.

    Attributes:
        seen: Tensors by who looked; "size" is frames, height and width.
        problems: Why somebody could not tell.
    """

    seen: Mapping[str, Tensor]
    problems: Mapping[str, str] = field(default_factory=dict)

    def get(self, name: str) -> Tensor:
        """A tensor.

        Raises:
            MetricError: Who should have given it could not tell.
        """
        if name not in self.seen:
            raise MetricError(self.problems.get(name, f"{name} was not looked at"))
        return self.seen[name]


class Looker(Protocol):
    """Sees all frames of one video, in order."""

    def take(self, part: UInt8[Tensor, "n h w 3"]) -> None:
        """Sees the next frames: whole stretches of 16, but at the end."""
        ...

    def give(self) -> Tensor:
        """What was seen."""
        ...


Lookers = Mapping[str, Callable[[Film], Looker]]
Later = Mapping[str, Callable[[Film, Look], Tensor]]
"""Who needs what others have seen before, and goes over the video by himself."""


def look(film: Film, lookers: Lookers, later: Later) -> Look:
    """Looks at a video.

    Args:
        film: The video.
        lookers: Who looks, by name.
        later: Who looks afterwards, by name.

    Raises:
        MediaError: The video cannot be read, or is empty.
    """
    problems, seen = dict[str, str](), dict[str, Tensor]()
    at_work, size = dict[str, Looker](), [0, 0, 0]
    for name, begin in lookers.items():
        with _noted(name, problems):
            at_work[name] = begin(film)
    for part in film.parts():
        size = [size[0] + len(part), *part.shape[1:3]]
        for name, looker in at_work.items():
            if name not in problems:
                with _noted(name, problems):
                    looker.take(part)
    for name, looker in at_work.items():
        if name not in problems:
            with _noted(name, problems):
                seen[name] = looker.give()
    seen["size"] = torch.tensor(size)
    for name, go in later.items():
        with _noted(name, problems):
            seen[name] = go(film, Look(seen, problems))
    return Look(seen, problems)


@contextmanager
def _noted(name: str, problems: dict[str, str]) -> Iterator[None]:
    """Keeps why somebody could not tell, so that the others can go on."""
    try:
        yield
    except LoopyError as error:
        problems[name] = str(error)


class EachFrame:
    """Rows of a function of frames.

    Args:
        function: Frames to a row each.
    """

    def __init__(self, function: FrameFeatures | Callable[[Tensor], Tensor]) -> None:
        self._function, self._rows = function, list[Tensor]()

    def take(self, part: UInt8[Tensor, "n h w 3"]) -> None:
        """Sees the next frames."""
        self._rows.append(self._function(part).float().cpu())

    def give(self) -> Float[Tensor, "f *d"]:
        """A row for each frame.

        Raises:
            MetricError: There was no frame.
        """
        if not self._rows:
            raise MetricError("a video without frames")
        return torch.cat(self._rows)


class Stretches:
    """`loopy.metrics.video_features.video_features`, part by part.

    Args:
        network: Features of 16 frames.
    """

    def __init__(self, network: SegmentFeatures) -> None:
        self._network, self._rows, self._frames = network, list[Tensor](), 0

    def take(self, part: UInt8[Tensor, "n h w 3"]) -> None:
        """Sees the next frames.

        Raises:
            MetricError: The whole video is shorter than a stretch.
        """
        if self._frames:  # the last stretch may be short, as long as the video is not
            missing = max(0, SEGMENT - len(part))
            part = torch.cat([part, part[-1:].expand(missing, -1, -1, -1)])
        self._frames += len(part)
        self._rows += [self._network(some).float().cpu() for some in segments(part).split(4)]

    def give(self) -> Float[Tensor, "d"]:
        """The mean over stretches."""
        features = torch.cat(self._rows)
        check_numbers(features, name="the features of stretches")
        return features.mean(0)


class Between:
    """`loopy.metrics.smoothness.smoothness`, part by part.

    Args:
        interpolator: Makes up a picture between two.
    """

    def __init__(self, interpolator: Interpolator) -> None:
        self._interpolator, self._before = interpolator, list[Tensor]()
        self._total, self._count = 0.0, 0

    def take(self, part: UInt8[Tensor, "n h w 3"]) -> None:
        """Sees the next frames."""
        part = torch.cat([*self._before, part])
        if len(part) > 2:
            count = (len(part) - 1) // 2
            self._total += smoothness(part, self._interpolator) * count
            self._count += count
        self._before = [part[-2 + len(part) % 2 :]]  # from the last one that was kept

    def give(self) -> Float[Tensor, ""]:
        """Mean over the frames that were made up.

        Raises:
            MetricError: Fewer than 3 frames.
        """
        if not self._count:
            raise MetricError("smoothness needs 3 frames")
        return torch.tensor(self._total / self._count, dtype=torch.float64)
