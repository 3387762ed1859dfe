"""Results as a table to read in a terminal, and as CSV for other programs."""

import csv
import io
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from textwrap import wrap

from loopy.drafts import writing
from loopy.evaluation.table.results import ColumnInfo, Results, SetFigure

DIRECTIONS = {"higher": "higher", "lower": "lower", "truth": "as real", "": ""}
"""Which way is better, as a table says it."""

NOTHING = SetFigure(math.nan)
WIDTH = 100


def table(results: Results) -> str:
    """The table of a test set: a row for each column of the paper's, with what is missing and why.

    Figures stand with their 95 % interval and the number of videos, those of the real videos
    beside them.
    """
    given = [column for column in results.columns if column.name not in results.missing]
    notes = {name: each.note for name, each in results.figures.items() if each.note}
    problems = {video.name: video.problem for video in results.videos if video.problem}
    explained = {column.name: column.about for column in given if column.about}
    return "\n".join(
        [
            f"{results.model} on {results.test_set}: {count(results.videos, 'video')}; "
            f"seed {results.seed}",
            "",
            *aligned(
                ["what", "better", "made", "95 %", "n", "real", "95 %", "n", *["of"] * bool(notes)],
                [
                    [*_row(column, results), *[notes.get(column.name, "")] * bool(notes)]
                    for column in given
                ],
            ),
            *_listed("What was measured", explained),
            *_listed("Without a figure", results.missing),
            *_listed(f"{count(problems, 'video')} not judged" if problems else "", problems),
        ]
    )


def write_csv(results: Results, folder: Path) -> tuple[Path, Path]:
    """Writes `table.csv`, a row for each column, and `videos.csv`, a row for each video.

    A figure that is not known is an empty cell. In `videos.csv` a column "X, real" is that of the
    real video.

    Returns:
        Both files.

    Raises:
        OutputError: They cannot be written there.
    """
    names = [column.name for column in results.columns if column.name not in results.missing]
    videos = [
        ["video", *(cell for name in names for cell in (name, f"{name}, real")), "problem"],
        *(
            [
                video.name,
                *(
                    _exact(kind.get(name, math.nan))
                    for name in names
                    for kind in (video.values, video.real)
                ),
                video.problem,
            ]
            for video in results.videos
        ),
    ]
    head = ["column", "better", "unit", "value", "low", "high", "n"]
    columns = [
        [*head, *(f"real {name}" for name in head[3:]), "missing", "about", "note"],
        *(
            [*_figures(column, results), column.about, _note(column, results)]
            for column in results.columns
        ),
    ]
    return (
        write_rows(columns, folder / "table.csv"),
        write_rows(videos, folder / "videos.csv"),
    )


def write_rows(rows: Iterable[Sequence[str]], path: Path) -> Path:
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


def short(value: float) -> str:
    """A figure with about four digits that count; "-" for one that is not known."""
    if not math.isfinite(value):
        return "-"
    size = abs(value)
    if size < 0.001:
        return f"{value:.3g}"
    return f"{value:.{1 if size >= 100 else 2 if size >= 10 else 3 if size >= 1 else 4}f}"


def interval(low: float, high: float) -> str:
    """Two ends, as a table says them; "-" where they are not known."""
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


def _row(column: ColumnInfo, results: Results) -> list[str]:
    both = (results.figures.get(column.name), results.real_figures.get(column.name))
    cells = [
        cell
        for figure in both
        for cell in (
            (short(figure.value), interval(figure.low, figure.high), str(figure.n))
            if figure
            else ("-", "-", "-")
        )
    ]
    name = f"{column.name} ({column.unit})" if column.unit else column.name
    return [name, DIRECTIONS[column.better], *cells]


def _figures(column: ColumnInfo, results: Results) -> list[str]:
    made = results.figures.get(column.name, NOTHING)
    real = results.real_figures.get(column.name, NOTHING)
    numbers = [
        cell
        for figure in (made, real)
        for cell in (*map(_exact, (figure.value, figure.low, figure.high)), str(figure.n))
    ]
    missing = results.missing.get(column.name, "")
    return [column.name, column.better, column.unit, *numbers, missing]


def _note(column: ColumnInfo, results: Results) -> str:
    return results.figures.get(column.name, NOTHING).note


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


def _exact(value: float) -> str:
    return repr(float(value)) if math.isfinite(value) else ""
