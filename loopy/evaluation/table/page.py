"""Results as one page to open in a browser: no network, no server, the worst videos first."""

import base64
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from loopy.drafts import writing
from loopy.evaluation.table.charts import BOTTOM, LEFT, RIGHT, TOP, Chart, charts, overview
from loopy.evaluation.table.results import ColumnInfo, Results, SetFigure, VideoResult
from loopy.evaluation.table.templates import fill
from loopy.evaluation.table.text import DIRECTIONS, interval, short, together

FILE = "report.html"
EMBED_BYTES = 64_000_000
"""Files up to this size in all are inside the page."""

OPEN = 6
"""Videos that are unfolded when the page opens."""

KINDS = {
    ".mp4": "video/mp4",
    ".mov": "video/quicktime",
    ".webm": "video/webm",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
}
"""What a browser shows; other files are links."""


class IntervalBar(NamedTuple):
    """A figure and its interval beside the real figure, as places from 0 to 100; NaN for none."""

    value: float
    low: float
    high: float
    real: float


class TableRow(NamedTuple):
    """A line of the table of the set, ready to be shown."""

    column: ColumnInfo
    better: str
    figure: str
    ends: str
    n: str
    real: str
    real_ends: str
    bar: IntervalBar | None
    note: str


@dataclass(frozen=True)
class Card:
    """A video, ready to be shown.

    Attributes:
        number: Its place in the test set.
        video: What was judged.
        charts: Its curves.
        figures: Column, figure, and the real video's.
    """

    number: int
    video: VideoResult
    charts: list[Chart]
    figures: list[tuple[str, str, str]]


def write_page(results: Results, folder: Path, *, embed_bytes: int = EMBED_BYTES) -> Path:
    """Writes report.html beside results.json.

    Pictures, then videos, the worst ones first, are put inside the page up to a bound; the rest are
    relative links, for which the page must stay in its folder. The page says which.

    Args:
        results: What to show.
        folder: Where its videos and strips are.
        embed_bytes: The bound: size of the files inside, in all.

    Returns:
        The page.

    Raises:
        OutputError: It cannot be written there.
    """
    orders = worst_first(results)
    order = next(iter(orders.values()))
    names = [column.name for column in results.columns if column.name not in results.missing]
    cards = [_card(number, results.videos[number], names) for number in order]
    files = [
        *(card.video.strip for card in cards),
        *(path for card in cards for path in (card.video.video, card.video.real_video)),
    ]
    inside = embedded(files, folder, embed_bytes)
    shown = {path for path in files if path and (folder / path).is_file()}
    page = fill(
        "report.html",
        results=results,
        rows=[_row(column, results) for column in results.columns if column.name in names],
        missing=together(results.missing),
        overview=overview(results.videos),
        cards=cards,
        columns=[name for name in names if any(name in v.values for v in results.videos)],
        orders=orders,
        sources={path: inside.get(path, quote(path)) for path in shown},
        inside=len(inside),
        links=len(shown) - len(inside),
        megabytes=embed_bytes / 1e6,
        field=(LEFT, RIGHT, TOP, BOTTOM),
        open=OPEN,
        short=short,
        nan=math.nan,
    )
    with writing(folder / FILE) as hidden:
        hidden.write_text(page, encoding="utf-8")
    return folder / FILE


def worst_first(results: Results) -> dict[str, list[int]]:
    """Orders of the videos, by what they are ordered; a video that could not be judged is worst.

    The first order is of all columns: by the mean of a video's ranks in them, of 0 (best) to 1.
    Then one for each column that has a better way; a video without a figure is the last.

    Returns:
        Name of the order to places in `results.videos`.
    """
    judged = [number for number, video in enumerate(results.videos) if not video.problem]
    problems = [number for number, video in enumerate(results.videos) if video.problem]
    ranks: list[list[float]] = [[] for _ in results.videos]
    orders = {}
    for column in results.columns:
        bad = {number: _badness(results.videos[number], column, results) for number in judged}
        known = sorted((b, number) for number, b in bad.items() if math.isfinite(b))
        if not known:
            continue
        values = [b for b, _ in known]
        for b, number in known:
            below, equal = sum(v < b for v in values), sum(v == b for v in values)
            ranks[number].append((below + (equal - 1) / 2) / max(len(values) - 1, 1))
        rest = [number for number in judged if not math.isfinite(bad[number])]
        by_column = sorted((n for _, n in known), key=lambda n, bad=bad: (-bad[n], n))
        orders[column.name] = [*problems, *by_column, *rest]
    means = {number: sum(ranks[number]) / max(len(ranks[number]), 1) for number in judged}
    overall = sorted(judged, key=lambda number: (-means[number], number))
    return {"all columns": [*problems, *overall], **orders}


def embedded(files: Iterable[str], folder: Path, most_bytes: int) -> dict[str, str]:
    """Files as data: addresses, in their order, as long as they fit into a number of bytes.

    A file that does not fit is passed over; one that is gone, or that browsers do not show, too.
    """
    inside: dict[str, str] = {}
    left = most_bytes
    for file in files:
        path = folder / file
        kind = KINDS.get(path.suffix.lower())
        if not file or file in inside or kind is None or not path.is_file():
            continue
        if (size := path.stat().st_size) <= left:
            left -= size
            inside[file] = f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"
    return inside


def _badness(video: VideoResult, column: ColumnInfo, results: Results) -> float:
    """The greater, the worse; NaN where the column does not say."""
    value = video.values.get(column.name, math.nan)
    if column.better == "truth":
        whole = results.real_figures.get(column.name, SetFigure(math.nan)).value
        return abs(value - video.real.get(column.name, whole))
    return value * {"higher": -1, "lower": 1, "": math.nan}[column.better]


def _card(number: int, video: VideoResult, names: Sequence[str]) -> Card:
    figures = [
        (name, short(video.values.get(name, math.nan)), short(video.real.get(name, math.nan)))
        for name in names
        if name in video.values or name in video.real
    ]
    return Card(number, video, charts(video.curves), figures)


def _row(column: ColumnInfo, results: Results) -> TableRow:
    figure = results.figures.get(column.name)
    real = results.real_figures.get(column.name)
    return TableRow(
        column,
        DIRECTIONS[column.better],
        short(figure.value) if figure else "-",
        interval(figure.low, figure.high) if figure else "-",
        str(figure.n) if figure else "-",
        short(real.value) if real else "-",
        interval(real.low, real.high) if real else "-",
        _bar(figure, real) if figure else None,
        figure.note if figure else "",
    )


def _bar(figure: SetFigure, real: SetFigure | None) -> IntervalBar | None:
    """Places on one scale from the least to the greatest; None where there is no interval."""
    truth = real.value if real else math.nan
    if not math.isfinite(figure.low + figure.high):
        return None
    known = [each for each in (figure.low, figure.high, figure.value, truth) if math.isfinite(each)]
    low, span = min(known), (max(known) - min(known)) or 1.0
    return IntervalBar(
        *(4 + 92 * (x - low) / span for x in (figure.value, figure.low, figure.high, truth))
    )
