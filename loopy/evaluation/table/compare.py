"""Two evaluations of one test set: what differs by more than the luck of its videos."""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from loopy.errors import ConfigurationError
from loopy.evaluation.sets.draw import FILE as DRAW
from loopy.evaluation.sets.draw import Draw
from loopy.evaluation.table.results import ColumnInfo, Results, VideoResult
from loopy.evaluation.table.statistics import FEWEST_VIDEOS, Figure, bootstrap, mean, student
from loopy.evaluation.table.text import DIRECTIONS, aligned, count, interval, short, together
from loopy.typed_values import write_record

FILE = "comparison.json"
FEWEST = FEWEST_VIDEOS
"""Pairs that a verdict needs: five point one way by luck once in 16 times, which is too often."""

SAME, SAME_ABS = 0.01, 1e-4
"""Real figures of one video differ by no more between two machines, relatively and absolutely."""

Pairs = list[tuple[VideoResult, VideoResult]]


@dataclass(frozen=True)
class Difference:
    """One column of two evaluations, over the `n` videos of which both have a figure.

    Means of both and of the real videos, b - a with its interval, and how much nearer to the real
    mean b is than a, for a column that should be as real. NaN where there is no real video.
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
    def winner(self) -> Literal["a", "b", ""]:
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

    @property
    def verdict(self) -> str:
        """In words of a table."""
        if self.n < FEWEST:
            return f"too few: {FEWEST} needed"
        if self.winner:
            return f"{self.winner.upper()} better"
        return "differ" if self.beyond_noise else "-"


@dataclass(frozen=True)
class Comparison:
    """Two evaluations, compared: their models and folders, and a row for each column of both.

    `unpaired` are columns that cannot be compared video by video, with the reason.
    """

    a: str
    b: str
    test_set: str
    differences: tuple[Difference, ...]
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]
    unpaired: dict[str, str]

    def write(self, folder: Path) -> Path:
        """Writes comparison.json, with what follows from the intervals; whole or not at all.

        Raises:
            OutputError: It cannot be written there.
        """
        rows: list[dict[str, Any]] = [
            asdict(row) | {"beyond_noise": row.beyond_noise, "winner": row.winner}
            for row in self.differences
        ]
        write_record(folder / FILE, asdict(self) | {"differences": rows})
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
                row.verdict,
            ]
            for row in self.differences
        ]
        head = ["what", "better", "n", "A", "B", "real", "B - A", "95 %", "verdict"]
        alone = {"A": self.only_a, "B": self.only_b}
        return "\n".join(
            [
                f"{self.test_set}: A is {self.a}, B is {self.b}",
                "",
                *aligned(head, rows),
                "",
                *self._in_words(),
                *(f"Not compared: {each}; {why}" for each, why in together(self.unpaired).items()),
                *(f"Judged in {x} alone, left out: {', '.join(v)}" for x, v in alone.items() if v),
            ]
        )

    def _in_words(self) -> Iterator[str]:
        """What the table says, and how much of it luck would say."""
        tested = [row for row in self.differences if row.n >= FEWEST]
        columns = count(self.differences, "column")
        yield f"{columns} compared, {len(tested)} with enough videos for a verdict."
        groups = {
            "A is better beyond noise in": [row for row in tested if row.winner == "a"],
            "B is better beyond noise in": [row for row in tested if row.winner == "b"],
            "Better, but beyond the real videos": [row for row in tested if row.beyond_real],
            "Different beyond noise, neither better": [
                row for row in tested if row.verdict == "differ"
            ],
        }
        for words, group in groups.items():
            if group:
                yield f"{words}: {', '.join(row.column.name for row in group)}."
        if not any(groups.values()):
            yield "Nothing differs beyond noise."
        if tested:
            yield (
                f"Each verdict errs once in 20: were both the same, about {len(tested) / 20:.1f} "
                f"of {len(tested)} columns would still be named by luck."
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
        ConfigurationError: Of other test sets, seeds, networks or videos, or no video in common.
    """
    first, second = Results.read(a), Results.read(b)
    ours, theirs = (
        {video.name: video for video in results.videos if not video.problem}
        for results in (first, second)
    )
    pairs = [(video, theirs[name]) for name, video in ours.items() if name in theirs]
    _check(a, b, first, second, pairs)
    rows, unpaired = [], {}
    for column in first.columns:
        if why := _incomparable(column, first, second):
            unpaired[column.name] = why
        elif (row := difference(column, pairs, seed)) is None:
            both = [r.figures[column.name] for r in (first, second) if column.name in r.figures]
            sets = " and ".join(f"{short(f.value)} {interval(f.low, f.high)}" for f in both)
            why = "no video has a figure of its own"
            unpaired[column.name] = f"{why}; of the whole sets: {sets}" if sets else why
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


