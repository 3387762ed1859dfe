"""Results as one page to open in a browser: no network, no server, the worst videos first."""

import base64
import math
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from scipy.stats import rankdata

from loopy.drafts import writing
from loopy.evaluation.table.charts import BOTTOM, LEFT, RIGHT, TOP, charts, overview
from loopy.evaluation.table.results import ColumnInfo, Results, SetFigure, VideoResult
from loopy.evaluation.table.text import DIRECTIONS, figure_cells, short, together

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


def write_page(results: Results, folder: Path, *, embed_bytes: int = EMBED_BYTES) -> Path:
    """Writes report.html beside results.json.

    Pictures, then videos, the worst ones first, are put inside the page up to a bound; the rest are
    relative links, for which the page must stay in its folder. The page says which.

    Raises:
        OutputError: It cannot be written there.
    """
    orders = worst_first(results)
    order = next(iter(orders.values()))
    shown = [results.videos[number] for number in order]
    files = [video.strip for video in shown]
    files += [path for video in shown for path in (video.video, video.real_video)]
    inside = embedded(files, folder, embed_bytes)
    there = {path for path in files if path and (folder / path).is_file()}
    names = [column.name for column in results.columns if column.name not in results.missing]
    page = _template().render(
        results=results,
        columns=[column for column in results.columns if column.name in names],
        missing=together(results.missing),
        overview=overview(results.videos),
        videos=list(zip(order, shown, strict=True)),
        sortable=[name for name in names if any(name in v.values for v in results.videos)],
        orders=orders,
        sources={path: inside.get(path, quote(path)) for path in there},
        inside=len(inside),
        links=len(there) - len(inside),
        megabytes=embed_bytes / 1e6,
        field=(LEFT, RIGHT, TOP, BOTTOM),
        open=OPEN,
        nan=math.nan,
        bar=_bar,
        **{each.__name__: each for each in (charts, figure_cells, short)},
        directions=DIRECTIONS,
    )
    with writing(folder / FILE) as hidden:
        hidden.write_text(page, encoding="utf-8")
    return folder / FILE


def worst_first(results: Results) -> dict[str, list[int]]:
    """Places in `results.videos` by name of an order; a video that could not be judged is worst.

    The first order is of all columns: by the mean of a video's ranks in them, of 0 (best) to 1.
    Then one for each column that has a better way; a video without a figure is the last.
    """
    judged = [number for number, video in enumerate(results.videos) if not video.problem]
    problems = [number for number, video in enumerate(results.videos) if video.problem]
    ranks: dict[int, list[float]] = {number: [] for number in judged}
    orders = {}
    for column in results.columns:
        bad = {number: _badness(results.videos[number], column, results) for number in judged}
        known = [number for number in judged if math.isfinite(bad[number])]
        if not known:
            continue
        for number, rank in zip(known, rankdata([bad[number] for number in known]), strict=True):
            ranks[number].append((rank - 1) / max(len(known) - 1, 1))
        rest = [number for number in judged if number not in known]
        orders[column.name] = [*problems, *sorted(known, key=lambda n, b=bad: -b[n]), *rest]
    means = {number: sum(each) / max(len(each), 1) for number, each in ranks.items()}
    return {"all columns": [*problems, *sorted(judged, key=lambda n: -means[n])], **orders}


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
        whole = results.real_figures.get(column.name)
        return abs(value - video.real.get(column.name, whole.value if whole else math.nan))
    return value * {"higher": -1, "lower": 1, "": math.nan}[column.better]


def _bar(figure: SetFigure | None, real: SetFigure | None) -> tuple[float, ...]:
    """A figure, its interval and the real figure as places from 0 to 100; () without interval."""
    if figure is None or not math.isfinite(figure.low + figure.high):
        return ()
    places = (figure.value, figure.low, figure.high, real.value if real else math.nan)
    known = [place for place in places if math.isfinite(place)]
    low, span = min(known), (max(known) - min(known)) or 1.0
    return tuple(4 + 92 * (place - low) / span for place in places)


@cache
def _template() -> Template:
    """The page's; text is escaped, an unknown value is an error."""
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parents[1] / "pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    templates.policies["json.dumps_kwargs"] = {"sort_keys": False}
    return templates.get_template("report.html")
