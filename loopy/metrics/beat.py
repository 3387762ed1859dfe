"""Does the head move with the voice? Beat alignment (Li et al. 2021) against speech energy.

The mean over beats of the head of exp(-d^2 / 2 s^2), d being the time to the nearest beat of the
voice. AIST++ aligns dances with music; here a beat of the head is a moment at which its speed is
smallest, one of the voice a moment at which its energy is largest. Speech has so many beats that a
head which knows nothing of it scores well: the figure beside it is what the same head has with the
voice shifted in time, mean over all shifts, and the difference of the two is what says something.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from loopy.errors import MetricError
from loopy.metrics.extractors import check_numbers
from loopy.motion import NOSE_TIP, MotionSequence
from loopy.motion.measures import REFERENCE_SIZE_PX
from loopy.timing import FPS, SAMPLE_RATE_HZ

_WIDTH_FRAMES = 0.1 * int(FPS)
_STILL_PX = 0.05
"""Noses that never move as much a frame, at 512 px, are still: in a portrait that H.264 has held
they reach 0.02, those of toons who talk 1 at least."""


class BeatAlignment(NamedTuple):
    """How well the beats of head and voice meet, in [0, 1], and what this head has by chance."""

    score: float
    chance: float

    @property
    def gain(self) -> float:
        """Score less chance."""
        return self.score - self.chance


def speech_energy(audio: Float[Tensor, "n"], *, frames: int) -> Float[Tensor, "{frames}"]:
    """Root mean square of the sound of each frame (16 kHz, 25 frames a second).

    Raises:
        MetricError: The sound ends before the last frame.
    """
    needed = frames * SAMPLE_RATE_HZ // int(FPS)
    if frames < 1 or len(audio) < needed:
        raise MetricError(
            f"{frames} frames need {needed} samples of sound, got {len(audio)}; cut the video"
        )
    return audio[:needed].double().unflatten(0, (frames, -1)).square().mean(1).sqrt()


def head_speed(motion: MotionSequence) -> Float[Tensor, "f"]:
    """Speed of the nose tip in px a frame at 512 px, smoothed; the first frame repeats the second.

    Raises:
        MetricError: The nose tip is lost in a frame, or there are fewer than 2.
    """
    if len(motion) < 2 or not bool(motion.valid[:, NOSE_TIP].all()):
        raise MetricError("head speed needs 2 frames, with the nose tip found in each")
    scale = REFERENCE_SIZE_PX / motion.size_px
    places = smoothed(motion.points[:, NOSE_TIP].double() * scale)
    speed = (places[1:] - places[:-1]).norm(dim=1)
    return torch.cat([speed[:1], speed])


def beats(track: Float[Tensor, "f"]) -> Int[Tensor, "n"]:
    """Frames that are higher than the one before and no lower than the one behind."""
    rising, falling = track[1:-1] > track[:-2], track[1:-1] >= track[2:]
    return torch.nonzero(rising & falling)[:, 0] + 1


def beat_alignment(speed: Float[Tensor, "f"], energy: Float[Tensor, "f"]) -> BeatAlignment:
    """Alignment of one video, of `head_speed` and the voice's energy in each frame.

    Raises:
        MetricError: Different lengths, NaN, or a head or a voice without a beat.
    """
    if speed.shape != energy.shape:
        raise MetricError(f"{len(speed)} frames of head and {len(energy)} of voice; cut one")
    check_numbers(speed, name="speeds of the head")
    check_numbers(energy, name="energies of the voice")
    if len(speed) < 3 or float(speed.max()) < _STILL_PX:
        raise MetricError("the head keeps still, so that it has no beats to align")
    head = beats(-speed.double())
    smooth = smoothed(energy.double()[:, None])[:, 0]
    voice = beats(smooth)
    if not len(head) or not len(voice):
        raise MetricError(f"{len(head)} beats of the head and {len(voice)} of the voice; needs one")
    scores = torch.stack([_score(head, beats(smooth.roll(shift))) for shift in range(len(smooth))])
    return BeatAlignment(float(_score(head, voice)), float(scores.nanmean()))


def smoothed(tracks: Float[Tensor, "f k"]) -> Float[Tensor, "f k"]:
    """Mean over 5 neighbouring frames; fewer at both ends. A tracker's noise is not movement."""
    return functional.avg_pool1d(tracks.T[None], 5, 1, 2, count_include_pad=False)[0].T


def _score(head: Tensor, voice: Tensor) -> Tensor:
    apart = (head[:, None] - voice).abs().double()
    if not len(voice):
        return torch.tensor(torch.nan, dtype=torch.float64)
    return (-apart.amin(1).square() / (2 * _WIDTH_FRAMES**2)).exp().mean()
