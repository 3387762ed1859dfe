"""Results as a table to read in a terminal, and as CSV for other programs."""

import csv
import io
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from textwrap import wrap

from loopy.drafts import writing
from loopy.evaluation.table.results import Results, SetFigure

DIRECTIONS = {"higher": "higher", "lower": "lower", "truth": "as real", "": ""}
"""Which way is better, in the words of a table."""

WIDTH = 100


def results_table(results: Results) -> str:
    """The table of a test set: a row for each column that has a figure, then what is missing.

    Figures stand with their 95 % interval and the number of videos, those of the real videos to
    their right.
    """
    given = [column for column in results.columns if column.name not in results.missing]
    notes = {name: each.note for name, each in results.figures.items() if each.note}
    problems = {video.name: video.problem for video in results.videos if video.problem}
    explained = {column.name: column.about for column in given if column.about}
    head = ["what", "better", "made", "95 %", "n", "real", "95 %", "n", *["of"] * bool(notes)]
    rows = [
        [
            f"{column.name} ({column.unit})" if column.unit else column.name,
            DIRECTIONS[column.better],
            *figure_cells(results.figures.get(column.name)),
            *figure_cells(results.real_figures.get(column.name)),
            *[notes.get(column.name, "")] * bool(notes),
        ]
        for column in given
    ]
    title = f"{results.model} on {results.test_set}: {count(results.videos, 'video')}"
    return "\n".join(
        [
            f"{title}; seed {results.seed}",
            "",
            *aligned(head, rows),
            *_listed("What was measured", explained),
            *_listed("Without a figure", results.missing),
            *_listed(f"{count(problems, 'video')} not judged", problems),
        ]
    )


def write_csv(results: Results, folder: Path) -> tuple[Path, Path]:
    """Writes `table.csv`, a row for each column, and `videos.csv`, a row for each video.

    A figure that is not known is an empty cell. In `videos.csv` a column "X, real" is that of the
    real video.

    Raises:
        OutputError: They cannot be written there.
    """
    numbers = ["value", "low", "high", "n"]
    head = ["column", "better", "unit", *numbers, *(f"real {name}" for name in numbers)]
    columns: list[list[object]] = [[*head, "missing", "about", "note"]]
    for column in results.columns:
        made, real = (
            figures.get(column.name, SetFigure(math.nan))
            for figures in (results.figures, results.real_figures)
        )
        cells = [_known(getattr(figure, each)) for figure in (made, real) for each in numbers]
        about = (results.missing.get(column.name, ""), column.about, made.note)
        columns.append([column.name, column.better, column.unit, *cells, *about])
    names = [column.name for column in results.columns if column.name not in results.missing]
    both = [word for name in names for word in (name, f"{name}, real")]
    videos: list[list[object]] = [["video", *both, "problem"]]
    for video in results.videos:
        known = video.values | {f"{name}, real": value for name, value in video.real.items()}
        figures = (_known(known.get(name, math.nan)) for name in both)
        videos.append([video.name, *figures, video.problem])
    return write_rows(columns, folder / "table.csv"), write_rows(videos, folder / "videos.csv")


def write_rows(rows: Iterable[Sequence[object]], path: Path) -> Path:
    """Writes a CSV file, whole or not at all.

    Raises:
        OutputError: It cannot be written there.
    """
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    with writing(path) as hidden:
        hidden.write_text(text.getvalue(), encoding="utf-8")
    return path


def aligned(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table whose columns are as wide as their widest cell."""
    widths = [max(len(row[place]) for row in [head, *rows]) for place in range(len(head))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in [head, ["-" * width for width in widths], *rows]
    ]


def figure_cells(figure: SetFigure | None) -> tuple[str, str, str]:
    """Value, interval and number of videos; "-" where there is no figure."""
    if figure is None:
        return "-", "-", "-"
    return short(figure.value), interval(figure.low, figure.high), str(figure.n)


def short(value: float) -> str:
    """A figure with about four digits that count; "-" for one that is not known."""
    if not math.isfinite(value):
        return "-"
    size = abs(value)
    if size < 0.001:
        return f"{value:.3g}"
    return f"{value:.{1 if size >= 100 else 2 if size >= 10 else 3 if size >= 1 else 4}f}"


def interval(low: float, high: float) -> str:
    """Both ends; "-" where they are not known."""
    return f"[{short(low)}, {short(high)}]" if math.isfinite(low + high) else "-"


def count(things: Sequence[object] | dict[str, str], noun: str) -> str:
    """How many there are, in words."""
    return f"{len(things)} {noun}{'s' * (len(things) != 1)}"


def together(words: dict[str, str]) -> dict[str, str]:
    """Names and explanations, with names that share one joined."""
    return {
        ", ".join(name for name, each in words.items() if each == word): word
        for word in dict.fromkeys(words.values())
    }


def _listed(title: str, words: dict[str, str]) -> list[str]:
    """Names with their explanations below a title; nothing where there are none."""
    if not words:
        return []
    lines = [
        line
        for names, word in together(words).items()
        for line in wrap(f"{names}: {word}", WIDTH, initial_indent="  ", subsequent_indent="    ")
    ]
    return ["", title, *lines]


def _known(value: float) -> float | str:
    return value if math.isfinite(value) else ""
