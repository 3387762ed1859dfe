"""Sounds that are no speech, and what rooms and microphones do to a voice."""

import torch
from jaxtyping import Float
from torch import Tensor

from loopy.randomness import uniform
from loopy.timing import SAMPLE_RATE_HZ


def random_noise(samples: int, generator: torch.Generator) -> Float[Tensor, " samples"]:
    """Background of RMS 1: hiss to rumble, sometimes with hum, gusts or taps.

    Args:
        samples: Length at 16 kHz.
        generator: Draws colour, hum, gusts and taps.
    """
    time_s = torch.arange(samples) / SAMPLE_RATE_HZ
    noise = _coloured(samples, uniform(0.0, 2.0, generator), generator)
    if uniform(0, 1, generator) < 0.3:
        hum_hz = 50 + 10 * int(torch.randint(2, (), generator=generator))
        loud = uniform(0.2, 1.5, generator)
        noise = noise + loud * sum(
            torch.sin(2 * torch.pi * hum_hz * k * time_s) / k for k in (1, 2, 3)
        )
    if uniform(0, 1, generator) < 0.4:
        gust_hz, phase = uniform(0.2, 3.0, generator), uniform(0, 6.28, generator)
        noise = noise * (1.1 + torch.sin(2 * torch.pi * gust_hz * time_s + phase))
    if uniform(0, 1, generator) < 0.3:
        taps = (torch.rand(samples, generator=generator) < 2.0 / SAMPLE_RATE_HZ).float()
        decay = torch.exp(-torch.arange(800) / 120.0) * torch.randn(800, generator=generator)
        noise = noise + 6 * _convolve(taps, decay)
    return noise / _rms(noise)


def mix_noise(
    sound: Float[Tensor, " samples"], noise: Float[Tensor, " samples"], *, snr_db: float
) -> Float[Tensor, " samples"]:
    """Sound with noise below it by a signal-to-noise ratio; silence stays as it is."""
    return sound + noise * (_rms(sound) / _rms(noise) * 10 ** (-snr_db / 20))


def augment(
    sound: Float[Tensor, " samples"], generator: torch.Generator
) -> Float[Tensor, " samples"]:
    """The same speech in another room and by another microphone; no delay is added.

    Equaliser and low-pass always vary; a short reverberation comes in four of ten cases, noise of
    5 to 60 dB SNR in eight of ten; the level varies by 20 dB.

    Args:
        sound: 16 kHz mono.
        generator: Draws all of it.
    """
    samples = len(sound)
    spectrum = torch.fft.rfft(sound, n=samples)
    sound = torch.fft.irfft(spectrum * _equaliser(len(spectrum), generator), n=samples)
    if uniform(0, 1, generator) < 0.4:
        sound = sound + _convolve(sound, _room(generator))
    if uniform(0, 1, generator) < 0.8:
        noise = random_noise(samples, generator)
        sound = mix_noise(sound, noise, snr_db=uniform(5, 60, generator))
    peak = sound.abs().max().clamp(min=1e-5)
    return sound / peak * 10 ** (-uniform(0, 20, generator) / 20) * (peak > 1e-5)


def _rms(sound: Tensor) -> Tensor:
    return sound.square().mean().sqrt().clamp(min=1e-8)


def _coloured(samples: int, slope: float, generator: torch.Generator) -> Tensor:
    """Noise whose power falls with frequency to the power `slope`: 0 white, 1 pink, 2 brown."""
    spectrum = torch.fft.rfft(torch.randn(samples, generator=generator))
    frequency = torch.linspace(0, SAMPLE_RATE_HZ / 2, len(spectrum)).clamp(min=30)
    noise = torch.fft.irfft(spectrum * frequency ** (-slope / 2), n=samples)
    return noise / _rms(noise)


def _equaliser(bins: int, generator: torch.Generator) -> Tensor:
    """Gain by frequency: knots of +-8 dB, one per 1.14 kHz, and a low-pass at 3 to 8 kHz."""
    knots_db = (torch.rand(1, 1, 8, generator=generator) - 0.5) * 16
    gain_db = torch.nn.functional.interpolate(
        knots_db, size=bins, mode="linear", align_corners=True
    )[0, 0]
    frequency = torch.linspace(0, SAMPLE_RATE_HZ / 2, bins)
    low_pass = torch.sigmoid((uniform(3_000, 12_000, generator) - frequency) / 200)
    return 10 ** (gain_db / 20) * low_pass


def _room(generator: torch.Generator) -> Tensor:
    """Reflections after the direct sound: noise that decays by 60 dB in 0.1 to 0.4 s."""
    decay_s = uniform(0.1, 0.4, generator)
    time_s = torch.arange(int(decay_s * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    tail = torch.randn(len(time_s), generator=generator) * 10 ** (-3 * time_s / decay_s)
    tail[: SAMPLE_RATE_HZ // 200] = 0
    return tail / tail.norm() * uniform(0.1, 0.7, generator)


def _convolve(sound: Tensor, kernel: Tensor) -> Tensor:
    """Causal convolution, cut to the length of the sound."""
    size = 1 << (len(sound) + len(kernel)).bit_length()
    product = torch.fft.rfft(sound, n=size) * torch.fft.rfft(kernel, n=size)
    return torch.fft.irfft(product, n=size)[: len(sound)]
