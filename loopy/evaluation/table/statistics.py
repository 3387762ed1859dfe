"""Figures with their 95 % intervals: the bootstrap over talks, or Student's t for few."""

from collections.abc import Callable
from statistics import NormalDist
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from loopy.randomness import generator

RESAMPLES, FEWEST = 2000, 2
FEWEST_VIDEOS = 6
"""Of a test set: an interval of 95 % that is of 2 to 5 videos holds the truth in 53 to 85 %."""

Statistic = Callable[..., Tensor]
"""Groups of values (... n k) to figures (...): one argument a group of talks."""


class Figure(NamedTuple):
    """A figure and where it lies with 95 % certainty; NaN all three where there is nothing.

    Attributes:
        value: Over the talks as they are.
        low: The lower end, 2.5th percentile over resampled talks.
        high: The upper one, 97.5th.
    """

    value: float
    low: float
    high: float


def bootstrap(
    statistic: Statistic,
    *groups: Float[Tensor, "_n _k"],
    seed: int = 0,
    resamples: int = RESAMPLES,
    fewest: int = FEWEST,
) -> Figure:
    """A statistic over talks, and its percentile interval (Efron 1979) when talks are redrawn.

    Each group of talks is redrawn by itself; the numbers of one talk stay together.

    Args:
        statistic: What to compute.
        groups: One row a talk.
        seed: Of the draws.
        resamples: How many.
        fewest: Talks of a group that an interval needs; one alone says nothing of others.

    Returns:
        With NaN for the ends where a group has fewer.
    """
    if not all(len(group) for group in groups):
        return Figure(torch.nan, torch.nan, torch.nan)
    if any(len(group) < fewest for group in groups):
        return Figure(float(statistic(*groups)), torch.nan, torch.nan)
    drawn = []
    for number, group in enumerate(groups):
        dice = generator(seed, "bootstrap", number)
        drawn.append(group[torch.randint(len(group), (resamples, len(group)), generator=dice)])
    spread = statistic(*drawn).double()
    ends = spread.new_tensor([0.025, 0.975])
    low, high = spread.quantile(ends).tolist()
    return Figure(float(statistic(*groups)), low, high)


def student(
    statistic: Statistic, values: Float[Tensor, "_n _k"], *, fewest: int = FEWEST
) -> Figure:
    """A statistic over talks, and Student's t interval by the jackknife's error (Tukey 1958).

    Of a mean this is the usual t interval. At 8 talks it holds the truth in 95 %, where the
    bootstrap's percentiles hold it in 88 %.

    Args:
        statistic: What to compute; smooth.
        values: One row a talk.
        fewest: Talks that an interval needs.

    Returns:
        With NaN for the ends where there are fewer; all NaN for none.
    """
    count = len(values)
    if not count:
        return Figure(torch.nan, torch.nan, torch.nan)
    value = float(statistic(values))
    if count < max(fewest, 2):
        return Figure(value, torch.nan, torch.nan)
    rests = torch.stack([torch.cat([values[:i], values[i + 1 :]]) for i in range(count)])
    without = statistic(rests).double()
    error = ((count - 1) / count * (without - without.mean()).square().sum()).sqrt()
    reach = float(error) * t_quantile(count - 1)
    return Figure(value, value - reach, value + reach)


def t_quantile(freedom: int) -> float:
    """97.5 % quantile of Student's t; within 0.1 % from 4 degrees of freedom on.

    Expansion around the normal one (Abramowitz and Stegun 1964, 26.7.5).

    Args:
        freedom: Degrees of freedom.
    """
    z = NormalDist().inv_cdf(0.975)
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return sum(term / freedom**power for power, term in enumerate(terms))


def mean(values: Float[Tensor, "*r n 1"]) -> Float[Tensor, "*r"]:
    """Over the talks."""
    return values[..., 0].mean(-1)


def median(values: Float[Tensor, "*r n 1"]) -> Float[Tensor, "*r"]:
    """Over the talks; between the two middle ones where their number is even."""
    return values[..., 0].quantile(0.5, dim=-1)


def ratio_of_sums(values: Float[Tensor, "*r n 2"]) -> Float[Tensor, "*r"]:
    """First column over second."""
    first, second = values.sum(-2).unbind(-1)
    return first / second


def ratio_of_medians(values: Float[Tensor, "*r n 2"]) -> Float[Tensor, "*r"]:
    """First column over second."""
    first, second = values.quantile(0.5, dim=-2).unbind(-1)
    return first / second


def ratio_of_means(first: Float[Tensor, "*r n 1"], second: Float[Tensor, "*r m 1"]) -> Tensor:
    """One group of talks over another one."""
    return mean(first) / mean(second)
