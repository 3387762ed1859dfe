"""Curves over time as shapes that a page draws: one chart for what is made and what is real."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from loopy.evaluation.table.results import VideoResult
from loopy.timing import FPS

LEFT, RIGHT, TOP, BOTTOM = 44, 632, 8, 122
"""The field of a chart, in its own units; the page scales it to the width it has."""

POINTS = 588
"""A curve with more frames than this is drawn by the least and the greatest figure of each span."""

OWN_PACE = ("mouth",)
"""Curves that follow the sound of their own video: a mean over videos would say nothing."""

REAL = ", real"
"""Ends the name of a curve of the real video; the one of the made video has no ending."""


class Line(NamedTuple):
    """A curve, "made" or "real", as an SVG path draws it; a gap where a figure is not known."""

    label: str
    path: str


class Tick(NamedTuple):
    """A place on an axis, with what it says."""

    place: float
    label: str


class Chart(NamedTuple):
    """Curves in one field, the real one first, so that the made one lies above it.

    `band` is an area, as an SVG path or "" for none; `times` are ticks below, `values` at the left.
    """

    title: str
    seconds: float
    lines: list[Line]
    band: str
    times: list[Tick]
    values: list[Tick]


def charts(curves: dict[str, list[float]]) -> list[Chart]:
    """The charts of one video: "X" and "X, real" together; those with nothing known left out."""
    titles = dict.fromkeys(name.removesuffix(REAL) for name in curves)
    drawn = []
    for title in titles:
        both = {"real": curves.get(title + REAL, []), "made": curves.get(title, [])}
        lines = {label: torch.tensor(curve) for label, curve in both.items() if curve}
        if any(curve.isfinite().any() for curve in lines.values()):
            drawn.append(_chart(title, lines))
    return drawn


def overview(videos: Sequence[VideoResult]) -> list[Chart]:
    """Means over all videos, and where four in five of the made ones lie; not of mouths."""
    titles = dict.fromkeys(name.removesuffix(REAL) for video in videos for name in video.curves)
    drawn = []
    for title in (title for title in titles if title not in OWN_PACE):
        both = {"real": _table(title + REAL, videos), "made": _table(title, videos)}
        if len(both["made"]) > 1 and both["made"].isfinite().any():
            lines = {label: table.nanmean(0) for label, table in both.items() if len(table)}
            ends = both["made"].nanquantile(torch.tensor([0.1, 0.9]), 0)
            drawn.append(_chart(title, lines, band=ends))
    return drawn


def _chart(
    title: str, lines: dict[str, Float[Tensor, " f"]], band: Float[Tensor, "2 f"] | None = None
) -> Chart:
    everything = torch.cat([*lines.values(), *([] if band is None else [band.flatten()])])
    known = everything[everything.isfinite()]
    values = round_steps(float(known.min()), float(known.max()), 4)
    low, high = min(values[0], float(known.min())), max(values[-1], float(known.max()))
    frames = max(map(len, lines.values()))
    seconds = max(frames - 1, 1) / float(FPS)

    def x(frame: float) -> float:
        return LEFT + (RIGHT - LEFT) * frame / float(FPS) / seconds

    def y(value: float) -> float:
        return BOTTOM - (BOTTOM - TOP) * (value - low) / (high - low)

    def path(curve: Float[Tensor, " f"]) -> str:
        words, gap = [], True
        for frame, value in _thinned(curve):
            if math.isfinite(value):
                words.append(f"{'M' if gap else 'L'}{x(frame):.1f} {y(value):.1f}")
            gap = not math.isfinite(value)
        return "".join(words)

    def outline(ends: Float[Tensor, "2 f"]) -> str:
        known = ends.isfinite().all(0).nonzero()[:: math.ceil(frames / POINTS), 0].tolist()
        around = [(frame, ends[1, frame]) for frame in known]
        around += [(frame, ends[0, frame]) for frame in reversed(known)]
        return "M" + "L".join(f"{x(frame):.1f} {y(float(end)):.1f}" for frame, end in around) + "Z"

    return Chart(
        title,
        seconds,
        [Line(label, path(curve)) for label, curve in lines.items()],
        "" if band is None else outline(band),
        [Tick(x(second * float(FPS)), f"{second:g} s") for second in round_steps(0, seconds, 6)],
        [Tick(y(value), f"{value:g}") for value in values],
    )


def round_steps(low: float, high: float, most: int) -> list[float]:
    """Round numbers from `low` to `high`, at most `most` + 1 of them, at least 2.

    Their step is 1, 2 or 5 times a power of ten.
    """
    if high - low <= max(1e-6 * max(abs(low), abs(high)), 1e-100):
        low, high = low - 0.5, high + 0.5
    size = 10 ** math.floor(math.log10((high - low) / most))
    step = next(size * nice for nice in (1, 2, 5, 10, 20) if size * nice * most >= high - low)
    first, last = math.ceil(low / step - 1e-6), math.floor(high / step + 1e-6)
    if last <= first:
        first, last = math.floor(low / step), math.ceil(high / step)
    decimals = 1 - math.floor(math.log10(step))  # 0.30000000000000004 is no tick
    return [round(place * step, decimals) for place in range(first, last + 1)]


def _thinned(curve: Float[Tensor, " f"]) -> list[tuple[int, float]]:
    """Frames and figures; of a long curve the extremes of each span."""
    values = curve.tolist()
    if len(values) <= POINTS:
        return list(enumerate(values))
    span = math.ceil(2 * len(values) / POINTS)
    kept: list[int] = []
    for start in range(0, len(values), span):
        frames = range(start, min(start + span, len(values)))
        known = [frame for frame in frames if math.isfinite(values[frame])] or [start]
        kept += sorted({min(known, key=values.__getitem__), max(known, key=values.__getitem__)})
    return [(frame, values[frame]) for frame in kept]


def _table(name: str, videos: Sequence[VideoResult]) -> Float[Tensor, "n f"]:
    """A curve of all videos that have it, as long as the longest one, NaN behind the others."""
    curves = [torch.tensor(video.curves[name]) for video in videos if video.curves.get(name)]
    if not curves:
        return torch.empty(0, 0)
    return pad_sequence(curves, batch_first=True, padding_value=math.nan)
