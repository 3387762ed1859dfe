import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from loopy.evaluation.table.statistics import (
    FEWEST_VIDEOS,
    bootstrap,
    mean,
    median,
    ratio_of_means,
    ratio_of_medians,
    ratio_of_sums,
    student,
)
from loopy.randomness import generator


def column(*values):
    return torch.tensor(values, dtype=torch.float)[:, None]


def test_statistics_of_known_values():
    pairs = torch.tensor([[1.0, 2.0], [5.0, 2.0], [3.0, 8.0]])
    assert float(mean(column(1, 2, 6))) == 3
    assert float(median(column(1, 2, 6))) == 2
    assert float(median(column(1, 2, 6, 9))) == 4
    assert float(ratio_of_sums(pairs)) == 0.75
    assert float(ratio_of_medians(pairs)) == 1.5
    assert float(ratio_of_means(column(1, 3), column(4))) == 0.5


def test_the_interval_of_a_mean_is_that_of_the_theory():
    values = torch.randn(400, 1, generator=generator(1)) + 3
    figure = bootstrap(mean, values)
    assert figure.value == pytest.approx(float(values.mean()))
    assert figure.high - figure.low == pytest.approx(2 * 1.96 / 400**0.5, rel=0.1)


def test_intervals_hold_the_truth_as_often_as_they_say():
    held = 0
    for number in range(200):
        low, high = bootstrap(mean, torch.randn(30, 1, generator=generator(number)))[1:]
        held += low <= 0 <= high
    assert 0.88 <= held / 200 <= 0.98


def test_a_talk_keeps_its_numbers_together():
    values = torch.rand(9, 1) + 0.5
    figure = bootstrap(ratio_of_sums, torch.cat([3 * values, values], 1))
    assert figure == pytest.approx((3, 3, 3))


def test_groups_are_drawn_apart():
    values = torch.arange(1.0, 9.0)[:, None]
    figure = bootstrap(ratio_of_means, values, values)
    assert figure.value == 1
    assert figure.low < 0.8 < 1.2 < figure.high


@given(st.lists(st.floats(-5, 5), min_size=2, max_size=9), st.integers(0, 9))
def test_a_figure_is_a_function_of_values_and_seed_and_lies_between_them(values, seed):
    rows = column(*values)
    figure = bootstrap(median, rows, seed=seed, resamples=50)
    assert figure == bootstrap(median, rows, seed=seed, resamples=50)
    edge = 1e-5
    assert min(values) - edge <= figure.low <= figure.high <= max(values) + edge


def test_an_interval_may_ask_for_more_than_two():
    """Five videos' own interval of 95 % holds the truth in about 85 %."""
    for count in (5, 6):
        figure = bootstrap(mean, torch.arange(float(count))[:, None], fewest=FEWEST_VIDEOS)
        assert figure.value == (count - 1) / 2
        assert math.isnan(figure.low) == (count == 5)
    assert bootstrap(mean, torch.arange(2.0)[:, None]).high == 1


def test_nothing_gives_nothing():
    assert all(math.isnan(each) for each in bootstrap(mean, torch.zeros(0, 1)))


def test_students_interval_of_eight_holds_the_truth_as_often_as_it_says():
    """Of a difference of nothing; the bootstrap of so few leaves zero out in every ninth."""
    talks = torch.randn(1000, 8, 1, generator=generator("null"), dtype=torch.float64)
    held = sum(low <= 0 <= high for _, low, high in (student(mean, each) for each in talks))
    assert 0.93 <= held / 1000 <= 0.97
    figures = (bootstrap(mean, each, resamples=200) for each in talks[:300])
    assert sum(low <= 0 <= high for _, low, high in figures) / 300 < 0.93


def test_students_interval_is_that_of_the_theory():
    values = torch.randn(8, 1, generator=generator(2), dtype=torch.float64) + 3
    wanted = stats.ttest_1samp(values[:, 0].numpy(), 0).confidence_interval(0.95)
    assert student(mean, values)[1:] == pytest.approx(tuple(wanted), rel=1e-9)


def test_student_asks_for_enough():
    assert all(math.isnan(each) for each in student(mean, torch.zeros(0, 1)))
    few = student(mean, torch.arange(5.0)[:, None], fewest=FEWEST_VIDEOS)
    assert few.value == 2
    assert math.isnan(few.low)
