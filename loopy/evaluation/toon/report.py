"""The report of the toon benchmark: a table to read, JSON for programs, a sheet of frames."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch.nn.utils.rnn import pad_sequence

from loopy.data.media.video import contact_sheet
from loopy.evaluation.table.text import aligned
from loopy.evaluation.toon.measure import MeasuredTalk
from loopy.evaluation.toon.rows import SOURCES, ToonMeasurements, drift, follows, mouth_motion
from loopy.evaluation.toon.thresholds import RowResult, as_json, cells
from loopy.typed_values import finite

ON_SHEET = {"speech": 4, "long": 2, "silence": 2, "noise": 2, "endless": 1}
"""How many talks of each set the sheet shows, the worst first."""

LEGEND = """\
made is the model. Ceilings: truth (true frames), vae (these through the autoencoder). Floors: still
(the portrait), mismatched (true frames of another talk), no_past (the model without motion frames).
In brackets: 95 % interval, talks redrawn. ~ where an end of it says otherwise than the figure."""


@dataclass(frozen=True)
class Report:
    """Figures of the toon benchmark.

    `talks` are how many of each set, `probes` the accuracy of the measuring networks, by network
    and kind of picture.
    """

    model: str
    seed: int
    talks: dict[str, int]
    probes: dict[str, Any]
    rows: Sequence[RowResult]

    def as_json(self) -> dict[str, Any]:
        """Everything, rounded to 4 digits, with None for what is undefined."""
        head = {"benchmark": "toon", "model": self.model, "seed": self.seed, "talks": self.talks}
        text = json.dumps(finite(head | {"judges": self.probes, "rows": as_json(self.rows)}))
        return json.loads(text, parse_float=lambda number: round(float(number), 4))

    def __str__(self) -> str:
        """The table, with a legend."""
        sets = ", ".join(f"{count} {name}" for name, count in self.talks.items())
        head = ["what", "made", "95 %", "threshold", "reached", *SOURCES[1:]]
        counted = [row.reached for row in self.rows if row.threshold and not row.unread]
        accuracy = [
            f"accuracy of the {probe}, {kind}: "
            + ", ".join(f"{name} {value:g}" for name, value in figures.items())
            for probe, kinds in self.probes.items()
            for kind, figures in kinds.items()
        ]
        return "\n".join(
            [
                f"toon, model {self.model}: held-out talks, {sets}; seed {self.seed}",
                "",
                *aligned(head, [cells(row, SOURCES) for row in self.rows]),
                "",
                f"{sum(map(bool, counted))} of {len(counted)} thresholds reached",
                "",
                LEGEND,
                *accuracy,
            ]
        )


def sheet(measurements: ToonMeasurements) -> Image.Image:
    """Of each set the worst talks: portrait and true frames, over portrait and made ones.

    Half of a long talk's frames are from its first second, half from its last.
    """
    rows = [
        torch.cat([talk.portrait[None], talk.films[source].get("shown")])
        for name, talks in measurements.talks.items()
        for talk in hardest_first(name, talks)[: ON_SHEET.get(name, len(talks))]
        for source in ("truth", "made")
    ]
    whole = pad_sequence(rows, batch_first=True, padding_value=255)
    return contact_sheet(whole.flatten(0, 1), columns=whole.shape[1])


def hardest_first(group: str, talks: Sequence[MeasuredTalk]) -> list[MeasuredTalk]:
    """Talks of a set: by the mouth's r; by drift where long; by how the mouth moves where quiet."""

    def figure(talk: MeasuredTalk) -> float:
        film = talk.films["made"]
        if group == "speech":
            return -follows("open")(talk, film)
        return (drift if group in ("long", "endless") else mouth_motion)(talk, film)

    return sorted(talks, key=figure, reverse=True)
