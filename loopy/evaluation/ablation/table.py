"""The table of an ablation: each variant against the full model, talk by talk.

The interval of a difference is Student's t over talks (`table.statistics`), of means over seeds.
It covers the choice of talks, not the noise of training. For that there are the seeds: a verdict
also needs every seed to point the same way.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from textwrap import wrap
from typing import NamedTuple

from loopy.errors import ConfigurationError
from loopy.evaluation.table.compare import FEWEST, Difference, difference
from loopy.evaluation.table.results import Better, ColumnInfo, Results, SetFigure, VideoResult
from loopy.evaluation.table.statistics import Figure
from loopy.evaluation.table.text import WIDTH, aligned, short, write_rows

FULL, FILE = "full", "ablations.csv"
LOSS = ColumnInfo("Held-out loss", "lower", "", "of the validation after the last step")
NOTES = (
    "value: mean over seeds. difference: the value less the full model's, paired over talks (over "
    "clips where sound or past are exchanged). low, high: its 95 % interval by Student's t.",
    "better, worse: the interval excludes 0 and every seed agrees; where truth is best, nearer to "
    "the real figure or farther. more, less: the same where no way is better.",
)


@dataclass(frozen=True, eq=False)
class JudgedRun:
    """A variant that was trained with a seed, and judged.

    Attributes:
        variant: Name of its recipe.
        seed: Of its training.
        steps: How many it was trained.
        loss: Of the validation after its last step; NaN where there was none.
        results: Its figures; of the same talks and clips as all other runs.
    """

    variant: str
    seed: int
    steps: int
    loss: float
    results: Results

    def value(self, column: str) -> float:
        """A figure; NaN where it has none."""
        if column == LOSS.name:
            return self.loss
        figure = self.results.figures.get(column)
        return math.nan if figure is None else figure.value


class AblationRow(NamedTuple):
    """One figure of one variant; a number that is not known is NaN.

    Attributes:
        figure: Which column of the results.
        better: Which way it is better.
        variant: Which variant.
        value: Mean over seeds.
        seeds: The figure by seed.
        difference: Its mean less that of the full model, over the seeds that both have.
        low: Lower end of the 95 % interval of the difference over talks.
        high: Upper end.
        verdict: "better" or "worse" than the full model, "more" or "less" where no way is better,
            "undecided", "seeds disagree", "too few talks"; "" where nothing can be said.
        real: The figure of the true videos.
    """

    figure: str
    better: Better
    variant: str
    value: float
    seeds: dict[int, float]
    difference: float
    low: float
    high: float
    verdict: str
    real: float

    def cells(self, text: Callable[[float], str]) -> list[str]:
        """Its fields as text."""
        seeds = " ".join(f"{seed}:{text(value)}" for seed, value in self.seeds.items())
        cells = self._replace(seeds=seeds)  # pyright: ignore[reportArgumentType]  # all are text
        return [text(cell) if isinstance(cell, float) else str(cell) for cell in cells]


def tabulate(runs: Sequence[JudgedRun]) -> list[AblationRow]:
    """Each variant's figures, and how they differ from the full model's.

    Args:
        runs: At least one.

    Returns:
        By figure, then by variant, the full model first.

    Raises:
        ConfigurationError: No runs, runs of different numbers of steps, or judged on other talks.
    """
    if not runs:
        raise ConfigurationError("no run was judged; train at least one variant")
    check_steps({f"{run.variant}/seed_{run.seed}": run.steps for run in runs})
    _check_talks(runs)
    by_seed: dict[str, dict[int, JudgedRun]] = {}
    for run in sorted(runs, key=lambda run: (run.variant != FULL, run.seed)):
        by_seed.setdefault(run.variant, {})[run.seed] = run
    return [
        _row(column, own, {} if variant == FULL else by_seed.get(FULL, {}))
        for column in (LOSS, *runs[0].results.columns)
        for variant, own in by_seed.items()
    ]


def as_text(rows: Sequence[AblationRow]) -> str:
    """The table, and how to read it."""
    decided = sum(row.verdict not in ("", "too few talks") for row in rows)
    chance = (
        f"By chance alone about {decided / 20:.1f} of {decided} intervals would exclude 0, and two "
        "seeds agree in sign half of the time."
    )
    lines = [line for note in (*NOTES, chance) for line in wrap(note, WIDTH)]
    cells = [row.cells(short) for row in rows]
    return "\n".join([*aligned(AblationRow._fields, cells), "", *lines])


def write_table(rows: Sequence[AblationRow], folder: Path) -> Path:
    """Writes ablations.csv; what is not known is empty.

    Raises:
        OutputError: It cannot be written there.
    """
    exact = [row.cells(lambda value: repr(value) if math.isfinite(value) else "") for row in rows]
    return write_rows([AblationRow._fields, *exact], folder / FILE)


def check_steps(steps: dict[str, int]) -> None:
    """Makes sure that all runs are of one length.

    Args:
        steps: By name of the run.

    Raises:
        ConfigurationError: They are not.
    """
    if len(set(steps.values())) > 1:
        counts = ", ".join(f"{name} {count}" for name, count in steps.items())
        raise ConfigurationError(
            f"runs of different numbers of steps do not compare: {counts}; train the variants of "
            "one table equally long, or give another --out"
        )


def _check_talks(runs: Sequence[JudgedRun]) -> None:
    first, *others = [
        (run.results.judges, [video.name for video in run.results.videos]) for run in runs
    ]
    for run, other in zip(runs[1:], others, strict=True):
        if other != first:
            raise ConfigurationError(
                f"{run.variant}/seed_{run.seed} and {runs[0].variant}/seed_{runs[0].seed} were "
                "judged on other talks or by other networks; delete the results.json of one of "
                "them and judge it again"
            )


def _row(column: ColumnInfo, own: dict[int, JudgedRun], full: dict[int, JudgedRun]) -> AblationRow:
    variant, results = next((run.variant, run.results) for run in own.values())
    real = results.real_figures.get(column.name, SetFigure(math.nan)).value
    seeds = {seed: run.value(column.name) for seed, run in own.items()}
    both = [(full[seed], own[seed]) for seed in own if seed in full]
    figure, verdict = Figure(math.nan, math.nan, math.nan), ""
    if paired := _paired(column, both):
        figure = paired.difference
        verdict = _verdict(paired, [_paired(column, [of_seed]) for of_seed in both])
    elif both:  # a figure without talks
        apart = fmean(b.value(column.name) - a.value(column.name) for a, b in both)
        figure = figure._replace(value=apart)
    name = f"{column.name} ({column.unit})" if column.unit else column.name
    return AblationRow(
        name, column.better, variant, fmean(seeds.values()), seeds, *figure, verdict, real
    )


def _paired(column: ColumnInfo, runs: list[tuple[JudgedRun, JudgedRun]]) -> Difference | None:
    """Full model and variant over talks, by means over seeds; None where no talk has a figure.

    Args:
        column: Which figure.
        runs: Both, for each seed.
    """
    means = []
    for side in zip(*runs, strict=True):
        talks = zip(*(run.results.videos for run in side), strict=True)
        means.append([_mean(column.name, videos) for videos in talks])
    return difference(column, list(zip(*means, strict=True)), None) if means else None


def _mean(name: str, videos: Sequence[VideoResult]) -> VideoResult:
    """One talk of several seeds; NaN where a seed has no figure."""
    value = fmean(video.values.get(name, math.nan) for video in videos)
    return replace(videos[0], values={name: value})


def _verdict(paired: Difference, each: Sequence[Difference | None]) -> str:
    """What the talks say of the mean over seeds, unless a seed says otherwise."""
    if paired.n < FEWEST:
        return "too few talks"
    if not paired.winner and (paired.column.better or not paired.beyond_noise):
        return "undecided"
    gains = [_gain(one) for one in (paired, *each) if one]
    if min(gains) <= 0 <= max(gains):
        return "seeds disagree"
    words = {"a": "worse", "b": "better", "": "more" if gains[0] > 0 else "less"}
    return words[paired.winner]


def _gain(paired: Difference) -> float:
    return (paired.nearer if paired.column.better == "truth" else paired.difference).value
