"""Two evaluations of one test set: what differs by more than the luck of its videos."""

import math
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from loopy.errors import ConfigurationError
from loopy.evaluation.sets.drawn import FILE as DRAW
from loopy.evaluation.sets.drawn import Draw
from loopy.evaluation.table.results import ColumnInfo, Results, VideoResult
from loopy.evaluation.table.statistics import FEWEST_VIDEOS, Figure, bootstrap, mean, student
from loopy.evaluation.table.text import DIRECTIONS, aligned, count, interval, short, together
from loopy.typed_values import write_record

FILE = "comparison.json"
FEWEST = FEWEST_VIDEOS
"""Pairs that a verdict needs: five point one way by luck once in 16 times, which is too often."""

SAME, SAME_ABS = 0.01, 1e-4
"""Real figures of one video differ by no more between two machines, relatively and absolutely."""

Winner = Literal["a", "b", ""]


@dataclass(frozen=True)
class Difference:
    """One column of two evaluations, over the videos that both have.

    Attributes:
        column: Which.
        n: Videos of which both have a figure.
        a: Mean of the first evaluation's.
        b: Mean of the second one's.
        real: Mean of the real videos; NaN where there is none.
        difference: b - a, with its interval.
        nearer: How much nearer to the real mean b is than a, for a column that should be as real.
    """

    column: ColumnInfo
    n: int
    a: float
    b: float
    real: float
    difference: Figure
    nearer: Figure

    @property
    def beyond_noise(self) -> bool:
        """Whether the interval of the difference excludes zero, and there are enough pairs."""
        return self.n >= FEWEST and _excludes_zero(self.difference)

    @property
    def winner(self) -> Winner:
        """Which one is better beyond noise; "" where none is, or no way is better."""
        gain = self.nearer if self.column.better == "truth" else self.difference
        if not (self.column.better and self.n >= FEWEST and _excludes_zero(gain)):
            return ""
        return "b" if (gain.low > 0) != (self.column.better == "lower") else "a"

    @property
    def beyond_real(self) -> bool:
        """Whether the winner's mean is past the real one, where more is no proof of better."""
        own = {"a": self.a, "b": self.b, "": math.nan}[self.winner]
        sign = {"higher": 1, "lower": -1}.get(self.column.better, math.nan)
        return sign * (own - self.real) > 0


@dataclass(frozen=True)
class Comparison:
    """Two evaluations, compared.

    Attributes:
        a: The first one's model and folder.
        b: The second one's.
        test_set: Of both.
        differences: A row for each column that both have for the same videos.
        only_a: Videos that only the first one has.
        only_b: Videos that only the second one has.
        unpaired: Columns that cannot be compared video by video, with the reason.
    """

    a: str
    b: str
    test_set: str
    differences: tuple[Difference, ...]
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]
    unpaired: dict[str, str]

    def as_json(self) -> dict[str, Any]:
        """Everything, with what follows from the intervals."""
        rows = [
            {**asdict(row), "beyond_noise": row.beyond_noise, "winner": row.winner}
            for row in self.differences
        ]
        return {**asdict(self), "differences": rows}

    def write(self, folder: Path) -> Path:
        """Writes comparison.json, whole or not at all.

        Raises:
            OutputError: It cannot be written there.
        """
        write_record(folder / FILE, self.as_json())
        return folder / FILE

    def __str__(self) -> str:
        """The table, what differs in words, and what could not be paired."""
        rows = [
            [
                row.column.name,
                DIRECTIONS[row.column.better],
                str(row.n),
                *map(short, (row.a, row.b, row.real, row.difference.value)),
                interval(row.difference.low, row.difference.high),
                _verdict(row),
            ]
            for row in self.differences
        ]
        head = ["what", "better", "n", "A", "B", "real", "B - A", "95 %", "verdict"]
        unpaired = together(self.unpaired).items()
        alone = {"A": self.only_a, "B": self.only_b}
        return "\n".join(
            [
                f"{self.test_set}: A is {self.a}, B is {self.b}",
                "",
                *aligned(head, rows),
                "",
                *_in_words(self.differences),
                *(f"Not compared: {columns}; {why}" for columns, why in unpaired),
                *(f"Judged in {x} alone, left out: {', '.join(v)}" for x, v in alone.items() if v),
            ]
        )


