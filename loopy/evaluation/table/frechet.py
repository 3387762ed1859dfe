"""Frechet distances of two sets of videos with an interval, in memory that does not grow with them.

A bootstrap would draw videos twice, which makes two sets look further apart than they are, so that
its interval can lie above the figure. The jackknife leaves each video out in turn (Quenouille,
Tukey 1958): the interval is the figure and 1.96 standard errors to either side, where it is cheap.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from loopy.errors import MetricError
from loopy.evaluation.table.results import SetFigure
from loopy.evaluation.table.statistics import FEWEST_VIDEOS, jackknife_error
from loopy.metrics.frechet import Frechet, Moments, frechet_distance

WIDEST = 128
"""Rows a frame of more numbers have no interval: each video left out costs seconds to minutes."""

Rows = Float[Tensor, "n d"]


def distance_of_frames(pairs: Sequence[Callable[[], tuple[Rows, Rows]]]) -> SetFigure:
    """Distance of the real set and the made one, of rows a frame.

    Args:
        pairs: For each video a call that gives rows of the real and the made one.

    Raises:
        MetricError: Too few rows, or rows that are NaN.
    """
    whole, parts = None, list[Moments]()
    for rows_of in pairs:
        part = Moments.of(*rows_of())
        whole = part if whole is None else whole + part
        if part.sums.shape[1] <= WIDEST:
            parts.append(part)
    if whole is None:
        raise MetricError("no video has rows of features")
    whole_set, others = whole.distance(), list[float]()
    if len(parts) >= FEWEST_VIDEOS:
        others = [(whole - part).distance().distance for part in parts]
    return _jackknife(whole_set, others, n=len(pairs))


def distance_of_videos(real: Rows, made: Rows) -> SetFigure:
    """Distance of the real set and the made one, of a row a video, in equal order.

    Raises:
        MetricError: Too few rows, or rows that are NaN.
    """
    whole_set = frechet_distance(real, made)
    others = []
    if len(real) >= FEWEST_VIDEOS:
        kept = ~torch.eye(len(real)).bool()
        others = [frechet_distance(real[rest], made[rest]).distance for rest in kept]
    return _jackknife(whole_set, others, n=len(real))


def _jackknife(whole_set: Frechet, others: Sequence[float], *, n: int) -> SetFigure:
    """A figure with its interval, from what it is without each video; none, no interval."""
    value, note = whole_set.distance, whole_set.note
    if not others:
        return SetFigure(value, n=n, note=note)
    reach = 1.96 * jackknife_error(torch.tensor(others, dtype=torch.float64))
    return SetFigure(value, max(0.0, value - reach), value + reach, n, note)
