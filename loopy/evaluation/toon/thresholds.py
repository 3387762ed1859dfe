"""Where the figures of our benchmarks should lie, whether they do, and the rows of their tables."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from loopy.evaluation.table.statistics import Figure
from loopy.evaluation.table.text import interval, short


class Threshold(NamedTuple):
    """Where a figure should lie: from low to high, and below a floor if one is named.

    If it is to be `sure`, the whole interval must lie above `low`.
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


@dataclass(frozen=True)
class RowResult:
    """What a row of the table says: by source its figure, and a list of values a group of talks.

    Where the tracker does not follow what it is about, it is `unread` and says nothing.
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
        """Whether a source is within the threshold; the floor is for the model alone."""
        figure = self.figures.get(source)
        if self.unread or self.threshold is None or figure is None or math.isnan(figure.value):
            return None
        if self.threshold.sure:
            return figure.low > self.threshold.low
        if source != "made":
            return self.threshold.low <= figure.value <= self.threshold.high
        if self.threshold.below not in (None, *self.figures):
            return None
        return self._holds(figure.value)

    @property
    def uncertain(self) -> bool:
        """Whether an end of the model's interval says otherwise than its figure."""
        if self.threshold is None or self.threshold.sure or self.reached is None:
            return False
        _, low, high = self.figures["made"]
        return math.isnan(low) or {self._holds(low), self._holds(high)} != {self.reached}

    def _holds(self, figure: float) -> bool:
        """Whether a figure of the model lies within the threshold, and below its floor."""
        low, high, _, below = self.threshold or Threshold()
        return low <= figure <= high and (below is None or figure < self.figures[below].value)


def as_json(rows: Sequence[RowResult]) -> list[dict[str, Any]]:
    """Rows as plain values."""
    return [
        {
            "name": row.name,
            "bar": str(row.threshold) if row.threshold else None,
            "reached": row.reached,
            "sources": {
                source: figure._asdict() | {"talks": row.values[source]}
                for source, figure in row.figures.items()
            },
        }
        for row in rows
    ]


def cells(row: RowResult, sources: Sequence[str]) -> list[str]:
    """Cells of a row of text: name, figure, interval, threshold, verdict, and the other sources."""
    figures = [row.figures.get(source) for source in sources]
    made, *bounds = [short(figure.value) if figure else "-" for figure in figures]
    ends = interval(figures[0].low, figures[0].high) if figures[0] else "-"
    reached = {True: "yes", False: "no", None: "unread" if row.unread else "-"}[row.reached]
    doubt = "~" if row.uncertain else ""
    return [row.name, made, ends, str(row.threshold or ""), reached + doubt, *bounds]
