"""Figures of tracks: correlation, lag, variance, jumps.

A track that does not move has no correlation: it is NaN here. The benchmark counts it as 0.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

STILL = 1e-4
"""A track whose standard deviation is smaller than this part of its range of 1 does not move."""
SPAN = 3
"""Frames of the means between which jumps are measured."""


class Jumps(NamedTuple):
    """How far a track goes from one place to the next, mean: at borders of clips, and elsewhere."""

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


def best_lag(truth: Float[Tensor, "f"], measured: Float[Tensor, "f"], *, reach: int = 5) -> float:
    """How many frames late (negative: early) a measured track correlates best with the true one.

    At each shift, of `reach` frames at most to either side, r is taken over the frames that both
    tracks have. NaN where no shift has an r.
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
    return float(max(known, key=known.__getitem__)) if known else torch.nan


def mismatched_correlation(
    truths: Float[Tensor, "v f"], measured: Float[Tensor, "f"], own: int
) -> float:
    """Mean r of a track measured in the video of one voice with the true tracks of all others."""
    others = torch.cat([truths[:own], truths[own + 1 :]])
    return float(correlation(others, measured.expand_as(others)).nanmean())


def variance(tracks: Float[Tensor, "f k"], *, window: int | None = None) -> Float[Tensor, "k"]:
    """Variance over time of each track.

    Inside windows of so many frames, averaged over them; a rest after the last whole one does not
    count. None: over the whole track.
    """
    window = len(tracks) if window is None else window
    whole = tracks[: len(tracks) // window * window].unflatten(0, (-1, window))
    return whole.var(1, correction=0).mean(0)


def position_jumps(tracks: Float[Tensor, "f k"], *, clip_frames: int) -> Jumps:
    """How far a position goes between two neighbouring means of three frames.

    A clip begins at each multiple of `clip_frames`. At borders of clips the means touch at the
    border; inside, no mean reaches over one. Of means, since the noise of what is read would hide
    the jumps of single frames.
    """
    means = tracks.unfold(0, SPAN, 1).mean(-1)
    steps = means[SPAN:] - means[:-SPAN]
    return _jumps(steps.norm(dim=1), reach=SPAN, clip_frames=clip_frames)


def speed_jumps(tracks: Float[Tensor, "f k"], *, clip_frames: int) -> Jumps:
    """How much its speed changes at a place.

    From the last step before it to the step over it, and from that to the first step after it,
    mean of both.
    """
    means = tracks.unfold(0, SPAN, 1).mean(-1)
    turns = (means[2 * SPAN :] - 2 * means[SPAN:-SPAN] + means[: -2 * SPAN]).norm(dim=1)
    changes = (turns[:-SPAN] + turns[SPAN:]) / 2
    return _jumps(changes, reach=2 * SPAN, clip_frames=clip_frames)


def _jumps(steps: Float[Tensor, "p"], *, reach: int, clip_frames: int) -> Jumps:
    """Step i is at place i + reach, and sees `reach` frames to either side of it."""
    into = (torch.arange(len(steps)) + reach) % clip_frames
    inside = (into >= reach) & (into <= clip_frames - reach)
    return Jumps(float(steps[into == 0].mean()), float(steps[inside].mean()))