def difference(column: ColumnInfo, pairs: Pairs, seed: int | None) -> Difference | None:
    """Compares one column over pairs of videos; None where no pair has it.

    The real figure of a video is the same in both evaluations; the first one that has it counts.
    No seed takes Student's t in place of the bootstrap, for few videos.
    """
    name, nan = column.name, math.nan
    known = [
        (a.values.get(name, nan), b.values.get(name, nan), (b.real | a.real).get(name, nan))
        for a, b in pairs
    ]
    triples = torch.tensor(known, dtype=torch.float64).view(-1, 3)
    triples = triples[triples[:, :2].isfinite().all(1)]
    if not len(triples):
        return None
    real = triples[triples[:, 2].isfinite()]
    way = student if seed is None else partial(bootstrap, seed=seed)
    first, second, _ = triples.mean(0).tolist()
    return Difference(
        column,
        len(triples),
        first,
        second,
        float(real[:, 2].mean()),
        way(mean, triples[:, 1:2] - triples[:, :1], fewest=FEWEST),
        way(_nearer, real if len(real) >= FEWEST else real[:0]),
    )


def _check(a: Path, b: Path, first: Results, second: Results, pairs: Pairs) -> None:
    """Refuses evaluations that cannot be compared as a whole."""
    both = [x for x in first.judges if first.judges[x] and second.judges.get(x) and x != "points"]
    judges = [name for name in both if first.judges[name] != second.judges[name]]
    others = [one.name for one, other in pairs if _other_real(one, other)]
    if (a / DRAW).is_file() and (b / DRAW).is_file():
        ours, theirs = ({i.name: i for i in Draw.read(each / DRAW).items} for each in (a, b))
        drawn = [one.name for one, _ in pairs if ours.get(one.name) != theirs.get(one.name)]
        others = drawn or others
    if first.test_set != second.test_set:
        problem = f"is of the test set {first.test_set!r}, {b} of {second.test_set!r}; take one"
    elif first.seed != second.seed:
        problem = f"is of seed {first.seed}, {b} of {second.seed}; judge one by the other's"
    elif judges:
        problem = (
            f"and {b} were judged by others: {', '.join(judges)}; judge one again by the networks "
            "and the loopy of the other"
        )
    elif not pairs:
        problem = f"and {b} have judged no video in common; nothing to compare"
    elif others:
        problem = (
            f"and {b} share only the names of {count(others, 'video')}, for one {others[0]}: "
            "other spans, sounds, real videos or sizes; compare evaluations of one draw at one size"
        )
    else:
        return
    raise ConfigurationError(f"{a} {problem}")


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
    about = next((each.about for each in second.columns if each.name == name), None)
    if about is None:
        return "B lacks it"
    return "" if about == column.about else f"measured in different ways: {column.about} / {about}"


def _nearer(triples: Float[Tensor, "*r n 3"]) -> Float[Tensor, "*r"]:
    """By how much the mean of the second is nearer to the third than that of the first."""
    first, second, real = triples.mean(-2).unbind(-1)
    return (first - real).abs() - (second - real).abs()


def _excludes_zero(figure: Figure) -> bool:
    return figure.low > 0 or figure.high < 0
