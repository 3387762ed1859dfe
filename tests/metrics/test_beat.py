"""Independent reference: scipy.signal's extrema, and the score of each beat by hand."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import uniform_filter1d
from scipy.signal import argrelmax, argrelmin

from loopy.errors import MetricError
from loopy.metrics.beat import beat_alignment, beats, head_speed, speech_energy
from loopy.motion import NOSE_TIP, MotionSequence


def track(nose):
    points = torch.zeros(len(nose), 68, 2)
    points[:, NOSE_TIP] = torch.as_tensor(np.asarray(nose), dtype=torch.float32)
    valid = torch.ones(len(nose), 68, dtype=torch.bool)
    return MotionSequence(points, torch.zeros(len(nose), 3), valid, 512)


def test_beats_and_score_equal_scipys():
    """References: argrelmin and argrelmax; exp of the squared distance, beat by beat."""
    dice = np.random.default_rng(0)
    speed, energy = dice.random((2, 120))
    smooth = np.convolve(np.pad(energy, 2), np.ones(5), "valid") / np.convolve(
        np.pad(np.ones(120), 2), np.ones(5), "valid"
    )
    head, voice = argrelmin(speed)[0], argrelmax(smooth)[0]
    assert beats(-torch.from_numpy(speed)).tolist() == head.tolist()
    scores = [np.exp(-(np.abs(voice - beat).min() ** 2) / (2 * 2.5**2)) for beat in head]
    found = beat_alignment(torch.from_numpy(speed), torch.from_numpy(energy))
    assert found.score == pytest.approx(np.mean(scores))


def test_a_head_that_beats_with_the_voice_gains_and_another_does_not():
    time = np.arange(200)
    voice = torch.from_numpy(1 + np.cos(time * 2 * np.pi / 20))
    with_it = beat_alignment(2 - voice, voice)
    assert with_it.score > 0.99
    assert with_it.gain > 0.3
    against = beat_alignment(voice, voice)
    assert against.gain < -0.2
    other = torch.from_numpy(1 + np.cos(time * 2 * np.pi / 17.3 + 1))
    assert abs(beat_alignment(other, voice).gain) < 0.1


def test_energy_is_that_of_the_samples_of_a_frame():
    """Reference: numpy over blocks of 640 samples."""
    audio = torch.randn(640 * 10 + 99)
    blocks = audio[:6400].numpy().astype(float).reshape(10, 640)
    assert speech_energy(audio, frames=10).numpy() == pytest.approx(np.sqrt((blocks**2).mean(1)))
    with pytest.raises(MetricError, match="11 frames need 7040 samples of sound, got 6499"):
        speech_energy(audio, frames=11)


def test_speed_is_that_of_the_smoothed_nose():
    """Reference: scipy.ndimage.uniform_filter1d, away from the ends."""
    nose = np.random.default_rng(1).normal(size=(40, 2)).cumsum(0).astype(np.float32)
    places = uniform_filter1d(nose.astype(float), 5, axis=0)
    expected = np.linalg.norm(np.diff(places, axis=0), axis=1)
    assert head_speed(track(nose)).numpy()[4:37] == pytest.approx(expected[3:36], rel=1e-4)


def test_what_has_no_beat_is_refused():
    energy = torch.rand(50)
    with pytest.raises(MetricError, match="keeps still"):
        beat_alignment(head_speed(track(np.ones((50, 2)))), energy)
    with pytest.raises(MetricError, match="0 of the voice"):
        beat_alignment(energy, torch.zeros(50))
    with pytest.raises(MetricError, match="50 frames of head and 40 of voice"):
        beat_alignment(energy, energy[:40])
    with pytest.raises(MetricError, match="needs 2 frames"):
        head_speed(track(np.ones((1, 2))))


@pytest.mark.parametrize("size_px", [128, 512])
def test_what_a_codec_does_to_a_held_picture_is_no_beat(size_px):
    """Found by tests/benchmarks/sensitivity.py: 5 of 12 still portraits had a figure."""
    wobble = np.random.default_rng(3).normal(size=(50, 2))
    wobble *= 0.02 / float(head_speed(track(wobble)).max())
    talks = 1.0 / 0.02 * wobble

    def speed(nose):
        return head_speed(replace(track(nose * size_px / 512), size_px=size_px))

    energy = torch.rand(50)
    with pytest.raises(MetricError, match="keeps still"):
        beat_alignment(speed(wobble), energy)
    assert beat_alignment(speed(talks), energy).score > 0
