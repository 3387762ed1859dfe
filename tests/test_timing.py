"""One clock: frames, seconds and samples, exactly."""

from fractions import Fraction
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from loopy.errors import ConfigurationError, LoopyError
from loopy.timing import AudioWindow, frame_count, sample_span

RATES = st.sampled_from([8_000, 16_000, 22_050, 44_100, 48_000])
FPS = st.sampled_from([Fraction(24_000, 1001), 24, 25, Fraction(30_000, 1001), 30, 50, 60])


def test_frames_of_known_lengths():
    assert frame_count(16_000) == 25
    assert frame_count(320) == 1  # half a frame counts
    assert frame_count(319) == 0
    assert frame_count(0) == 0
    assert frame_count(48_000 * 1001, rate_hz=48_000, fps=Fraction(24_000, 1001)) == 24_000


@given(samples=st.integers(0, 10**9), rate_hz=RATES, fps=FPS)
def test_frames_are_the_nearest_number(samples, rate_hz, fps):
    frames = frame_count(samples, rate_hz=rate_hz, fps=fps)
    difference = Fraction(samples, rate_hz) * fps - frames
    assert -Fraction(1, 2) <= difference < Fraction(1, 2)


def test_negative_length_is_refused():
    with pytest.raises(LoopyError, match="-1 samples"):
        frame_count(-1)


def test_default_span_is_640_samples():
    assert sample_span(0) == (0, 640)
    assert sample_span(7) == (4480, 5120)


@given(frame=st.integers(0, 10**7), rate_hz=RATES, fps=FPS)
def test_spans_meet_and_never_drift(frame, rate_hz, fps):
    start, stop = sample_span(frame, rate_hz=rate_hz, fps=fps)
    assert stop == sample_span(frame + 1, rate_hz=rate_hz, fps=fps)[0]
    assert abs(start - frame * rate_hz / Fraction(fps)) <= Fraction(1, 2)


@given(frame=st.integers(0, 10**7), rate_hz=RATES, fps=FPS)
def test_the_sound_up_to_a_frame_has_that_many_frames(frame, rate_hz, fps):
    start, _ = sample_span(frame, rate_hz=rate_hz, fps=fps)
    assert frame_count(start, rate_hz=rate_hz, fps=fps) == frame


def test_neighbours_stay_inside():
    expected = [[0, 0, 0, 1, 2], [0, 0, 1, 2, 3], [0, 1, 2, 3, 3], [1, 2, 3, 3, 3]]
    assert AudioWindow().indices(range(4), 4).tolist() == expected
    assert AudioWindow().indices(range(1, 3), 4).tolist() == expected[1:3]
    assert AudioWindow(1, 0).indices(range(3), 3).tolist() == [[0, 0], [0, 1], [1, 2]]
    assert AudioWindow().indices(range(0), 0).shape == (0, 5)
    assert AudioWindow().indices(range(9, 12), 4)[0].tolist() == [3] * 5


def test_a_window_has_the_frame_itself():
    assert (AudioWindow(), AudioWindow(0, 0)) == (AudioWindow.of(5), AudioWindow.of(1))
    for wrong in (partial(AudioWindow, -1), partial(AudioWindow.of, 4), partial(AudioWindow.of, 0)):
        with pytest.raises(ConfigurationError, match="got"):
            wrong()


@given(frames=st.integers(1, 50), before=st.integers(0, 4), after=st.integers(0, 4))
def test_neighbours_are_centred(frames, before, after):
    index = AudioWindow(before, after).indices(range(frames), frames)
    assert index.shape == (frames, before + 1 + after)
    assert torch.equal(index[:, before], torch.arange(frames))
    assert (index.diff(dim=1) <= 1).all()
    assert (index.diff(dim=1) >= 0).all()
