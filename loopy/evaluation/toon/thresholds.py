"""The bars of the toon benchmark: what is measured, and what counts as reached."""

import math
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import NamedTuple

from loopy.evaluation.table.statistics import (
    Figure,
    Statistic,
    bootstrap,
    mean,
    median,
    ratio_of_means,
    ratio_of_medians,
    ratio_of_sums,
)
from loopy.evaluation.toon import columns
from loopy.evaluation.toon.columns import POSE, WINDOW, Column, Evidence

SOURCES = ("made", "truth", "vae", "still", "another", "no_past")
"""The model, two ceilings, three floors."""


class Bar(NamedTuple):
    """Where a figure should lie.

    Attributes:
        low: From here.
        high: To here.
        sure: Its whole interval must, beyond `low`; else the figure itself.
        below: A floor that it must lie below, too.
    """

    low: float = -math.inf
    high: float = math.inf
    sure: bool = False
    below: str | None = None

    def __str__(self) -> str:
        """As in a table."""
        if self.sure:
            return f"> {self.low:g}, surely"
        if math.isfinite(self.low) and math.isfinite(self.high):
            return f"{self.low:g} to {self.high:g}"
        words = f">= {self.low:g}" if math.isfinite(self.low) else f"<= {self.high:g}"
        return words + (f", < {self.below}" if self.below else "")

    def holds(self, figure: float, floor: float | None = None) -> bool:
        """Whether a figure lies there; never for NaN."""
        return self.low <= figure <= self.high and (floor is None or figure < floor)


class Row(NamedTuple):
    """A row of the table.

    Attributes:
        name: For people and for JSON.
        column: Values of each talk.
        statistic: One figure of them.
        bar: Where it should lie; None is for information.
        reads: What the tracker must be able to read for it; empty: nothing in doubt.
    """

    name: str
    column: Column
    statistic: Statistic
    bar: Bar | None
    reads: str = ""


LIFE = Bar(low=0.5, high=1.5)
BORDER = Bar(high=1.5, below="no_past")

ROWS = (
    Row("opening: r with truth", columns.opening(), median, Bar(low=0.8)),
    Row("opening: frames of lag", columns.lag, median, Bar(high=1)),
    Row("opening: talks in time", columns.in_time, mean, None),
    Row("opening: r with other voices", columns.others, median, Bar(high=0.15)),
    Row("opening: gain", columns.gain, ratio_of_medians, None),
    Row("lip width: share of ceiling", columns.lips("wide"), ratio_of_medians, Bar(low=0.6)),
    Row("rounding: share of ceiling", columns.lips("round"), ratio_of_medians, Bar(low=0.6)),
    Row("silence: mouth against speech", columns.calm("silence"), ratio_of_means, Bar(high=0.2)),
    Row("silence: mouth ajar", columns.ajar, mean, None),
    Row("noise: mouth against speech", columns.calm("noise"), ratio_of_means, Bar(high=0.2)),
    Row("identity: nearest of 32", columns.identity, mean, Bar(low=0.95)),
    Row("identity: last second of 20 s", columns.identity_at_the_end(), mean, Bar(low=0.95)),
    Row("drift over 20 s, delta-E", columns.drift(), median, Bar(high=3)),
    Row("life: head, 12 frames", columns.life(POSE, window=WINDOW), ratio_of_sums, LIFE),
    Row("life: head, 8 s", columns.life(POSE), ratio_of_sums, LIFE),
    Row(
        "life: brow, 12 frames", columns.life(("brow",), window=WINDOW), ratio_of_sums, LIFE, "brow"
    ),
    Row("life: brow, 8 s", columns.life(("brow",)), ratio_of_sums, LIFE, "brow"),
    Row("steady background, 1/255", columns.background, median, Bar(high=1)),
    Row("steady silent face, x truth", columns.face, ratio_of_sums, Bar(high=2)),
    Row("past: loss with another's", columns.swapped("past"), mean, Bar(low=0, sure=True)),
    Row("clip border: head position", columns.borders(speed=False), ratio_of_sums, BORDER),
    Row("clip border: head speed", columns.borders(speed=True), ratio_of_sums, BORDER),
    Row("sound, keys: loss with another's", columns.swapped("keys"), mean, Bar(low=0, sure=True)),
    Row("sound, latents: the same", columns.swapped("latents"), mean, Bar(low=0, sure=True)),
)

ENDLESS_ROWS = (
    Row("10 min: opening r", columns.opening("endless"), median, Bar(low=0.8)),
    Row("10 min: identity, last second", columns.identity_at_the_end("endless"), mean, Bar(0.95)),
    Row("10 min: drift, delta-E", columns.drift("endless"), median, Bar(high=3)),
)


@dataclass(frozen=True)
class Verdict:
    """What a row of the table says.

    Attributes:
        name: Of the row.
        bar: Its bar.
        figures: By source, where it was filmed.
        values: One list a group of talks, likewise.
        unread: The tracker cannot read what it is about, so it says nothing.
    """

    name: str
    bar: Bar | None
    figures: dict[str, Figure]
    values: dict[str, list[list[list[float]]]]
    unread: bool = False

    @property
    def reached(self) -> bool | None:
        """Whether the model reaches the bar; None where there is no bar or nothing to say."""
        return self.reached_by("made")

    def reached_by(self, source: str) -> bool | None:
        """Whether a source reaches the bar."""
        figure = self.figures.get(source)
        if self.unread or self.bar is None or figure is None or math.isnan(figure.value):
            return None
        if self.bar.sure:
            return figure.low > self.bar.low
        if source == "made" and self.bar.below not in (None, *self.figures):
            return None
        return self.bar.holds(figure.value, self._floor(source))

    def doubtful(self) -> bool:
        """Whether an end of the model's interval says otherwise than its figure."""
        figure = self.figures.get("made")
        if figure is None or self.bar is None or self.bar.sure or self.reached is None:
            return False
        if math.isnan(figure.low):  # of one talk
            return True
        ends = {self.bar.holds(end, self._floor("made")) for end in (figure.low, figure.high)}
        return ends != {self.reached}

    def _floor(self, source: str) -> float | None:
        floor = self.figures.get(self.bar.below or "") if self.bar else None
        return floor.value if floor and source == "made" else None


def judge(evidence: Evidence, *, seed: int = 0, unread: Collection[str] = ()) -> list[Verdict]:
    """Every row of the table, for every source.

    Args:
        evidence: What was filmed and measured.
        seed: Of the bootstrap.
        unread: Outputs that the tracker cannot read; rows about them say nothing.
    """
    rows = (*ROWS, *(ENDLESS_ROWS if "endless" in evidence.takes else ()))
    verdicts = [_verdict(row, evidence, seed) for row in rows]
    return [
        replace(verdict, unread=row.reads in unread)
        for row, verdict in zip(rows, verdicts, strict=True)
    ]


def _verdict(row: Row, evidence: Evidence, seed: int) -> Verdict:
    figures, values = {}, {}
    for source in SOURCES:
        groups = row.column(evidence, source)
        if groups is not None:
            figures[source] = bootstrap(row.statistic, *groups, seed=seed)
            values[source] = [group.tolist() for group in groups]
    return Verdict(row.name, row.bar, figures, values)
