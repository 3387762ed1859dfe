"""The table of an ablation, to read in a terminal, as Markdown and as CSV, beside the paper's."""

import json
import math
from pathlib import Path
from textwrap import wrap
from typing import NamedTuple

from loopy.drafts import writing
from loopy.evaluation.ablation.runs import FULL, LOSS, Ablation, Entry
from loopy.evaluation.table.results import ColumnInfo
from loopy.evaluation.table.text import (
    DIRECTIONS,
    WIDTH,
    aligned,
    count,
    interval,
    short,
    write_rows,
)


class Claim(NamedTuple):
    """What the paper's Table 3 says of a variant, and our column beside it.

    Attributes:
        figure: The paper's column.
        variant: Of `configs/ablations`.
        full: The paper's figure of the full model, which it calls better.
        value: The paper's figure of the variant.
        ours: The column of toons that stands for it.
    """

    figure: str
    variant: str
    full: float
    value: float
    ours: str


CLAIMS = (
    Claim("IQA", "s4_r1", 4.507, 4.424, "FID (toon)"),
    Claim("IQA", "no_tsm", 4.507, 4.386, "FID (toon)"),
    Claim("IQA", "single_layer", 4.507, 4.072, "FID (toon)"),
    Claim("Sync-D", "s4_r1", 7.749, 8.004, "Sync-D (toon)"),
    Claim("Smooth", "single_layer", 0.9932, 0.9752, "Smooth, linear"),
)
"""Of the cells that could be confirmed; nobody can judge toons by IQA, so FID stands for it."""

LARGEST, RANKED = "no_a2l", ("Sync-D (toon)", "FID (toon)", LOSS.name)
"""Whose loss is the largest, as a review of the paper says without a figure; and where we look."""


class Table(NamedTuple):
    """A table.

    Attributes:
        title: Above it.
        head: Names of its columns.
        rows: Cells.
        notes: Sentences below it.
    """

    title: str
    head: list[str]
    rows: list[list[str]]
    notes: list[str]


def tables(found: Ablation) -> list[Table]:
    """All tables of an ablation: figures, differences, the paper's order."""
    told = [_figures(found)]
    if FULL in found.variants and len(found.variants) > 1:
        told += [_differences(found), _paper(found)]
    return told


def terminal(found: Ablation) -> str:
    """As text."""
    parts = []
    for table in tables(found):
        notes = [line for note in table.notes for line in wrap(note, WIDTH)]
        parts += [table.title, "", *aligned(table.head, table.rows), "", *notes, ""]
    return "\n".join(parts).rstrip()


def markdown(found: Ablation) -> str:
    """To be pasted into a page, without headings."""
    parts = []
    for table in tables(found):
        lines = [table.head, ["---"] * len(table.head), *table.rows]
        parts += [f"**{table.title}**", "", *(f"| {' | '.join(row)} |" for row in lines), ""]
        parts += [*table.notes, ""] if table.notes else []
    return "\n".join(parts).rstrip() + "\n"


def write(found: Ablation, folder: Path) -> None:
    """Writes ablations.md, ablations.csv (a row for each variant and figure) and ablations.json.

    Raises:
        OutputError: They cannot be written there.
    """
    texts = {
        "ablations.md": markdown(found),
        "ablations.json": json.dumps(found.as_json(), indent=1) + "\n",
    }
    for name, text in texts.items():
        with writing(folder / name) as hidden:
            hidden.write_text(text, encoding="utf-8")
    head = ["variant", "figure", "better", "unit", "value", "seeds", "full", "real"]
    rows = [
        [
            variant,
            column.name,
            column.better,
            column.unit,
            _exact(entry.value),
            " ".join(f"{seed}:{_exact(value)}" for seed, value in sorted(entry.seeds.items())),
            *map(_exact, (_of(found, FULL, column), found.real.get(column.name, math.nan))),
            *map(_exact, entry.difference),
            entry.verdict,
        ]
        for variant, row in found.entries.items()
        for column in found.columns
        for entry in [row[column.name]]
    ]
    write_rows([[*head, "difference", "low", "high", "verdict"], *rows], folder / "ablations.csv")


