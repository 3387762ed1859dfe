"""Runs of an ablation side by side: each variant against the full model, talk by talk.

The interval of a difference is Student's t over talks (`table.statistics`), of means over
seeds: it holds the luck of the talks, not that of training. Of the latter the seeds tell, so a
verdict needs every seed to point the same way, too.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from loopy.errors import ConfigurationError
from loopy.evaluation.table.compare import FEWEST, difference
from loopy.evaluation.table.results import ColumnInfo, Results, VideoResult, finite
from loopy.evaluation.table.statistics import Figure

FULL = "full"
LOSS = ColumnInfo(
    "Held-out loss",
    "lower",
    "",
    "of the validation behind the last step; the talks of training's validation",
)
UNKNOWN = Figure(math.nan, math.nan, math.nan)


@dataclass(frozen=True, eq=False)
class Run:
    """A variant trained with a seed, and judged.

    Attributes:
        variant: Its recipe's name.
        seed: Of its training.
        steps: How many it was trained.
        loss: Of the validation behind its last step; NaN where there was none.
        results: Its figures; the same talks and clips as of all other runs.
    """

    variant: str
    seed: int
    steps: int
    loss: float
    results: Results

    def value(self, column: ColumnInfo) -> float:
        """A figure; NaN where it has none."""
        if column.name == LOSS.name:
            return self.loss
        figure = self.results.figures.get(column.name)
        return math.nan if figure is None else figure.value


@dataclass(frozen=True)
class Entry:
    """One figure of one variant.

    Attributes:
        seeds: The figure by seed.
        value: Mean over seeds.
        difference: Less that of the full model, over the seeds of both, with its interval over
            talks; NaN where there is none.
        verdict: "better" or "worse" than the full model, "more" or "less" where no way is better,
            "undecided", "seeds disagree", "too few talks"; "" where nothing can be said.
    """

    seeds: dict[int, float]
    value: float
    difference: Figure = UNKNOWN
    verdict: str = ""


@dataclass(frozen=True)
class Ablation:
    """The table of an ablation.

    Attributes:
        steps: Of each run.
        columns: The figures, in order.
        real: The figures of the true videos, where they have any.
        variants: The full model first.
        entries: By variant, then by column.
    """

    steps: int
    columns: tuple[ColumnInfo, ...]
    real: dict[str, float]
    variants: tuple[str, ...]
    entries: dict[str, dict[str, Entry]]

    def as_json(self) -> dict[str, Any]:
        """Everything, with None for what is not known."""
        entries = {
            variant: {
                name: {**asdict(entry), "difference": entry.difference._asdict()}
                for name, entry in row.items()
            }
            for variant, row in self.entries.items()
        }
        return finite({**asdict(self), "entries": entries})

    @property
    def seeds(self) -> dict[str, list[int]]:
        """Which seeds each variant was trained with."""
        return {name: sorted(row[LOSS.name].seeds) for name, row in self.entries.items()}


def tabulate(runs: Sequence[Run]) -> Ablation:
    """Each variant's figures, and how they differ from the full model's.

    Args:
        runs: At least one.

    Raises:
        ConfigurationError: No runs, runs of different numbers of steps, or judged on other talks.
    """
    if not runs:
        raise ConfigurationError("no run was judged; train at least one variant")
    check_steps({f"{run.variant}/seed_{run.seed}": run.steps for run in runs})
    check_talks(runs)
    names = sorted({run.variant for run in runs}, key=[run.variant for run in runs].index)
    variants = sorted(names, key=lambda name: name != FULL)
    by_seed = {name: {run.seed: run for run in runs if run.variant == name} for name in variants}
    first = next(iter(by_seed[variants[0]].values())).results
    columns = (LOSS, *first.columns)
    real = {name: figure.value for name, figure in first.real_figures.items()}
    entries = {
        name: {
            column.name: _entry(column, own, by_seed.get(FULL, {}), name != FULL, real)
            for column in columns
        }
        for name, own in by_seed.items()
    }
    return Ablation(runs[0].steps, columns, real, tuple(variants), entries)


def check_steps(steps: dict[str, int]) -> None:
    """Makes sure that all runs are as long.

    Raises:
        ConfigurationError: They are not.
    """
    if len(set(steps.values())) > 1:
        told = ", ".join(f"{name} {count}" for name, count in steps.items())
        raise ConfigurationError(
            f"runs of different numbers of steps do not compare: {told}; train the variants of one "
            "table equally long, or give another --out"
        )


def check_talks(runs: Sequence[Run]) -> None:
    """Makes sure that all runs were judged on the same.

    Raises:
        ConfigurationError: They were not.
    """
    asked = {
        f"{run.variant}/seed_{run.seed}": (
            run.results.judges,
            [video.name for video in run.results.videos],
        )
        for run in runs
    }
    first = next(iter(asked))
    for name, told in asked.items():
        if told != asked[first]:
            raise ConfigurationError(
                f"{name} and {first} were judged on other talks or by others; delete the "
                "results.json of one of them and judge it again"
            )


def _entry(
    column: ColumnInfo,
    own: dict[int, Run],
    full: dict[int, Run],
    compared: bool,
    real: dict[str, float],
) -> Entry:
    seeds = {number: run.value(column) for number, run in own.items()}
    entry = Entry(seeds, _mean(seeds.values()))
    both = [number for number in own if number in full]
    if not (compared and both):
        return entry
    pairs = [(full[number].value(column), seeds[number]) for number in both]
    plain = Figure(_mean([b - a for a, b in pairs]), math.nan, math.nan)
    row = difference(
        column,
        list(
            zip(
                _over_seeds([full[number] for number in both], column.name),
                _over_seeds([own[number] for number in both], column.name),
                strict=True,
            )
        ),
        None,
    )
    if row is None:  # a figure without talks
        return Entry(seeds, entry.value, plain)
    if row.n < FEWEST:
        return Entry(seeds, entry.value, row.difference, "too few talks")
    words = {"a": "worse", "b": "better"}
    verdict = words.get(row.winner, "undecided")
    if not column.better and row.beyond_noise:
        verdict = "more" if row.difference.low > 0 else "less"
    gains = [_gain(column, a, b, real.get(column.name, math.nan)) for a, b in pairs]
    way = {"better": 1, "more": 1, "worse": -1, "less": -1}.get(verdict, 0)
    if way and not all(way * gain > 0 for gain in gains):
        verdict = "seeds disagree"
    return Entry(seeds, entry.value, row.difference, verdict)


def _gain(column: ColumnInfo, full: float, own: float, real: float) -> float:
    """How much better a variant is; in a column without a better way, how much more it is."""
    if column.better == "truth":
        return abs(full - real) - abs(own - real)
    return full - own if column.better == "lower" else own - full


def _over_seeds(runs: Sequence[Run], name: str) -> list[VideoResult]:
    """Each talk with its mean over seeds; without the figure where a seed has none."""
    found = []
    for videos in zip(*(run.results.videos for run in runs), strict=True):
        values = [video.values.get(name, math.nan) for video in videos]
        found.append(VideoResult(videos[0].name, {name: _mean(values)}, videos[0].real))
    return found


def _mean(values: Any) -> float:
    numbers = list(values)
    return sum(numbers) / len(numbers)
