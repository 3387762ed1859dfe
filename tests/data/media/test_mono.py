"""The voice is heard, in whatever channels it is, and ordinary stereo is averaged as ever."""

import numpy as np
import pytest
import torch

from loopy.data.media.sound import check_audio, read_audio

RATE_HZ = 16_000
RANDOM = np.random.default_rng(0)


def tone(hz, loudness=0.3, seconds=2):
    """Not all the time, as nobody speaks all the time."""
    time = np.arange(seconds * RATE_HZ) / RATE_HZ
    return loudness * np.sin(2 * np.pi * hz * time) * (time % 1 < 0.7)


VOICE, MUSIC = tone(200), tone(1_500)
HUM = np.full(len(VOICE), 0.02) + tone(60, 0.05)
QUIET = RANDOM.normal(0, 1e-4, len(VOICE))
SILENCE = np.zeros(len(VOICE))


def share(samples, hz):
    """Share of a tone in the power of a sound."""
    power = np.abs(np.fft.rfft(np.asarray(samples) - float(np.mean(np.asarray(samples))))) ** 2
    place = hz * len(samples) // RATE_HZ
    return power[place - 30 : place + 31].sum() / power.sum()


CASES = {  # layout, channels, least share of the voice
    "opposite phase": ("stereo", [VOICE, -VOICE], 0.99),
    "one of them softer": ("stereo", [VOICE, -0.8 * VOICE], 0.99),
    "nearly opposite, with a hum in phase": ("stereo", [VOICE + HUM, -0.9 * VOICE + HUM], 0.9),
    "the side is the voice, the middle is soft music": (
        "stereo",
        [VOICE + 0.3 * MUSIC, -VOICE + 0.3 * MUSIC],
        0.8,
    ),
    "left silent": ("stereo", [SILENCE, VOICE], 0.99),
    "right silent": ("stereo", [VOICE, SILENCE], 0.99),
    "the same twice": ("stereo", [VOICE, VOICE], 0.99),
    "centre of 5.1": ("5.1", [MUSIC, MUSIC, 0.3 * VOICE, MUSIC, MUSIC, MUSIC], 0.99),
    "centre of 5.1 (side)": ("5.1(side)", [MUSIC, MUSIC, VOICE, MUSIC, MUSIC, MUSIC], 0.99),
    "centre of 3.0": ("3.0", [MUSIC, MUSIC, 0.5 * VOICE], 0.99),
    "centre of 7.1": ("7.1", [MUSIC, MUSIC, VOICE, *[MUSIC] * 5], 0.99),
    "5.1 with a dead centre": ("5.1", [VOICE, VOICE, QUIET, SILENCE, QUIET, QUIET], 0.99),
    "5.1 in opposite phase": ("5.1", [VOICE, -VOICE, SILENCE, SILENCE, VOICE, -VOICE], 0.99),
    "quad": ("quad", [VOICE, -VOICE, SILENCE, SILENCE], 0.99),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("codec", ["pcm_s16le", "flac"])
def test_the_voice_is_heard(tmp_path, write_sound, case, codec):
    layout, channels, least = CASES[case]
    suffix = "flac" if codec == "flac" else "wav"
    path = write_sound(tmp_path / f"in.{suffix}", np.stack(channels), RATE_HZ, codec, layout=layout)
    heard = read_audio(path).numpy()
    assert share(heard, 200) > least
    assert heard.std() > 0.03
    if layout in ("stereo", "5.1", "7.1", "quad"):
        again = check_audio(np.stack(channels, 1)).numpy()
        assert share(again, 200) > least
        assert again.std() == pytest.approx(heard.std(), rel=0.01)


@pytest.mark.parametrize("delay", [0, 1, 5, 16])
def test_ordinary_stereo_is_averaged_to_the_bit(tmp_path, write_sound, delay):
    """Two microphones: the same voice a little later, noise of their own, another loudness."""
    voice = np.convolve(RANDOM.normal(0, 0.2, RATE_HZ * 2), np.ones(12) / 6, "same")
    left = voice + RANDOM.normal(0, 0.02, len(voice))
    right = 0.6 * np.roll(voice, delay) + RANDOM.normal(0, 0.02, len(voice))
    both = np.stack([left, right]).clip(-1, 1).astype(np.float32)
    path = write_sound(tmp_path / "in.wav", both, RATE_HZ, "pcm_f32le")
    assert torch.equal(read_audio(path), torch.from_numpy(both.mean(0)))
    assert torch.equal(check_audio(both.T), torch.from_numpy(both.mean(0)))


def test_no_relation_is_averaged(tmp_path, write_sound):
    both = RANDOM.uniform(-1, 1, (2, RATE_HZ)).astype(np.float32)
    path = write_sound(tmp_path / "in.wav", both, RATE_HZ, "pcm_f32le")
    assert torch.equal(read_audio(path), torch.from_numpy(both.mean(0)))
