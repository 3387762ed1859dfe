import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from loopy.evaluation.toon.tracks import (
    best_lag,
    correlation,
    mismatched_correlation,
    position_jumps,
    speed_jumps,
    variance,
)
from loopy.metrics.beat import smoothed


def track(frames=100, seed=0):
    """Smooth noise, as a mouth moves."""
    noise = torch.randn(frames + 4, generator=torch.Generator().manual_seed(seed))
    return noise.unfold(0, 5, 1).mean(-1)


def test_correlation_of_known_pairs():
    one = track()
    both = torch.stack([0.2 * one + 3, -one])
    assert correlation(one.expand(2, -1), both).tolist() == pytest.approx([1, -1], abs=1e-6)
    sine, cosine = (f(torch.arange(100) * math.tau / 25) for f in (torch.sin, torch.cos))
    assert float(correlation(sine, cosine)) == pytest.approx(0, abs=1e-6)


def test_correlation_agrees_with_torch():
    one, other = track(seed=1), track(seed=2)
    expected = torch.corrcoef(torch.stack([one, other]))[0, 1]
    torch.testing.assert_close(correlation(one, other), expected)


@pytest.mark.parametrize("still", [torch.zeros(50), torch.full((50,), 0.3)])
def test_what_does_not_move_has_no_correlation(still):
    noisy = still + 1e-6 * torch.randn(50)
    moving = track(50)
    for first, second in ((still, moving), (moving, still), (still, still), (noisy, moving)):
        assert correlation(first, second).isnan()
    assert math.isnan(best_lag(moving, still))


@given(st.integers(-5, 5), st.integers(0, 1000))
def test_lag_is_found(late, seed):
    whole = track(90, seed)
    truth, measured = whole[10:70], whole[10 - late : 70 - late]
    assert best_lag(truth, measured) == late


def test_others_leave_out_the_own_voice_and_the_silent():
    truths = torch.stack([track(seed=seed) for seed in range(3)])
    assert mismatched_correlation(truths, truths[1], 1) == pytest.approx(
        float(correlation(truths[[0, 2]], truths[[1, 1]]).mean())
    )
    truths[2] = 0
    assert mismatched_correlation(truths, truths[1], 1) == pytest.approx(
        float(correlation(truths[0], truths[1]))
    )


def test_variance_inside_windows_does_not_see_what_is_slower():
    stairs = torch.arange(5).repeat_interleave(12).float()
    waves = torch.tensor([-1.0, 1.0]).repeat(30)
    tracks = torch.stack([stairs, waves, waves], 1)
    assert variance(tracks, window=12).tolist() == [0, 1, 1]
    assert variance(tracks).tolist() == pytest.approx([2, 1, 1])
    uneven = torch.cat([tracks, 100 * torch.ones(11, 3)])  # no whole window: not seen
    assert torch.equal(variance(uneven, window=12), variance(tracks, window=12))


@pytest.mark.parametrize("off", [0, 5])
@pytest.mark.parametrize("border", [1, 4])
def test_a_step_is_a_jump_where_it_is(border, off):
    tracks = torch.zeros(72, 2)
    tracks[12 * border + off :] = torch.tensor([3.0, 4.0])
    jumps = position_jumps(tracks, clip_frames=12)
    if off:
        assert jumps.border == 0
        assert jumps.inside > 0
    else:
        assert jumps.border == pytest.approx(5 / 5)  # one of the five borders jumps by 5
        assert jumps.inside == 0


def test_a_kink_is_a_jump_of_speed_and_none_of_position():
    ramps = torch.cat([torch.arange(13), 12 - torch.arange(1, 36)]).float()[:, None]  # turns at 12
    assert speed_jumps(ramps, clip_frames=12).border > 0.9
    assert speed_jumps(ramps, clip_frames=12).inside == 0
    steps = position_jumps(ramps, clip_frames=12)
    assert steps.border < steps.inside == 3


def test_noise_of_single_frames_hides_no_jump():
    """The head moves on evenly, but stands elsewhere at each border; the reading is noisy."""
    draw = torch.Generator().manual_seed(0)
    clips = torch.arange(600) // 12
    moved = 0.02 * torch.randn(50, generator=draw)[clips] + 0.01 * torch.randn(600, generator=draw)
    tracks = moved[:, None]
    border, inside = position_jumps(tracks, clip_frames=12)
    assert border / inside > 2.5


def test_smoothing_takes_noise_and_leaves_movement():
    slow = torch.sin(torch.arange(200) / 20)
    noise = torch.randn(200, generator=torch.Generator().manual_seed(0))
    both = smoothed(torch.stack([slow, noise], 1))
    torch.testing.assert_close(both[3:-3, 0], slow[3:-3], atol=0.01, rtol=0)
    assert float(both[:, 1].var()) == pytest.approx(0.2, abs=0.05)
    assert both.shape == (200, 2)


def test_a_smooth_track_has_no_borders():
    tracks = torch.stack([track(6000, seed) for seed in range(5)], 1)
    for jumps in (position_jumps, speed_jumps):
        border, inside = jumps(tracks, clip_frames=12)
        assert border / inside == pytest.approx(1, abs=0.1)
