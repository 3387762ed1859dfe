"""Frames <-> seconds <-> audio samples on one clock, with rational frame rates.

Frame ``f`` of a 25 fps video spans samples ``640 f .. 640 f + 639`` at 16 kHz.
"""

from dataclasses import dataclass
from fractions import Fraction
from typing import Self

import torch
from jaxtyping import Int
from torch import Tensor

from loopy.errors import ConfigurationError, LoopyError

FPS = Fraction(25)
SAMPLE_RATE_HZ = 16_000


def frame_count(samples: int, *, rate_hz: int = SAMPLE_RATE_HZ, fps: Fraction | int = FPS) -> int:
    """Number of frames of a sound: round(seconds x fps), halves up.

    Args:
        samples: Length of the sound.
        rate_hz: Its sample rate.
        fps: Frames a second.

    Raises:
        LoopyError: A negative length.
    """
    if samples < 0:
        raise LoopyError(f"a sound cannot have {samples} samples; give a length of 0 or more")
    return int(Fraction(samples, rate_hz) * fps + Fraction(1, 2))


def sample_span(
    frame: int, *, rate_hz: int = SAMPLE_RATE_HZ, fps: Fraction | int = FPS
) -> tuple[int, int]:
    """First sample of a frame and the first one after it (each boundary rounded, halves up).

    Spans of neighbouring frames meet exactly: no sample is lost or counted twice.
    """
    start, stop = (
        int(Fraction(edge * rate_hz) / fps + Fraction(1, 2)) for edge in (frame, frame + 1)
    )
    return start, stop


@dataclass(frozen=True)
class AudioWindow:
    """Which frames' audio a frame hears: its own, and that of neighbours.

    Loopy sec. 3.3: that of two frames before and two after it. Encoder, data and projection are
    given the same one; what a model hears follows from its projection.

    Args:
        before: Neighbours on the left.
        after: Neighbours on the right.

    Raises:
        ConfigurationError: Fewer than 0.
    """

    before: int = 2
    after: int = 2

    def __post_init__(self) -> None:
        """Refuse windows without the frame itself."""
        if min(self.before, self.after) < 0:
            raise ConfigurationError(f"neighbours of a frame are 0 or more, got {self}")

    @classmethod
    def of(cls, frames: int) -> Self:
        """The window of so many frames that has the frame itself in its middle.

        Raises:
            ConfigurationError: An even number, or none.
        """
        if frames < 1 or frames % 2 == 0:
            raise ConfigurationError(
                f"an audio window is a frame and as many before as after it: 1, 3, 5 ... frames, "
                f"got {frames}"
            )
        return cls(frames // 2, frames // 2)

    @property
    def frames(self) -> int:
        """How many a frame hears, itself included."""
        return self.before + 1 + self.after

    def indices(self, span: range, total: int) -> Int[Tensor, "f n"]:
        """For each frame of a span the indices of itself and its neighbours.

        Args:
            span: Consecutive frames.
            total: Length of the sequence: what lies outside it is its first or last frame.
        """
        own = torch.arange(span.start, span.stop)[:, None]
        return (own + torch.arange(-self.before, self.after + 1)).clamp(0, max(total - 1, 0))