def _figures(found: Ablation) -> Table:
    seeds = found.seeds
    counts = sorted({len(each) for each in seeds.values()})
    rows = [
        [
            f"{column.name} ({column.unit})" if column.unit else column.name,
            DIRECTIONS[column.better],
            *(_cell(found.entries[name][column.name]) for name in found.variants),
            short(found.real.get(column.name, math.nan)),
        ]
        for column in found.columns
    ]
    runs = sum(len(each) for each in seeds.values())
    told = f"{count(found.variants, 'variant')}, {runs} runs of {found.steps} steps each."
    spread = f"In brackets: each seed, n = {' to '.join(map(str, counts))}"
    real = "Real: the true videos of the same talks."
    losses = [found.entries[name][LOSS.name].value for name in found.variants]
    unvalidated = (
        []
        if all(map(math.isfinite, losses))
        else [f"{LOSS.name}, -: a run was not validated behind its last step."]
    )
    few = "; so few say little of the luck of training" if counts[0] < 5 else ""
    return Table("Figures", ["figure", "better", *found.variants, "real"], rows,
                 [told, f"{spread}{few}.", real, *unvalidated])  # fmt: skip


def _differences(found: Ablation) -> Table:
    others = found.variants[1:]
    rows = [
        [column.name, *(_against(found.entries[name][column.name]) for name in others)]
        for column in found.columns
    ]
    decided = [
        entry.verdict
        for name in others
        for entry in found.entries[name].values()
        if entry.verdict not in ("", "too few talks")
    ]
    notes = [
        "The variant less the full model, with 95 % intervals of Student's t over talks, paired "
        "(over clips where sound or past are exchanged), means over the seeds of both. They hold "
        "the luck of the talks, not that of training.",
        "better, worse: beyond noise, and every seed says the same; of figures that should be as "
        "real, nearer to the real one or farther. more, less: the same where no way is better.",
    ]
    if decided:
        notes.append(
            "By the luck of the talks alone a variant that is no other is beyond noise once in "
            f"20: {len(decided) / 20:.1f} of these {len(decided)}. The luck of training comes on "
            "top: runs of two seeds that differ by nothing agree in sign half of the time."
        )
    return Table(f"Against {FULL}", ["figure", *others], rows, notes)


def _paper(found: Ablation) -> Table:
    rows = []
    for claim in CLAIMS:
        row = found.entries.get(claim.variant)
        head = [claim.figure, claim.variant, f"{claim.full:g}, {claim.value:g}"]
        if row is None or claim.ours not in row:
            rows.append([*head, "-", "-", "not trained here"])
            continue
        entry, full = row[claim.ours], found.entries[FULL][claim.ours]
        ours = f"{claim.ours}: {short(full.value)}, {short(entry.value)}"
        says = {"worse": "agrees", "better": "the other way"}.get(entry.verdict, entry.verdict)
        rows.append([*head, ours, _against(entry), says or "no verdict"])
    rows += [_largest(found, name) for name in RANKED] if LARGEST in found.variants else []
    notes = [
        "Paper: its Table 3, open set, as far as its cells are confirmed; the full model is the "
        "better one in each. That audio-to-latents matters most is from a review, without a figure."
        " There is no IQA of toons: the distance of faces (FID) stands for it.",
        "The largest loss is by the figures as they are: no interval tells it from the next one.",
    ]
    return Table("The paper's order and ours",
                 ["paper's figure", "variant", "paper: full, variant", "here: full, variant",
                  "difference", "says"], rows, notes)  # fmt: skip


def _largest(found: Ablation, name: str) -> list[str]:
    """Which variant loses most in a figure, where the paper says the one without A2L does."""
    drops = {
        variant: found.entries[variant][name].difference.value  # lower is better in all of RANKED
        for variant in found.variants[1:]
        if name in found.entries[variant]
    }
    known = {variant: drop for variant, drop in drops.items() if math.isfinite(drop)}
    head = ["largest loss", LARGEST, "without a figure"]
    if not known or max(known.values()) <= 0:
        return [*head, name, "-", "none loses"]
    worst = max(known, key=known.__getitem__)
    says = "agrees" if worst == LARGEST else f"the other way: {worst}"
    return [*head, name, f"{worst} {_against(found.entries[worst][name])}", says]


def _cell(entry: Entry) -> str:
    if len(entry.seeds) < 2 or not math.isfinite(entry.value):
        return short(entry.value)
    each = ", ".join(short(value) for _, value in sorted(entry.seeds.items()))
    return f"{short(entry.value)} ({each})"


def _against(entry: Entry) -> str:
    value, low, high = entry.difference
    if not math.isfinite(value):
        return "-"
    ends = f" {interval(low, high)}" if math.isfinite(low + high) else ""
    return f"{_signed(value)}{ends} {entry.verdict}".rstrip()


def _signed(value: float) -> str:
    return ("+" if value > 0 else "") + short(value)


def _of(found: Ablation, variant: str, column: ColumnInfo) -> float:
    row = found.entries.get(variant)
    return math.nan if row is None else row[column.name].value


def _exact(value: float) -> str:
    return repr(float(value)) if math.isfinite(value) else ""
