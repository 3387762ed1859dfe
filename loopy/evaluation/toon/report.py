"""What the benchmark found: a table to read, JSON to keep, a sheet to look at."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from loopy.data.media.video import contact_sheet
from loopy.evaluation.toon.columns import Evidence, drift, opening
from loopy.evaluation.toon.filming import Take
from loopy.evaluation.toon.thresholds import SOURCES, Verdict
from loopy.models.tracker import OUTPUTS

ON_SHEET = {"speech": 4, "long": 2, "silence": 2, "noise": 2, "endless": 1}
"""How many talks of each set the sheet shows, the worst first."""

LEGEND = """\
made is the model. Ceilings: truth (true frames), vae (these through the autoencoder). Floors: still
(the portrait), another (true frames of another talk), no_past (the model without motion frames).
In brackets: 95 % interval, talks redrawn. ~ where an end of it says otherwise than the figure."""


@dataclass(frozen=True)
class Report:
    """Figures of the toon benchmark.

    Attributes:
        model: Which model.
        seed: Of the talks.
        talks: How many of each set.
        judges: The judges' own accuracy, by judge and kind of picture.
        verdicts: The rows of the table.
    """

    model: str
    seed: int
    talks: dict[str, int]
    judges: dict[str, Any]
    verdicts: Sequence[Verdict]

    def as_json(self) -> dict[str, Any]:
        """Everything, with None for what is undefined."""
        rows = [
            {
                "name": each.name,
                "bar": str(each.bar) if each.bar else None,
                "reached": each.reached,
                "sources": {
                    source: {**figure._asdict(), "talks": each.values[source]}
                    for source, figure in each.figures.items()
                },
            }
            for each in self.verdicts
        ]
        head = {"benchmark": "toon", "model": self.model, "seed": self.seed, "talks": self.talks}
        return _known({**head, "judges": self.judges, "rows": rows})

    def __str__(self) -> str:
        """The table, with a legend."""
        sets = ", ".join(f"{count} {name}" for name, count in self.talks.items())
        head = ["what", "made", "bar", "reached", *SOURCES[1:]]
        rows = [_cells(verdict) for verdict in self.verdicts]
        widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in [head, ["-" * width for width in widths], *rows]
        ]
        barred = [each.reached for each in self.verdicts if each.bar and not each.unread]
        return "\n".join(
            [
                f"toon, model {self.model}: held-out talks, {sets}; seed {self.seed}",
                "",
                *lines,
                "",
                f"{sum(map(bool, barred))} of {len(barred)} bars reached",
                "",
                LEGEND,
                *_judges(self.judges),
            ]
        )


def sheet(evidence: Evidence) -> Image.Image:
    """Of each set the worst talks: portrait and true frames, over portrait and made ones.

    Half of a long talk's frames are from its first second, half from its last.
    """
    rows = [
        torch.cat([take.portrait[None], take.readings[source].shown])
        for name, takes in evidence.takes.items()
        for take in worst_first(name, evidence)[: ON_SHEET.get(name, len(takes))]
        for source in ("truth", "made")
    ]
    columns = max(len(row) for row in rows)
    return contact_sheet(torch.cat([_filled(row, columns) for row in rows]), columns=columns)


def worst_first(group: str, evidence: Evidence) -> list[Take]:
    """Talks of a set: by the mouth's r; by drift where long; by how the mouth moves where quiet."""
    measure: dict[str, Callable[[], Any]] = {
        "speech": lambda: opening()(evidence, "made"),
        "long": lambda: drift()(evidence, "made"),
        "endless": lambda: drift("endless")(evidence, "made"),
    }
    takes = evidence.takes[group]
    if group in measure:
        badness = measure[group]()[0][:, 0] * (-1 if group == "speech" else 1)
    else:
        mouth = OUTPUTS.index("open")
        badness = torch.stack([take.readings["made"].tracks[:, mouth].std() for take in takes])
    return [takes[i] for i in badness.argsort(descending=True, stable=True).tolist()]


def _filled(row: Tensor, columns: int) -> Tensor:
    white = row.new_full((columns - len(row), *row.shape[1:]), 255)
    return torch.cat([row, white])


def _cells(verdict: Verdict) -> list[str]:
    made = verdict.figures.get("made")
    interval = f"{_short(made.value)} [{_short(made.low)}, {_short(made.high)}]" if made else "-"
    reached = {True: "yes", False: "no", None: "unread" if verdict.unread else "-"}[verdict.reached]
    bounds = [
        _short(verdict.figures[source].value) if source in verdict.figures else "-"
        for source in SOURCES[1:]
    ]
    doubt = "~" if verdict.doubtful() else ""
    return [verdict.name, interval, str(verdict.bar or ""), reached + doubt, *bounds]


def _short(figure: float) -> str:
    if math.isnan(figure):
        return "-"
    small = abs(figure) < 0.1
    return f"{figure:.2g}" if 0 < abs(figure) < 0.001 else f"{figure:.{2 + small}f}"


def _judges(accuracy: dict[str, Any]) -> list[str]:
    """A line for each judge and kind of picture."""
    return [
        f"the {judge}'s own accuracy, {kind}: "
        + ", ".join(f"{name} {value:g}" for name, value in figures.items())
        for judge, kinds in accuracy.items()
        for kind, figures in kinds.items()
        if isinstance(figures, dict)
    ]


def _known(value: Any) -> Any:
    """The same with None for what is no number, rounded."""
    if isinstance(value, dict):
        return {name: _known(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_known(each) for each in value]
    if isinstance(value, float):
        return round(value, 4) if math.isfinite(value) else None
    return value
