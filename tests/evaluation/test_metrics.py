import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from loopy.evaluation.metrics import best_lag, correlation, correlation_with_others, spread


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
    assert math.isnan(best_lag(moving, still).frames)


@given(st.integers(-5, 5), st.integers(0, 1000))
def test_lag_is_found(late, seed):
    whole = track(90, seed)
    truth, measured = whole[10:70], whole[10 - late : 70 - late]
    lag = best_lag(truth, measured)
    assert lag.frames == late
    assert lag.r == pytest.approx(1, abs=1e-5)


def test_others_leave_out_the_own_voice_and_the_silent():
    truths = torch.stack([track(seed=seed) for seed in range(3)])
    assert correlation_with_others(truths, truths[1], 1) == pytest.approx(
        float(correlation(truths[[0, 2]], truths[[1, 1]]).mean())
    )
    truths[2] = 0
    assert correlation_with_others(truths, truths[1], 1) == pytest.approx(
        float(correlation(truths[0], truths[1]))
    )
    assert correlation_with_others(truths[[0, 0]], truths[1], 1) == pytest.approx(
        float(correlation(truths[0], truths[1]))
    )


def test_spread_leaves_out_what_is_undefined():
    assert spread([3.0, math.nan, 1.0, 2.0, 6.0]) == (2.5, 1.0, 6.0)
    assert all(math.isnan(figure) for figure in spread([math.nan]))
