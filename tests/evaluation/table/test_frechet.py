"""Set figures are the metric's own, and their intervals those of the jackknife."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from loopy.errors import MetricError
from loopy.evaluation.table.statistics import distance_of_frames, distance_of_videos
from loopy.metrics.frechet import frechet_distance


def videos(count, rows=40, width=5, seed=0, shift=0.0):
    dice = torch.Generator().manual_seed(seed)
    return [
        (torch.randn(rows, width, generator=dice), torch.randn(rows, width, generator=dice) + shift)
        for _ in range(count)
    ]


@given(st.integers(2, 6), st.floats(0, 3))
def test_rows_of_frames_are_pooled(count, shift):
    pairs = videos(count, shift=shift)
    real, made = (torch.cat(rows) for rows in zip(*pairs, strict=True))
    figure = distance_of_frames(pairs)
    assert figure.value == pytest.approx(frechet_distance(real, made).distance, rel=1e-6, abs=1e-6)
    assert figure.n == count


def test_the_interval_is_that_of_leaving_each_video_out():
    pairs = videos(6, shift=0.5)
    figure = distance_of_frames(pairs)
    left = torch.tensor(
        [
            frechet_distance(
                *(torch.cat(rows) for rows in zip(*pairs[:i], *pairs[i + 1 :], strict=True))
            ).distance
            for i in range(6)
        ],
        dtype=torch.float64,
    )
    error = math.sqrt(5 / 6 * float((left - left.mean()).square().sum()))
    assert figure.high - figure.value == pytest.approx(1.96 * error, rel=1e-5)
    assert figure.low == pytest.approx(max(0, figure.value - 1.96 * error), rel=1e-5)


def test_the_interval_holds_the_true_distance_of_two_normal_sets():
    """95 times in 100, by the definition of an interval; here at least 17 of 20."""
    held = 0
    for seed in range(20):
        dice = torch.Generator().manual_seed(seed)
        real, made = torch.randn(2, 200, 3, generator=dice)
        figure = distance_of_videos(zip(real, made + 1, strict=True))
        held += figure.low <= 3 <= figure.high
    assert held >= 17


@pytest.mark.parametrize("count", [2, 5, 6])
def test_few_videos_have_no_interval(count):
    figures = (
        distance_of_frames(videos(count)),
        distance_of_videos(torch.randn(count, 2, 4)),
    )
    for figure in figures:
        assert figure.value > 0
        assert math.isnan(figure.low) == math.isnan(figure.high) == (count < 6)


def test_what_a_distance_rests_on_goes_with_it():
    few = distance_of_videos(torch.randn(7, 2, 9))
    assert few.note == "N = 7 and 7, fewer than its 9 features + 1: singular"
    assert distance_of_frames(videos(3, rows=20)).note == "N = 60 and 60"


def test_wide_rows_have_no_interval():
    figure = distance_of_frames(videos(3, rows=20, width=130))
    assert (figure.value > 0, math.isnan(figure.low), figure.n) == (True, True, 3)


def test_broken_rows_are_refused():
    pairs = videos(3)
    pairs[1][1][4, 2] = torch.nan
    with pytest.raises(MetricError, match="NaN"):
        distance_of_frames(pairs)
    for distance in (distance_of_frames, distance_of_videos):
        with pytest.raises(MetricError, match="1 video has no spread"):
            distance(pairs[:1])
