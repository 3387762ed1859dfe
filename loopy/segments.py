"""Temporal segment module: which past frames stand for which span of the past.

Loopy (arXiv 2409.02634) sec. 3.2. With stride ``s`` and expand ratio ``r``, segment ``k``
(nearest first) spans ``s r^k`` frames and gives ``s`` slots, so each slot stands for a
sub-bin of ``r^k`` frames. For ``s=4, r=2`` and 5 segments, 124 frames become 20::

    distance   123 ......... 60 | 59 .... 28 | 27 . 12 | 11 4 | 3 2 1 0 | clip
    segment           4         |     3      |    2    |  1   |    0    |
    sub-bin          16         |     8      |    4    |  2   |    1    |

The equation as printed gives one span per *segment*, which would make its ``s`` outputs
identical; the sub-bins are our reading (docs/decisions.md).
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from loopy.errors import ConfigurationError
from loopy.typed_values import check_fields

Mode = Literal["far", "middle", "near", "mean", "random", "random_symmetric"]

LARGEST = 1024
LONGEST_PAST = 100_000
"""Frames that a layout may cover: over an hour."""


@dataclass(frozen=True)
class SegmentLayout:
    """How the past is squeezed into slots.

    Args:
        stride: Slots of each segment (s).
        expand: Growth of the span from one segment to the next older one (r).
        segments: Number of segments (n).
        mode: Which frame stands for a sub-bin: its ``far`` end (the default: it reaches the
            whole past), ``middle`` or ``near`` end; the ``mean`` of its latents; a ``random``
            frame; or ``random_symmetric``, one random offset shared by a segment's sub-bins.

    Raises:
        ConfigurationError: A count below 1, a past of over an hour, or an unknown mode.
    """

    stride: int = 4
    expand: int = 2
    segments: int = 5
    mode: Mode = "far"

    def __post_init__(self) -> None:
        """Refuse layouts that cannot exist."""
        check_fields(self)
        for name in ("stride", "expand", "segments"):
            if not 1 <= getattr(self, name) <= LARGEST:
                raise ConfigurationError(
                    f"{name} must be at least 1 and at most {LARGEST}, got {getattr(self, name)}"
                )
        if self.past_frames > LONGEST_PAST:
            raise ConfigurationError(
                f"this layout covers over {LONGEST_PAST} frames; set a smaller stride, expand or "
                "segments"
            )

    @property
    def past_frames(self) -> int:
        """Frames of the past that are covered: s (r^n - 1) / (r - 1)."""
        return sum(self.stride * self.expand**k for k in range(self.segments))

    @property
    def slots(self) -> int:
        """Frames that stand for them: s n."""
        return self.stride * self.segments

    def sub_bins(self) -> tuple[tuple[int, int], ...]:
        """Distances ``[start, stop)`` of each slot's sub-bin, oldest first; 0 = newest frame."""
        bins: list[tuple[int, int]] = []
        start = 0
        for k in range(self.segments):
            width = self.expand**k
            for _ in range(self.stride):
                bins.append((start, start + width))
                start += width
        return tuple(reversed(bins))

    def distances(self, generator: torch.Generator | None = None) -> Int[Tensor, "m"]:
        """The distance each slot is read at, oldest first, as everything else in slots.

        Args:
            generator: Source of the random modes; they need one.

        Raises:
            ConfigurationError: ``mean`` (a slot then is no single frame), or a random mode
                without a generator.
        """
        match self.mode:
            case "far" | "middle" | "near":
                return torch.tensor(self._fixed())
            case "mean":
                raise ConfigurationError("mode 'mean' averages its sub-bins; call select() instead")
            case "random" | "random_symmetric":
                start, stop = torch.tensor(self.sub_bins()).unbind(1)
                return start + (self._shares(generator).to(start.device) * (stop - start)).long()

    def readings(self, clip_frames: int) -> list[tuple[int, int]]:
        """Since and until how many clips the frame of each slot is read, oldest slot first.

        0 and 0 where a slot is drawn or averaged anew for each clip.

        Args:
            clip_frames: By so many frames the past grows from clip to clip.
        """
        if self.mode not in ("far", "middle", "near"):
            return [(0, 0)] * self.slots
        oldest_first = self._fixed()
        last = {distance % clip_frames: distance for distance in reversed(oldest_first)}
        first = {distance % clip_frames: distance for distance in oldest_first}
        return [
            (
                (d - first[d % clip_frames]) // clip_frames,
                (last[d % clip_frames] - d) // clip_frames,
            )
            for d in oldest_first
        ]

    def _fixed(self) -> list[int]:
        """`distances` of the modes that read at the same ones for every clip."""
        return [self._distance(start, stop) for start, stop in self.sub_bins()]

    def _distance(self, start: int, stop: int) -> int:
        if self.mode == "far":
            return stop - 1
        return start if self.mode == "near" else (start + stop - 1) // 2

    def _shares(self, generator: torch.Generator | None) -> Float[Tensor, "m"]:
        """How far into its sub-bin each slot is read, in [0, 1); the nearest one draws first."""
        if generator is None:
            raise ConfigurationError(f"mode {self.mode!r} draws frames; give it a torch.Generator")
        if self.mode == "random":
            return torch.rand(self.slots, generator=generator, device=generator.device).flip(0)
        shared = torch.rand(self.segments, generator=generator, device=generator.device)
        return shared.repeat_interleave(self.stride).flip(0)

    def select(
        self, past: Float[Tensor, "b p c h w"], generator: torch.Generator | None = None
    ) -> tuple[Float[Tensor, "b m c h w"], Bool[Tensor, "b m"]]:
        """Squeeze a past of any length into the slots.

        A slot exists when the frame it is read at does (``mean``: when any frame of its
        sub-bin does, and then it averages those). Slots that do not exist are zero.

        Args:
            past: Latents of the frames made so far, oldest first; only the newest
                ``past_frames`` are read. May be empty.
            generator: Source of the random modes.

        Returns:
            The slots, oldest first, and which of them exist.
        """
        length = past.shape[1]
        if self.mode == "mean":
            slots, present = self._means(past)
        else:
            index = length - 1 - self.distances(generator).to(past.device)
            present = index >= 0
            shape = (past.shape[0], 0, *past.shape[2:])
            slots = past[:, index[present]] if length else past.new_zeros(shape)
            slots = torch.cat(
                [past.new_zeros(shape[0], int((~present).sum()), *shape[2:]), slots], 1
            )
        return slots, present.expand(past.shape[0], -1)

    def _means(
        self, past: Float[Tensor, "b p c h w"]
    ) -> tuple[Float[Tensor, "b m c h w"], Bool[Tensor, "m"]]:
        length = past.shape[1]
        spans = [(max(length - stop, 0), max(length - start, 0)) for start, stop in self.sub_bins()]
        means = [
            past[:, a:b].mean(1) if b > a else torch.zeros_like(past[:, :1].sum(1))
            for a, b in spans
        ]
        return torch.stack(means, 1), torch.tensor([b > a for a, b in spans], device=past.device)
