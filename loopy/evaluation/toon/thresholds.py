"""The table of the toon benchmark: what each row measures, and where its figure should lie."""

import math
from collections.abc import Collection
from dataclasses import dataclass
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
from loopy.evaluation.toon import rows
from loopy.evaluation.toon.rows import (
    POSE,
    WINDOW,
    RowValues,
    ToonMeasurements,
    follows,
    life,
    lips,
    per_talk,
    recognised,
)

SOURCES = ("made", "truth", "vae", "still", "mismatched", "no_past")
"""The model, two ceilings, three floors."""


class Threshold(NamedTuple):
    """Where a figure should lie.

    Attributes:
        low: From here.
        high: To here.
        sure: Its whole interval must lie beyond `low`; else the figure itself.
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


class ToonRow(NamedTuple):
    """A row of the table.

    Attributes:
        name: For people and for JSON.
        values: Of each talk.
        statistic: One figure of them.
        threshold: Where it should lie; None is for information.
        reads: An output that the tracker must follow for it; empty: none in doubt.
    """

    name: str
    values: RowValues
    statistic: Statistic
    threshold: Threshold | None = None
    reads: str = ""


CLOSE, OWN, CALM = Threshold(low=0.8), Threshold(low=0.95), Threshold(high=0.2)
DRIFT, LIFE = Threshold(high=3), Threshold(low=0.5, high=1.5)
BORDER, SURE = Threshold(high=1.5, below="no_past"), Threshold(low=0, sure=True)

ROWS = (
    ToonRow("opening: r with truth", per_talk(follows("open"), "speech"), median, CLOSE),
    ToonRow("opening: frames of lag", per_talk(rows.lag, "speech"), median, Threshold(high=1)),
    ToonRow("opening: talks in time", per_talk(rows.in_time, "speech"), mean),
    ToonRow("opening: r with other voices", rows.opening_of_others, median, Threshold(high=0.15)),
    ToonRow("opening: gain", per_talk(rows.gain, "speech", truth=True), ratio_of_medians),
    ToonRow("lip width: share of ceiling", lips("wide"), ratio_of_medians, Threshold(low=0.6)),
    ToonRow("rounding: share of ceiling", lips("round"), ratio_of_medians, Threshold(low=0.6)),
    ToonRow("silence: mouth against speech", rows.calm("silence"), ratio_of_means, CALM),
    ToonRow("silence: mouth ajar", per_talk(rows.ajar, "silence"), mean),
    ToonRow("noise: mouth against speech", rows.calm("noise"), ratio_of_means, CALM),
    ToonRow("identity: nearest of 32", per_talk(recognised()), mean, OWN),
    ToonRow("identity: last second of 20 s", per_talk(recognised(last=25), "long"), mean, OWN),
    ToonRow("drift over 20 s, delta-E", per_talk(rows.drift, "long"), median, DRIFT),
    ToonRow("life: head, 12 frames", life(POSE, window=WINDOW), ratio_of_sums, LIFE),
    ToonRow("life: head, 8 s", life(POSE), ratio_of_sums, LIFE),
    ToonRow("life: brow, 12 frames", life(("brow",), window=WINDOW), ratio_of_sums, LIFE, "brow"),
    ToonRow("life: brow, 8 s", life(("brow",)), ratio_of_sums, LIFE, "brow"),
    ToonRow("steady background, 1/255", rows.background, median, Threshold(high=1)),
    ToonRow("steady silent face, x truth", rows.silent_face, ratio_of_sums, Threshold(high=2)),
    ToonRow("past: loss when mismatched", rows.sensitivity("past"), mean, SURE),
    ToonRow("clip border: head position", rows.borders(speed=False), ratio_of_sums, BORDER),
    ToonRow("clip border: head speed", rows.borders(speed=True), ratio_of_sums, BORDER),
    ToonRow("sound, keys: loss when mismatched", rows.sensitivity("keys"), mean, SURE),
    ToonRow("sound, latents: the same", rows.sensitivity("latents"), mean, SURE),
)

ENDLESS_ROWS = (
    ToonRow("10 min: opening r", per_talk(follows("open"), "endless"), median, CLOSE),
    ToonRow("10 min: identity, last second", per_talk(recognised(last=25), "endless"), mean, OWN),
    ToonRow("10 min: drift, delta-E", per_talk(rows.drift, "endless"), median, DRIFT),
)


@dataclass(frozen=True)
class RowResult:
    """What a row of the table says.

    Attributes:
        name: Of the row.
        threshold: Its threshold.
        figures: By source, where it has films.
        values: One list a group of talks, likewise.
        unread: The tracker does not follow what it is about, so it says nothing.
    """

    name: str
    threshold: Threshold | None
    figures: dict[str, Figure]
    values: dict[str, list[list[list[float]]]]
    unread: bool = False

    @property
    def reached(self) -> bool | None:
        """Whether the model is within the threshold; None where there is nothing to say."""
        return self.reached_by("made")

    def reached_by(self, source: str) -> bool | None:
        """Whether a source is within the threshold."""
        figure = self.figures.get(source)
        if self.unread or self.threshold is None or figure is None or math.isnan(figure.value):
            return None
        if self.threshold.sure:
            return figure.low > self.threshold.low
        if source == "made" and self.threshold.below not in (None, *self.figures):
            return None
        return self.threshold.holds(figure.value, self._floor(source))

    @property
    def uncertain(self) -> bool:
        """Whether an end of the model's interval says otherwise than its figure."""
        figure = self.figures.get("made")
        if figure is None or self.threshold is None or self.threshold.sure or self.reached is None:
            return False
        if math.isnan(figure.low):  # of one talk
            return True
        ends = (figure.low, figure.high)
        return {self.threshold.holds(end, self._floor("made")) for end in ends} != {self.reached}

    def _floor(self, source: str) -> float | None:
        floor = self.figures.get(self.threshold.below or "") if self.threshold else None
        return floor.value if floor and source == "made" else None


def row_results(
    measurements: ToonMeasurements, *, seed: int = 0, unread: Collection[str] = ()
) -> list[RowResult]:
    """Every row of the table, for every source.

    Args:
        measurements: All that was measured.
        seed: Of the bootstrap.
        unread: Outputs that the tracker does not follow; rows about them say nothing.
    """
    results = []
    for row in (*ROWS, *(ENDLESS_ROWS if "endless" in measurements.talks else ())):
        found = {source: row.values(measurements, source) for source in SOURCES}
        known = {source: groups for source, groups in found.items() if groups is not None}
        figures = {s: bootstrap(row.statistic, *groups, seed=seed) for s, groups in known.items()}
        values = {s: [group.tolist() for group in groups] for s, groups in known.items()}
        results.append(RowResult(row.name, row.threshold, figures, values, row.reads in unread))
    return results
