"""Figures with their 95 % intervals.

Of talks by the bootstrap, or by Student's t for few. Of Frechet distances by the jackknife, which
leaves each video out in turn (Quenouille; Tukey 1958): a bootstrap would draw videos twice, which
makes two sets look further apart than they are. The interval is the figure and 1.96 standard errors
to either side, where it is cheap; memory does not grow with the sets.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from scipy.special import stdtrit
from torch import Tensor

from loopy.errors import MetricError
from loopy.evaluation.table.results import SetFigure
from loopy.metrics.frechet import Frechet, Moments, frechet_distance
from loopy.randomness import generator

RESAMPLES, FEWEST = 2000, 2
FEWEST_VIDEOS = 6
"""Of a test set: an interval of 95 % that is of 2 to 5 videos holds the truth in 53 to 85 %."""

Statistic = Callable[..., Tensor]
"""Groups of values (... n k) to figures (...): one argument a group of talks."""

WIDEST = 128
"""Rows a frame of more numbers have no interval: each video left out costs seconds to minutes."""

_ALONE = "{} video has no spread; give 2 or more"
Rows = Float[Tensor, "n d"]


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
    `scipy.stats.bootstrap` cannot do for several groups. With fewer talks of a group than `fewest`
    there is no interval, with none no figure.
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
    """A smooth statistic over talks, and Student's t interval by the jackknife (Tukey 1958).

    Of a mean this is the usual t interval. At 8 talks it holds the truth in 95 %, where the
    bootstrap's percentiles hold it in 88 %.
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


def distance_of_frames(pairs: Iterable[tuple[Rows, Rows]]) -> SetFigure:
    """Distance of the real set and the made one, of rows a frame: for each video real and made.

    Raises:
        MetricError: Too few videos or rows, or rows that are NaN.
    """
    whole, parts, count = None, list[Moments](), 0
    for count, pair in enumerate(pairs, 1):  # noqa: B007 (used below)
        part = Moments.of(*pair)
        whole = part if whole is None else whole + part
        if part.sums.shape[1] <= WIDEST:
            parts.append(part)
    if whole is None or count < 2:
        raise MetricError(_ALONE.format(count))
    few = len(parts) < FEWEST_VIDEOS
    others = [] if few else [(whole - part).distance().distance for part in parts]
    return _jackknife(whole.distance(), others, n=count)


def distance_of_videos(pairs: Iterable[tuple[Rows, Rows]]) -> SetFigure:
    """Distance of the real set and the made one, of a row a video.

    Raises:
        MetricError: Too few videos, or rows that are NaN.
    """
    if len(rows := list(pairs)) < 2:
        raise MetricError(_ALONE.format(len(rows)))
    real, made = (torch.stack(each) for each in zip(*rows, strict=True))
    kept = ~torch.eye(len(rows)).bool() if len(rows) >= FEWEST_VIDEOS else []
    others = [frechet_distance(real[rest], made[rest]).distance for rest in kept]
    return _jackknife(frechet_distance(real, made), others, n=len(rows))


def _jackknife(whole_set: Frechet, others: Sequence[float], *, n: int) -> SetFigure:
    """A figure with its interval, from what it is without each video; none, no interval."""
    value, note = whole_set.distance, whole_set.note
    if not others:
        return SetFigure(value, n=n, note=note)
    reach = 1.96 * jackknife_error(torch.tensor(others, dtype=torch.float64))
    return SetFigure(value, max(0.0, value - reach), value + reach, n, note)
