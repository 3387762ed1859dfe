"""Figures of measured tracks against true ones: functions of tensors, nothing else.

A track that does not move has no correlation: it is NaN here, is left out of medians and means,
and stands in a table as "-".
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

STILL = 1e-4
"""A track whose standard deviation is smaller than this part of its range of 1 does not move."""


class Lag(NamedTuple):
    """Where two tracks match best.

    Attributes:
        frames: How many frames the measured track comes late (negative: early).
        r: The correlation there.
    """

    frames: float
    r: float


class Spread(NamedTuple):
    """Median and range of figures; NaN all three where there are none.

    Attributes:
        median: Between the two middle ones where their number is even.
        low: The smallest.
        high: The largest.
    """

    median: float
    low: float
    high: float


def correlation(first: Float[Tensor, "*n f"], second: Float[Tensor, "*n f"]) -> Float[Tensor, "*n"]:
    """Pearson's r over the last axis, in [-1, 1]; NaN where either track does not move."""
    first = first.double() - first.double().mean(-1, keepdim=True)
    second = second.double() - second.double().mean(-1, keepdim=True)
    deviations = torch.stack([x.square().mean(-1).sqrt() for x in (first, second)])
    r = (first * second).mean(-1) / deviations.prod(0)
    moves = (deviations >= STILL).all(0)
    return torch.where(moves, r.clamp(-1, 1), torch.nan).to(torch.float32)


def best_lag(truth: Float[Tensor, "f"], measured: Float[Tensor, "f"], *, reach: int = 5) -> Lag:
    """The shift in time at which a measured track correlates best with the true one.

    At each shift r is taken over the frames that both tracks have. NaN where no shift has an r.

    Args:
        truth: The true track.
        measured: The measured one, of the same length, longer than `reach`.
        reach: Largest shift tried, to either side.
    """
    frames = len(truth)
    scores = {
        lag: float(
            correlation(
                truth[max(0, -lag) : frames - max(0, lag)],
                measured[max(0, lag) : frames - max(0, -lag)],
            )
        )
        for lag in sorted(range(-reach, reach + 1), key=abs)  # of equals, the smallest shift
    }
    known = {lag: r for lag, r in scores.items() if r == r}
    if not known:
        return Lag(torch.nan, torch.nan)
    best = max(known, key=known.__getitem__)
    return Lag(float(best), known[best])


def correlation_with_others(
    truths: Float[Tensor, "v f"], measured: Float[Tensor, "f"], own: int
) -> float:
    """Mean r of a measured track with the true tracks of all voices but its own.

    Args:
        truths: The true track of each voice, of the measured one's length.
        measured: A track measured in the video of one voice.
        own: Which voice that is.
    """
    others = torch.cat([truths[:own], truths[own + 1 :]])
    return float(correlation(others, measured.expand_as(others)).nanmean())


def spread(figures: list[float]) -> Spread:
    """Median and range of the figures that are not NaN."""
    known = torch.tensor([figure for figure in figures if figure == figure], dtype=torch.float64)
    if not len(known):
        return Spread(torch.nan, torch.nan, torch.nan)
    return Spread(float(known.quantile(0.5)), float(known.min()), float(known.max()))
