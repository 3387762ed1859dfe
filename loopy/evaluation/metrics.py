"""Figures of tracks: functions of tensors, nothing else.

A track that does not move has no correlation: it is NaN here. The benchmark counts it as 0.
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


class Jumps(NamedTuple):
    """How far a track goes from frame to frame, mean.

    Attributes:
        border: Where one clip ends and the next begins.
        inside: Everywhere else.
    """

    border: float
    inside: float


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


def variance(tracks: Float[Tensor, "f k"], *, window: int | None = None) -> Float[Tensor, "k"]:
    """Variance over time of each track.

    Args:
        tracks: One in each column.
        window: Frames of the windows inside which it is taken, and then averaged over them; what
            is left behind the last whole one is not seen. None: over the whole track.
    """
    window = len(tracks) if window is None else window
    whole = tracks[: len(tracks) // window * window].unflatten(0, (-1, window))
    return whole.var(1, correction=0).mean(0)


def position_jumps(tracks: Float[Tensor, "f k"], *, clip_frames: int) -> Jumps:
    """Steps of a position from frame to frame, at borders of clips and inside them.

    Args:
        tracks: The position's coordinates.
        clip_frames: A clip begins at each multiple of it.
    """
    return _jumps(tracks.diff(dim=0).norm(dim=1), 1, clip_frames)


def speed_jumps(tracks: Float[Tensor, "f k"], *, clip_frames: int) -> Jumps:
    """Changes of the speed of a position; at a border are those two that reach over it."""
    return _jumps(tracks.diff(n=2, dim=0).norm(dim=1), 2, clip_frames)


def _jumps(steps: Float[Tensor, "n"], reach: int, clip_frames: int) -> Jumps:
    """Step i uses the frames i to i + reach."""
    into = (torch.arange(len(steps)) + reach) % clip_frames
    border = (into < reach) & (torch.arange(len(steps)) + reach >= clip_frames)
    return Jumps(float(steps[border].mean()), float(steps[~border].mean()))