def compare(a: Path, b: Path, *, seed: int = 0) -> Comparison:
    """Compares two evaluations of one test set by a paired bootstrap over the videos of both.

    Both figures of a video are redrawn together (Efron and Tibshirani 1993, ch. 8 and 16), so a
    video that is hard for both adds no noise. In a column that should be as real, the one wins
    whose mean is nearer to the real mean; the real videos are redrawn with the others.

    Args:
        a: Folder of an evaluation.
        b: Folder of another one.
        seed: Of the draws.

    Raises:
        MediaError: A folder holds no results.
        ConfigurationError: Of different test sets, seeds, networks or videos, or with no video in
            common.
    """
    first, second = Results.read(a), Results.read(b)
    ours, theirs = (
        {video.name: video for video in results.videos if not video.problem}
        for results in (first, second)
    )
    common = [name for name in ours if name in theirs]
    if problem := _problem(a, b, first, second, common):
        raise ConfigurationError(problem)
    pairs = [(ours[name], theirs[name]) for name in common]
    if others := _redrawn(a, b, common) or [x.name for x, y in pairs if _other_real(x, y)]:
        raise ConfigurationError(
            f"{count(others, 'video')} of {a} and {b} share a name alone, for one {others[0]}: "
            "other spans, sounds, real videos or sizes; compare evaluations of one draw at one size"
        )
    rows, unpaired = [], {}
    for column in first.columns:
        if why := _incomparable(column, first, second):
            unpaired[column.name] = why
        elif (row := difference(column, pairs, seed)) is None:
            sets = _of_sets(column.name, first, second)
            unpaired[column.name] = f"no video has a figure of its own{sets}"
        else:
            rows.append(row)
    known = {column.name for column in first.columns}
    unpaired |= {c.name: "A lacks it" for c in second.columns if c.name not in known}
    return Comparison(
        f"{first.model} ({a})",
        f"{second.model} ({b})",
        first.test_set,
        tuple(rows),
        tuple(name for name in ours if name not in theirs),
        tuple(name for name in theirs if name not in ours),
        unpaired,
    )


def difference(
    column: ColumnInfo, pairs: list[tuple[VideoResult, VideoResult]], seed: int | None
) -> Difference | None:
    """Compares one column over pairs of videos; None where no pair has it.

    The real figure of a video is the same in both evaluations; the first one that has it counts.

    Args:
        column: Which.
        pairs: The same video of both.
        seed: Of the draws; None takes Student's t in place of the bootstrap, for few videos.
    """
    name = column.name
    triples = torch.tensor(
        [
            [
                a.values.get(name, math.nan),
                b.values.get(name, math.nan),
                a.real.get(name, b.real.get(name, math.nan)),
            ]
            for a, b in pairs
        ],
        dtype=torch.float64,
    )
    triples = triples[triples[:, :2].isfinite().all(1)]
    if not len(triples):
        return None
    real = triples[triples[:, 2].isfinite()]
    way = student if seed is None else partial(bootstrap, seed=seed)
    means = triples.mean(0)
    return Difference(
        column,
        len(triples),
        float(means[0]),
        float(means[1]),
        float(real[:, 2].mean()),
        way(mean, triples[:, 1:2] - triples[:, :1], fewest=FEWEST),
        way(_nearer, real if len(real) >= FEWEST else real[:0]),
    )


