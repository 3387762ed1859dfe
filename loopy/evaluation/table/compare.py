"""Two evaluations of one test set: what differs by more than the luck of its videos."""

import json
import math
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from loopy.drafts import writing
from loopy.errors import ConfigurationError
from loopy.evaluation.sets.drawn import FILE as DRAW
from loopy.evaluation.sets.drawn import Draw
from loopy.evaluation.table.results import ColumnInfo, Results, VideoResult, finite
from loopy.evaluation.table.statistics import FEWEST_VIDEOS, Figure, bootstrap, mean, student
from loopy.evaluation.table.text import DIRECTIONS, aligned, count, interval, short, together

FILE = "comparison.json"
FEWEST = FEWEST_VIDEOS
"""Pairs that a verdict needs: five point one way by luck once in 16 times, which is too often."""

SAME, SAME_ABS = 0.01, 1e-4
"""Real figures of one video differ by no more between two machines, in parts and absolutely."""

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
        """Whether the interval of the difference leaves zero out, and there are enough pairs."""
        return self.n >= FEWEST and _leaves_out_zero(self.difference)

    @property
    def winner(self) -> Winner:
        """Which one is better beyond noise; "" where none is, or no way is better."""
        gain = self.nearer if self.column.better == "truth" else self.difference
        if not (self.column.better and self.n >= FEWEST and _leaves_out_zero(gain)):
            return ""
        more = gain.low > 0
        return "b" if more != (self.column.better == "lower") else "a"

    @property
    def beyond_real(self) -> bool:
        """Whether the winner's mean is past the real one, where more is no proof of better."""
        own = {"a": self.a, "b": self.b, "": math.nan}[self.winner]
        sign = {"higher": 1, "lower": -1}.get(self.column.better, math.nan)
        return sign * (own - self.real) > 0


