"""What `loopy init` has done: a table in the terminal, and ``init.json`` in the model's folder."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from loopy.errors import OutputError
from loopy.models.sd15_files import BESIDE
from loopy.models.weights import LoadReport

RECORD = "init.json"
FROM: Mapping[str, tuple[str, ...]] = {
    "reference_net": ("sd15",),
    "denoiser": ("sd15", "motion_module"),
    "vae": ("vae",),
    "audio_encoder": ("wav2vec2",),
}
"""What a part may be made of; the others are new."""
WORDS: Mapping[str, str] = {
    ".transformer_blocks.0.attn2.": "text attention",
    ".transformer_blocks.0.norm2.": "norm before the text attention",
    "conv_norm_out.": "head",
    "conv_out.": "head",
    ".audio_attn.": "audio attention",
    ".inter_clip.": "inter-clip layers",
    ".intra_clip.": "intra-clip layers",
    ".slopes": "locality",
    "conv_reference.": "portrait as an input",
    "lm_head.": "letters",
    "quantizer.": "quantiser",
    "project_q.": "quantiser",
    "project_hid.": "quantiser",
    "masked_spec_embed": "mask of its training",
}
"""Parts of names -> what they are."""


def write_init_record(
    folder: Path,
    made_of: Mapping[str, Any],
    sources: Mapping[str, Mapping[str, Any]],
    parts: Mapping[str, LoadReport],
) -> None:
    """Writes ``init.json``.

    Args:
        folder: Of the model.
        made_of: All that decides the result.
        sources: By option: "path", "sha256" by file, "skipped" kinds of names.
        parts: What each part got, by the name of its folder.
    """
    counts = {
        part: {
            "from": [name for name in FROM.get(part, ()) if name in sources],
            "loaded": len(report.loaded),
            "new": grouped(report.new),
            "skipped": grouped(report.skipped),
        }
        for part, report in parts.items()
    }
    record = {"parts": counts, "sources": sources, "made_of": made_of}
    (folder / RECORD).write_text(json.dumps(record, indent=2) + "\n")


def init_table(folder: Path) -> str:
    """The record of a model's folder as a table: parts, then kinds of layers, then sources."""
    record = json.loads((folder / RECORD).read_text())
    lines = [f"{'part':<18}{'loaded':>8}{'new':>8}{'skipped':>9}  from"]
    kinds = []
    for part, counts in record["parts"].items():
        new, skipped = sum(counts["new"].values()), sum(counts["skipped"].values())
        origin = ", ".join(counts["from"]) or "-"
        lines.append(f"{part:<18}{counts['loaded']:>8}{new:>8}{skipped:>9}  {origin}")
        kinds += [f"{part}: {w} {s}" for w in ("new", "skipped") if (s := _sum(counts[w]))]
    for name, source in record["sources"].items():
        kinds += [f"{name}: {source['path']}"]
        kinds += [f"    {sha[:16]}  {file}" for file, sha in source["sha256"].items()]
        kinds += [f"    skipped {s}" for s in [_sum(source["skipped"])] if s]
    return "\n".join([*lines, "", *kinds])


def is_made(out: Path, made_of: Mapping[str, Any]) -> bool:
    """Whether the very same model is there already.

    Raises:
        OutputError: Something else is there.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return False
    try:
        there = json.loads((out / RECORD).read_text())["made_of"]
    except (OSError, ValueError, KeyError):
        there = None
    if there != made_of:
        raise OutputError(f"{out} is there, and is not this model; give --out another name")
    return True


def grouped(names: Iterable[str]) -> dict[str, int]:
    """How many names there are of each kind."""
    return dict(Counter(map(_kind, names)))


def _kind(name: str) -> str:
    beside = (words for start, words in BESIDE.items() if name.startswith(start))
    inside = (words for part, words in WORDS.items() if part in name)
    return next(beside, None) or next(inside, "all")


def _sum(groups: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in groups.items())