def _problem(a: Path, b: Path, first: Results, second: Results, common: list[str]) -> str:
    """Why two evaluations as a whole cannot be compared; "" where they can."""
    if first.test_set != second.test_set:
        return (
            f"{a} is of the test set {first.test_set!r}, {b} of {second.test_set!r}; "
            "compare evaluations of one"
        )
    if first.seed != second.seed:
        return f"{a} is of seed {first.seed}, {b} of {second.seed}; judge one again by the other's"
    both = [x for x in first.judges if first.judges[x] and second.judges.get(x) and x != "points"]
    if others := [name for name in both if first.judges[name] != second.judges[name]]:
        return (
            f"{a} and {b} were judged by others: {', '.join(others)}; judge one again by the "
            "networks and the loopy of the other"
        )
    return "" if common else f"{a} and {b} have judged no video in common; nothing to compare"


def _redrawn(a: Path, b: Path, names: list[str]) -> list[str]:
    """Videos that were drawn otherwise in both; none where a draw is not written down."""
    if not ((a / DRAW).is_file() and (b / DRAW).is_file()):
        return []
    ours, theirs = ({i.name: i for i in Draw.read(each / DRAW).items} for each in (a, b))
    return [name for name in names if ours.get(name) != theirs.get(name)]


def _other_real(ours: VideoResult, theirs: VideoResult) -> bool:
    """Whether most figures of the real video differ."""
    both = [(ours.real[name], theirs.real[name]) for name in ours.real if name in theirs.real]
    apart = [pair for pair in both if not math.isclose(*pair, rel_tol=SAME, abs_tol=SAME_ABS)]
    return 2 * len(apart) > len(both)


def _incomparable(column: ColumnInfo, first: Results, second: Results) -> str:
    """Why a column cannot be compared; "" where it can."""
    name = column.name
    if name in first.missing and name in second.missing:
        return "neither has a figure, their own tables say why"
    for letter, results in (("A", first), ("B", second)):
        if name in results.missing:
            return f"in {letter} {results.missing[name]}"
    about = {each.name: each.about for each in second.columns}
    if name not in about:
        return "B lacks it"
    if about[name] != column.about:
        return f"measured in different ways: {column.about} / {about[name]}"
    return ""


def _of_sets(name: str, *results: Results) -> str:
    """Figures of whole sets, which have no pairs."""
    figures = [each.figures[name] for each in results if name in each.figures]
    words = (f"{short(each.value)} {interval(each.low, each.high)}" for each in figures)
    return f"; of the whole sets: {' and '.join(words)}" if figures else ""


def _nearer(triples: Float[Tensor, "*r n 3"]) -> Float[Tensor, "*r"]:
    """By how much the mean of the second is nearer to the third than that of the first."""
    first, second, real = triples.mean(-2).unbind(-1)
    return (first - real).abs() - (second - real).abs()


def _excludes_zero(figure: Figure) -> bool:
    return figure.low > 0 or figure.high < 0


def _verdict(row: Difference) -> str:
    if row.n < FEWEST:
        return f"too few: {FEWEST} needed"
    if row.winner:
        return f"{row.winner.upper()} better"
    return "differ" if row.beyond_noise else "-"


def _in_words(rows: tuple[Difference, ...]) -> list[str]:
    """What the table says, and how much of it luck would say."""
    tested = [row for row in rows if row.n >= FEWEST]
    lines = [f"{count(rows, 'column')} compared, {len(tested)} with enough videos for a verdict."]
    groups = {
        "A is better beyond noise in": [row for row in tested if row.winner == "a"],
        "B is better beyond noise in": [row for row in tested if row.winner == "b"],
        "Better, but beyond the real videos": [row for row in tested if row.beyond_real],
        "Different beyond noise, neither better": [
            row for row in tested if row.beyond_noise and not row.winner
        ],
    }
    for words, group in groups.items():
        lines += [f"{words}: {', '.join(row.column.name for row in group)}."] if group else []
    if not any(row.beyond_noise or row.winner for row in tested):
        lines.append("Nothing differs beyond noise.")
    if tested:
        lines.append(
            f"Each verdict errs once in 20: were both the same, about {len(tested) / 20:.1f} of "
            f"{len(tested)} columns would still be named by luck."
        )
    return lines
