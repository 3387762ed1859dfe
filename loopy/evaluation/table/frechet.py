"""Frechet distances of two sets of videos with an interval, in memory that does not grow with them.

A bootstrap would draw videos twice, which makes two sets look further apart than they are, so that
its interval can lie above the figure. The jackknife leaves each video out in turn (Quenouille,
Tukey 1958): the interval is the figure and 1.96 standard errors to either side, where it is cheap.
"""

from collections.abc import Iterable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from loopy.errors import MetricError
from loopy.evaluation.table.results import SetFigure
from loopy.evaluation.table.statistics import FEWEST_VIDEOS, jackknife_error
from loopy.metrics.frechet import Frechet, Moments, frechet_distance

WIDEST = 128
"""Rows a frame of more numbers have no interval: each video left out costs seconds to minutes."""

_ALONE = "{} video has no spread; give 2 or more"
Rows = Float[Tensor, "n d"]


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
