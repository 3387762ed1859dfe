"""Figures with their 95 % intervals: the bootstrap over talks, or Student's t for few."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from scipy.special import stdtrit
from torch import Tensor

from loopy.randomness import generator

RESAMPLES, FEWEST = 2000, 2
FEWEST_VIDEOS = 6
"""Of a test set: an interval of 95 % that is of 2 to 5 videos holds the truth in 53 to 85 %."""

Statistic = Callable[..., Tensor]
"""Groups of values (... n k) to figures (...): one argument a group of talks."""


class Figure(NamedTuple):
    """A figure and the ends of its 95 % interval; NaN where they are not known."""

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

    Each group of talks is redrawn by itself; the numbers of one talk stay together, which
    `scipy.stats.bootstrap` cannot do for several groups.

    Args:
        statistic: What to compute.
        groups: One row a talk.
        seed: Of the draws.
        resamples: How many.
        fewest: Talks of a group that an interval needs; with fewer it is NaN, with none all is.
    """
    if not all(len(group) for group in groups):
        return Figure(torch.nan, torch.nan, torch.nan)
    value = float(statistic(*groups))
    if any(len(group) < fewest for group in groups):
        return Figure(value, torch.nan, torch.nan)
    drawn = []
    for number, group in enumerate(groups):
        draws = generator(seed, "bootstrap", number)
        drawn.append(group[torch.randint(len(group), (resamples, len(group)), generator=draws)])
    spread = statistic(*drawn).double()
    low, high = spread.quantile(spread.new_tensor([0.025, 0.975])).tolist()
    return Figure(value, low, high)


def student(
    statistic: Statistic, values: Float[Tensor, "_n _k"], *, fewest: int = FEWEST
) -> Figure:
    """A statistic over talks, and Student's t interval by the jackknife's error (Tukey 1958).

    Of a mean this is the usual t interval. At 8 talks it holds the truth in 95 %, where the
    bootstrap's percentiles hold it in 88 %.

    Args:
        statistic: What to compute; smooth.
        values: One row a talk.
        fewest: As of `bootstrap`.
    """
    count = len(values)
    if not count:
        return Figure(torch.nan, torch.nan, torch.nan)
    value = float(statistic(values))
    if count < max(fewest, 2):
        return Figure(value, torch.nan, torch.nan)
    rests = torch.stack([torch.cat([values[:i], values[i + 1 :]]) for i in range(count)])
    reach = jackknife_error(statistic(rests)) * float(stdtrit(count - 1, 0.975))
    return Figure(value, value - reach, value + reach)


def jackknife_error(left_out: Float[Tensor, "n"]) -> float:
    """Standard error of a figure, from what it is without each talk (Quenouille; Tukey 1958)."""
    left_out, count = left_out.double(), len(left_out)
    return float(((count - 1) / count * (left_out - left_out.mean()).square().sum()).sqrt())


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
