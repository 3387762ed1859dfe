"""What a benchmark found: a table to read, JSON to keep, a sheet to look at."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from loopy.data.video import contact_sheet, evenly_spread
from loopy.evaluation.metrics import Spread, spread
from loopy.evaluation.toon import Score, Take

HEADINGS = {
    "r": "r",
    "others": "others",
    "lag": "lag",
    "tracked": "tracked",
    "ceiling_drawn": "^true",
    "ceiling_round_trip": "^vae",
    "floor_still": "_still",
    "floor_another": "_another",
}
"""Column of the table for each figure of the opening; ^ is a ceiling, _ a floor."""

LEGEND = """\
r        true mouth opening with that read in the generated frames
others   the same frames with the true openings of the other voices, mean (floor of r)
lag      frames by which the picture comes late where r is best
tracked  opening read in the true frames with that read in the generated ones
^true    ceiling: the same reading of the true frames; ^vae: after the autoencoder
_still   floor: the portrait alone (has no r); _another: true frames of another talk"""

SHEET_FRAMES, SHEET_TAKES = 8, 4


@dataclass(frozen=True)
class Report:
    """Figures of the toon benchmark.

    Attributes:
        model: Which model.
        seconds: Length of each talk.
        seed: Of the talks.
        tracker: The tracker's own accuracy, by kind of picture.
        scores: One for each talk.
    """

    model: str
    seconds: float
    seed: int
    tracker: dict[str, dict[str, float]]
    scores: Sequence[Score]

    def summary(self) -> dict[str, Spread]:
        """Median and range of each figure over the talks that have it."""
        return {
            field.name: spread([getattr(score, field.name) for score in self.scores])
            for field in fields(Score)
        }

    def as_json(self) -> dict[str, Any]:
        """Everything, with None for what is undefined."""
        return {
            "benchmark": "toon",
            "model": self.model,
            "seconds": self.seconds,
            "seed": self.seed,
            "tracker": self.tracker,
            "pairs": [_known(asdict(score)) for score in self.scores],
            "summary": {name: _known(each._asdict()) for name, each in self.summary().items()},
        }

    def __str__(self) -> str:
        """The table, with a legend."""
        rows = [(str(i), asdict(score)) for i, score in enumerate(self.scores)]
        summary = self.summary()
        for word in Spread._fields:
            rows.append((word, {name: getattr(each, word) for name, each in summary.items()}))
        head = "pair   " + "".join(f"{heading:>9}" for heading in HEADINGS.values())
        lines = [f"{word:<7}" + "".join(_cell(k, row[k]) for k in HEADINGS) for word, row in rows]
        lines.insert(len(self.scores), "-" * len(head))
        others = "; ".join(
            f"{name} {_cell(name, summary[name].median).strip()} "
            f"(^true {_cell(name, summary[f'{name}_ceiling'].median).strip()})"
            for name in ("wide", "round")
        )
        reads = ", ".join(f"{kind} {each['open_r']:.3f}" for kind, each in self.tracker.items())
        talks = f"{len(self.scores)} held-out talks of {self.seconds:g} s, seed {self.seed}"
        return "\n".join(
            [
                f"toon, model {self.model}: {talks}",
                "",
                head,
                *lines,
                "",
                LEGEND,
                "",
                f"median r of lip width and rounding: {others}",
                f"the tracker on other unseen faces, r of opening: {reads}",
            ]
        )


def sheet_rows(take: Take) -> UInt8[Tensor, "n h w 3"]:
    """Portrait and evenly spread true frames, then the portrait and the same generated ones."""
    shown = evenly_spread(len(take.made), SHEET_FRAMES)
    portrait = take.portrait[None]
    return torch.cat([portrait, take.truth[shown], portrait, take.made[shown]])


def sheet(rows: Sequence[UInt8[Tensor, "n h w 3"]]) -> Image.Image:
    """Contact sheet of several takes: a row of truth over a row of what the model made."""
    return contact_sheet(torch.cat(list(rows)), columns=len(rows[0]) // 2)


def _known(figures: dict[str, float]) -> dict[str, float | None]:
    return {name: None if math.isnan(x) else round(x, 4) for name, x in figures.items()}


def _cell(name: str, figure: float) -> str:
    known = f"{figure:g}" if name == "lag" else f"{figure:.3f}"
    return f"{'-' if math.isnan(figure) else known:>9}"