@dataclass(frozen=True)
class Comparison:
    """Two evaluations beside each other.

    Attributes:
        a: The first one's model and folder.
        b: The second one's.
        test_set: Of both.
        differences: A row for each column that both have for the same videos.
        only_a: Videos that the first one alone has judged.
        only_b: Videos that the second one alone has judged.
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
        """Everything, with None for what is not known."""
        rows = [
            {
                "column": asdict(row.column),
                "n": row.n,
                "a": row.a,
                "b": row.b,
                "real": row.real,
                "difference": row.difference._asdict(),
                "nearer": row.nearer._asdict(),
                "beyond_noise": row.beyond_noise,
                "winner": row.winner,
            }
            for row in self.differences
        ]
        return finite({**asdict(self), "differences": rows})

    def write(self, folder: Path) -> Path:
        """Writes comparison.json, whole or not at all.

        Raises:
            OutputError: It cannot be written there.
        """
        with writing(folder / FILE) as hidden:
            hidden.write_text(json.dumps(self.as_json(), indent=1) + "\n", encoding="utf-8")
        return folder / FILE

    def __str__(self) -> str:
        """The table, what differs in words, and what could not be paired."""
        return "\n".join(
            [
                f"{self.test_set}: A is {self.a}, B is {self.b}",
                "",
                *aligned(
                    ["what", "better", "n", "A", "B", "real", "B - A", "95 %", "verdict"],
                    [_cells(row) for row in self.differences],
                ),
                "",
                *_said(self.differences),
                *(
                    f"Not compared: {names}; {why}"
                    for names, why in together(self.unpaired).items()
                ),
                *_alone("A", self.only_a),
                *_alone("B", self.only_b),
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
    if first.test_set != second.test_set:
        raise ConfigurationError(
            f"{a} is of the test set {first.test_set!r}, {b} of {second.test_set!r}; "
            "compare evaluations of one"
        )
    if first.seed != second.seed:
        raise ConfigurationError(
            f"{a} is of seed {first.seed}, {b} of {second.seed}; judge one again by the other's"
        )
    if others := _other_judges(first.judges, second.judges):
        raise ConfigurationError(
            f"{a} and {b} were judged by others: {', '.join(others)}; judge one again by the "
            "networks and the loopy of the other"
        )
    ours, theirs = _judged(first), _judged(second)
    common = [name for name in ours if name in theirs]
    if not common:
        raise ConfigurationError(f"{a} and {b} have judged no video in common; nothing to compare")
    infos = {column.name: column for column in second.columns}
    if others := _other_videos(a, b, common) or [
        name for name in common if _other_real(ours[name], theirs[name])
    ]:
        raise ConfigurationError(
            f"{count(others, 'video')} of {a} and {b} share a name alone, for one {others[0]}: "
            "other spans, sounds, real videos or sizes; compare evaluations of one draw at one size"
        )
    pairs = [(ours[name], theirs[name]) for name in common]
    rows, unpaired = [], {}
    for column in first.columns:
        name = column.name
        if why := _incomparable(name, first, second):
            unpaired[name] = why
        elif infos[name].about != column.about:
            unpaired[name] = f"measured in different ways: {column.about} / {infos[name].about}"
        elif (row := difference(column, pairs, seed)) is None:
            unpaired[name] = "no video has a figure of its own" + _both(name, first, second)
        else:
            rows.append(row)
    known = {column.name for column in first.columns}
    rest = [name for name in infos if name not in known]
    unpaired |= dict.fromkeys(rest, "A lacks it")
    return Comparison(
        f"{first.model} ({a})",
        f"{second.model} ({b})",
        first.test_set,
        tuple(rows),
        tuple(name for name in ours if name not in theirs),
        tuple(name for name in theirs if name not in ours),
        unpaired,
    )


def _judged(results: Results) -> dict[str, VideoResult]:
    return {video.name: video for video in results.videos if not video.problem}


def _other_judges(first: dict[str, Any], second: dict[str, Any]) -> list[str]:
    """Who looked in both, and was not the same; tracks beside the videos are of these."""
    both = [name for name in first if first[name] and second.get(name) and name != "points"]
    return [name for name in both if first[name] != second[name]]


def _other_videos(a: Path, b: Path, names: list[str]) -> list[str]:
    """Those of both draws that were not drawn alike; none where a draw is not written down."""
    if not ((a / DRAW).is_file() and (b / DRAW).is_file()):
        return []
    ours, theirs = ({i.name: i for i in Draw.read(each / DRAW).items} for each in (a, b))
    return [name for name in names if ours.get(name) != theirs.get(name)]


def _other_real(ours: VideoResult, theirs: VideoResult) -> bool:
    """Whether most of what was read in the real video differs."""
    both = [(ours.real[name], theirs.real[name]) for name in ours.real if name in theirs.real]
    apart = [pair for pair in both if not math.isclose(*pair, rel_tol=SAME, abs_tol=SAME_ABS)]
    return 2 * len(apart) > len(both)


def _incomparable(name: str, first: Results, second: Results) -> str:
    """Why one of both has no such column; "" where both have it."""
    if name in first.missing and name in second.missing:
        return "neither has a figure, their own tables say why"
    for letter, results in (("A", first), ("B", second)):
        if name in results.missing:
            return f"in {letter} {results.missing[name]}"
        if name not in {column.name for column in results.columns}:
            return f"{letter} lacks it"
    return ""


def _both(name: str, *results: Results) -> str:
    """Figures of whole sets, which have no pairs."""
    figures = [each.figures[name] for each in results if name in each.figures]
    said = (f"{short(each.value)} {interval(each.low, each.high)}" for each in figures)
    return f"; of the whole sets: {' and '.join(said)}" if figures else ""


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
    nearer = way(_nearer, real if len(real) >= FEWEST else real[:0])
    means = triples.mean(0)
    return Difference(
        column,
        len(triples),
        float(means[0]),
        float(means[1]),
        float(real[:, 2].mean()),
        way(mean, triples[:, 1:2] - triples[:, :1], fewest=FEWEST),
        nearer,
    )


def _nearer(triples: Float[Tensor, "*r n 3"]) -> Float[Tensor, "*r"]:
    """By how much the mean of the second is nearer to the third than that of the first."""
    first, second, real = triples.mean(-2).unbind(-1)
    return (first - real).abs() - (second - real).abs()


def _leaves_out_zero(figure: Figure) -> bool:
    return figure.low > 0 or figure.high < 0


def _cells(row: Difference) -> list[str]:
    numbers = (row.a, row.b, row.real, row.difference.value)
    better = DIRECTIONS[row.column.better]
    ends = interval(row.difference.low, row.difference.high)
    return [row.column.name, better, str(row.n), *map(short, numbers), ends, _verdict(row)]


def _verdict(row: Difference) -> str:
    if row.n < FEWEST:
        return f"too few: {FEWEST} needed"
    if row.winner:
        return f"{row.winner.upper()} better"
    return "differ" if row.beyond_noise else "-"


def _said(rows: tuple[Difference, ...]) -> list[str]:
    """What the table says in words, and how much of it luck would say."""
    tested = [row for row in rows if row.n >= FEWEST]
    lines = [f"{count(rows, 'column')} compared, {len(tested)} with enough videos for a verdict."]
    for letter in "ab":
        won = [row.column.name for row in tested if row.winner == letter]
        lines += [f"{letter.upper()} is better beyond noise in: {', '.join(won)}."] if won else []
    past = [row.column.name for row in tested if row.beyond_real]
    lines += [f"Better, but beyond the real videos: {', '.join(past)}."] if past else []
    other = [row.column.name for row in tested if row.beyond_noise and not row.winner]
    lines += [f"Different beyond noise, neither better: {', '.join(other)}."] if other else []
    if not any(row.beyond_noise or row.winner for row in tested):
        lines.append("Nothing differs beyond noise.")
    if tested:
        lines.append(
            f"Each verdict errs once in 20: were both the same, about {len(tested) / 20:.1f} of "
            f"{len(tested)} columns would still be named by luck."
        )
    return lines


def _alone(letter: str, names: tuple[str, ...]) -> list[str]:
    return [f"Judged in {letter} alone, left out: {', '.join(names)}"] if names else []
