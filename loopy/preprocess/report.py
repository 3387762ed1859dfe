"""What is in a store, and what was left out: numbers for reading, histograms for looking."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite, nan
from pathlib import Path
from typing import Any

from loopy.data.description import load_description
from loopy.data.media import AnyPath
from loopy.errors import DependencyError
from loopy.preprocess.ledger import Ledger, Outcome, read_ledgers
from loopy.timing import FPS

SHOWN = {
    "frames": "frames of a clip",
    "crop_px": "side of the crop, px",
    "yaw": "yaw, radians",
    "head_motion": "head motion, px² at 512",
    "expression": "expression, px² at 512",
}
"""Measurements that have a histogram."""


@dataclass(frozen=True)
class DataReport:
    """A store in numbers.

    Attributes:
        videos: How many were looked at.
        errors: Videos of which nothing could be made, with the reason.
        kept: Shots that are clips.
        rejected: Shots that are not.
        bytes: Size of all clips on disk.
        spent_s: Seconds of work by stage.
    """

    videos: int
    errors: dict[str, str]
    kept: Sequence[Outcome]
    rejected: Sequence[Outcome]
    bytes: int
    spent_s: dict[str, float]

    @property
    def hours(self) -> float:
        """Length of all clips."""
        return sum(clip.frames for clip in self.kept) / float(FPS) / 3600

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "videos": self.videos,
            "errors": self.errors,
            "clips": len(self.kept),
            "hours": self.hours,
            "rejected": dict(Counter(clip.reason for clip in self.rejected).most_common()),
            "bytes": self.bytes,
            "seconds by stage": self.spent_s,
        }

    def __str__(self) -> str:
        """The same for reading."""
        lines = [
            f"{self.videos} videos, {len(self.kept)} clips, {self.hours:.2f} hours, "
            f"{self.bytes / 1e9:.3f} GB"
        ]
        for reason, count in Counter(clip.reason for clip in self.rejected).most_common():
            example = next(clip.words for clip in self.rejected if clip.reason == reason)
            lines.append(f"  rejected: {count} x {reason} (one: {example})")
        lines += [f"  unusable: {source}: {reason}" for source, reason in self.errors.items()]
        if self.spent_s:
            spent = ", ".join(f"{stage} {s:.1f}" for stage, s in self.spent_s.items())
            lines.append(f"  seconds of work: {spent}")
        return "\n".join(lines)


def report(root: AnyPath) -> DataReport:
    """Reads the ledgers of a store; what two copies of a video gave counts once.

    Raises:
        StoreError: No store there, or a ledger is damaged.
    """
    load_description(root)
    ledgers = read_ledgers(root)
    clips = {clip.clip: clip for ledger in ledgers for clip in ledger.clips}.values()
    return DataReport(
        videos=len(ledgers),
        errors={ledger.source: ledger.error for ledger in ledgers if ledger.error},
        kept=[clip for clip in clips if clip.status == "kept"],
        rejected=[clip for clip in clips if clip.status == "rejected"],
        bytes=sum(path.stat().st_size for path in Path(root).glob("clips/*/[!.]*.safetensors")),
        spent_s=_spent(ledgers),
    )


def histograms(found: DataReport, path: Path) -> None:
    """Draws how the measurements of kept and rejected clips are spread.

    Raises:
        DependencyError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise DependencyError(
            "histograms need matplotlib; pip install 'loopy-portrait[notebooks]'"
        ) from error
    figure = Figure(figsize=(3 * len(SHOWN), 3), layout="constrained")
    for axes, (name, words) in zip(figure.subplots(1, len(SHOWN)), SHOWN.items(), strict=True):
        groups = [
            # not a clip that was rejected unseen, and not what could not be measured
            [value for clip in clips if isfinite(value := clip.measured.get(name, nan))]
            for clips in (found.kept, found.rejected)
        ]
        axes.hist(groups, bins=20, stacked=True, label=["kept", "rejected"])
        axes.set_xlabel(words)
    figure.axes[0].set_ylabel("clips")
    figure.axes[0].legend()
    figure.savefig(path)


def _spent(ledgers: Sequence[Ledger]) -> dict[str, float]:
    total = Counter[str]()
    for ledger in ledgers:
        total.update(ledger.spent_s)
    return dict(total)
