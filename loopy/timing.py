"""Frames <-> seconds <-> audio samples on one clock, with rational frame rates.

Frame ``f`` of a 25 fps video spans samples ``640 f .. 640 f + 639`` at 16 kHz.
"""

from fractions import Fraction

import torch
from jaxtyping import Int
from torch import Tensor

from loopy.errors import LoopyError

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


def neighbour_frames(frames: int, *, before: int = 2, after: int = 2) -> Int[Tensor, "f n"]:
    """For each frame the indices of itself and its neighbours, clamped at both ends.

    Loopy sec. 3.3: the audio of a frame is that of two frames before and two after it.

    Args:
        frames: Length of the sequence.
        before: Neighbours on the left.
        after: Neighbours on the right.
    """
    offsets = torch.arange(-before, after + 1)
    return (torch.arange(frames)[:, None] + offsets).clamp(0, max(frames - 1, 0))
