"""The table of an ablation: each variant against the full model, talk by talk.

The interval of a difference is Student's t over talks (`table.statistics`), of means over seeds.
It covers the choice of talks, not the noise of training. For that there are the seeds: a verdict
also needs every seed to point the same way.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
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
NOTES = (
    "value: mean over seeds. difference: the value less the full model's, paired over talks (over "
    "clips where sound or past are exchanged). low, high: its 95 % interval by Student's t.",
    "better, worse: the interval excludes 0 and every seed agrees; where truth is best, nearer to "
    "the real figure or farther. more, less: the same where no way is better.",
)

Runs = Mapping[str, Mapping[int, Results]]
"""Results by variant and by the seed of its training."""


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


def tabulate(runs: Runs) -> list[AblationRow]:
    """Each variant's figures, and how they differ from the full model's.

    Returns:
        By figure, then by variant, the full model first.

    Raises:
        ConfigurationError: No runs, or some that were judged on other talks.
    """
    each = {f"{name}/seed_{seed}": own[seed] for name, own in runs.items() for seed in own}
    if not each:
        raise ConfigurationError("no run was judged; train at least one variant")
    judged_on = {run: (r.judges, [video.name for video in r.videos]) for run, r in each.items()}
    first = next(iter(each))
    if odd := [run for run in each if judged_on[run] != judged_on[first]]:
        raise ConfigurationError(
            f"{odd[0]} and {first} were judged on other talks or by other networks; delete the "
            "results.json of one of them and judge it again"
        )
    return [
        _row(column, variant, runs[variant], {} if variant == FULL else runs.get(FULL, {}))
        for column in each[first].columns
        for variant in sorted(runs, key=lambda variant: variant != FULL)
    ]


def as_text(rows: Sequence[AblationRow]) -> str:
    """The table, and how to read it."""
    decided = sum(row.verdict not in ("", "too few talks") for row in rows)
    chance = (
        f"By chance alone about {decided / 20:.1f} of {decided} intervals would exclude 0, and two "
        "seeds agree in sign half of the time."
    )
    lines = [line for note in (*NOTES, chance) for line in wrap(note, WIDTH)]
    return "\n".join([*aligned(AblationRow._fields, _cells(rows, short)), "", *lines])


def write_table(rows: Sequence[AblationRow], folder: Path) -> Path:
    """Writes ablations.csv; what is not known is empty.

    Raises:
        OutputError: It cannot be written there.
    """
    exact = _cells(rows, lambda value: repr(value) if math.isfinite(value) else "")
    return write_rows([AblationRow._fields, *exact], folder / FILE)


def _cells(rows: Sequence[AblationRow], text: Callable[[float], str]) -> list[list[str]]:
    def cell(value: object) -> str:
        if isinstance(value, dict):
            return " ".join(f"{seed}:{text(each)}" for seed, each in value.items())
        return text(value) if isinstance(value, float) else str(value)

    return [[cell(value) for value in row] for row in rows]


def _row(
    column: ColumnInfo, variant: str, own: Mapping[int, Results], full: Mapping[int, Results]
) -> AblationRow:
    unknown = SetFigure(math.nan)
    seeds = {seed: own[seed].figures.get(column.name, unknown).value for seed in sorted(own)}
    both = [(full[seed], own[seed]) for seed in seeds if seed in full]
    figure, verdict = Figure(math.nan, math.nan, math.nan), ""
    if paired := _paired(column, both):
        figure = paired.difference
        verdict = _verdict(paired, [_paired(column, [of_seed]) for of_seed in both])
    elif both:  # a figure without talks
        ends = ([r.figures.get(column.name, unknown).value for r in pair] for pair in both)
        figure = figure._replace(value=fmean(b - a for a, b in ends))
    name = f"{column.name} ({column.unit})" if column.unit else column.name
    real = own[min(own)].real_figures.get(column.name, unknown).value
    value = fmean(seeds.values())
    return AblationRow(name, column.better, variant, value, seeds, *figure, verdict, real)


def _paired(column: ColumnInfo, runs: Sequence[tuple[Results, Results]]) -> Difference | None:
    """Full model and variant over talks, by means over seeds; None where no talk has a figure."""

    def mean(talks: Sequence[VideoResult]) -> VideoResult:
        value = fmean(talk.values.get(column.name, math.nan) for talk in talks)
        return replace(talks[0], values={column.name: value})

    sides = zip(*runs, strict=True)
    means = [list(map(mean, zip(*(run.videos for run in side), strict=True))) for side in sides]
    return difference(column, list(zip(*means, strict=True)), None) if means else None


def _verdict(paired: Difference, each: Sequence[Difference | None]) -> str:
    """What the talks say of the mean over seeds, unless a seed says otherwise."""
    if paired.n < FEWEST:
        return "too few talks"
    if not paired.winner and (paired.column.better or not paired.beyond_noise):
        return "undecided"
    truth = paired.column.better == "truth"
    gains = [(one.nearer if truth else one.difference).value for one in (paired, *each) if one]
    if min(gains) <= 0 <= max(gains):
        return "seeds disagree"
    return {"a": "worse", "b": "better", "": "more" if gains[0] > 0 else "less"}[paired.winner]
