"""Mel-frequency cepstral coefficients as SyncNet was trained on: python_speech_features' defaults.

Frames of 25 ms every 10 ms without a window function, 512 points, 26 triangles on the mel scale, 13
coefficients liftered by 22, the first of them replaced by the log of the energy.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from loopy.timing import SAMPLE_RATE_HZ

COEFFICIENTS = 13
STEP_SAMPLES = 160
_FRAME_SAMPLES, _POINTS, _BANDS, _LIFTER, _EMPHASIS = 400, 512, 26, 22, 0.97
_EPSILON = torch.finfo(torch.float64).eps
_INT16 = 32768


def mfcc(audio: Float[Tensor, "n"]) -> Float[Tensor, "t 13"]:
    """Coefficients of a sound, 100 times a second.

    Args:
        audio: Mono, 16 kHz, in [-1, 1]; scaled here to the 16-bit range that SyncNet knows. At
            least one sample.
    """
    sound = audio.double() * _INT16
    sound = torch.cat([sound[:1], sound[1:] - _EMPHASIS * sound[:-1]])
    frames = 1 + max(0, math.ceil((len(sound) - _FRAME_SAMPLES) / STEP_SAMPLES))
    length = (frames - 1) * STEP_SAMPLES + _FRAME_SAMPLES
    padded = torch.cat([sound, sound.new_zeros(length - len(sound))])
    power = torch.fft.rfft(padded.unfold(0, _FRAME_SAMPLES, STEP_SAMPLES), _POINTS).abs() ** 2
    power = power / _POINTS
    bands = power @ _triangles().to(power).T
    cepstrum = bands.clamp(min=_EPSILON).log() @ _cosines().to(power).T
    energy = power.sum(1).clamp(min=_EPSILON).log()
    return torch.cat([energy[:, None], cepstrum[:, 1:]], 1).float()


def _triangles() -> Float[Tensor, "26 257"]:
    """Filters that rise and fall in a line between points evenly spaced on the mel scale."""
    top = 2595 * math.log10(1 + SAMPLE_RATE_HZ / 2 / 700)
    mels = torch.linspace(0, top, _BANDS + 2, dtype=torch.float64)
    hertz = 700 * (10 ** (mels / 2595) - 1)
    edges = ((_POINTS + 1) * hertz / SAMPLE_RATE_HZ).floor()
    left, middle, right = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    points = torch.arange(_POINTS // 2 + 1, dtype=torch.float64)
    rising, falling = (points - left) / (middle - left), (right - points) / (right - middle)
    inside = (points >= left) & (points < right)
    return torch.where(points < middle, rising, falling) * inside


def _cosines() -> Float[Tensor, "13 26"]:
    """The orthonormal cosine transform (type 2), its rows weighted by the lifter."""
    order = torch.arange(COEFFICIENTS, dtype=torch.float64)[:, None]
    place = torch.arange(_BANDS, dtype=torch.float64) + 0.5
    basis = (math.pi * order * place / _BANDS).cos() * math.sqrt(2 / _BANDS)
    return basis * (1 + _LIFTER / 2 * (math.pi * order / _LIFTER).sin())
