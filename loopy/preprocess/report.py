"""What is in a store, and what was left out: numbers for reading, histograms for looking."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from textwrap import indent
from typing import Any, TypeGuard

from loopy.data.store.description import load_description
from loopy.drafts import writing
from loopy.errors import DependencyError
from loopy.paths import AnyPath
from loopy.preprocess.ledger import ShotOutcome, read_ledgers
from loopy.preprocess.motion_scale import MotionScale
from loopy.timing import FPS

SHOWN = {
    "frames": "frames of a shot",
    "crop_px": "side of the crop, px",
    "yaw": "yaw, radians",
    "head_motion": "head motion, px² at 512",
    "expression": "expression, px² at 512",
}
"""Measurements that have a histogram."""
LARGEST = 1e300
"""Of numbers that can be drawn."""


@dataclass(frozen=True)
class DataReport:
    """A store in numbers.

    Attributes:
        videos: How many were looked at.
        errors: Videos that cannot be used or are not finished, with the reason.
        kept: Shots in the store, whose files are there: what an index holds.
        rejected: Shots that were left out.
        missing: Shots whose files are gone.
        bytes: Size of the kept shots on disk.
        unnamed: Files of shots that no ledger names, of videos that were prepared anew or taken
            out. They are in no index.
        unnamed_bytes: Their size.
        spent_s: Seconds of work by stage.
        scale: Of the motion measures, where it was asked for.
        unmeasured: Why the scale is not known; empty if it is.
    """

    videos: int
    errors: dict[str, str]
    kept: Sequence[ShotOutcome]
    rejected: Sequence[ShotOutcome]
    missing: Sequence[str]
    bytes: int
    unnamed: Sequence[str]
    unnamed_bytes: int
    spent_s: dict[str, float]
    scale: MotionScale | None = None
    unmeasured: str = ""

    @property
    def hours(self) -> float:
        """Length of all shots."""
        return sum(shot.frames for shot in self.kept) / float(FPS) / 3600

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "videos": self.videos,
            "errors": self.errors,
            "shots": len(self.kept),
            "hours": self.hours,
            "rejected": dict(self._reasons()),
            "missing": list(self.missing),
            "bytes": self.bytes,
            "unnamed files": len(self.unnamed),
            "unnamed bytes": self.unnamed_bytes,
            "seconds by stage": self.spent_s,
            "motion scale": None if self.scale is None else asdict(self.scale),
            "motion scale is unknown": self.unmeasured,
        }

    def __str__(self) -> str:
        """The same for reading."""
        lines = [
            f"{self.videos} videos, {len(self.kept)} shots, {self.hours:.2f} hours, "
            f"{self.bytes / 1e9:.3f} GB"
        ]
        for reason, count in self._reasons():
            example = next(shot.words for shot in self.rejected if shot.reason == reason)
            lines.append(f"  rejected: {count} x {reason} (one: {example})")
        lines += [f"  unusable: {source}: {reason}" for source, reason in self.errors.items()]
        if self.missing:
            lines.append(f"  gone: {len(self.missing)} files of shots; preprocess again")
        if self.unnamed:
            lines.append(
                f"  left out of the index: {len(self.unnamed)} files, "
                f"{self.unnamed_bytes / 1e9:.3f} GB, of videos that were prepared anew or taken out"
            )
        if self.spent_s:
            spent = ", ".join(f"{stage} {s:.1f}" for stage, s in self.spent_s.items())
            lines.append(f"  seconds of work: {spent}")
        if self.scale is not None:
            lines.append(f"  for audio_to_latents:\n{indent(str(self.scale), '    ')}")
        if self.unmeasured:
            lines.append(f"  how much faces move is unknown: {self.unmeasured}")
        return "\n".join(lines)

    def _reasons(self) -> list[tuple[str, int]]:
        return Counter(shot.reason for shot in self.rejected).most_common()


def store_report(root: AnyPath) -> DataReport:
    """Reads the ledgers of a store; what two copies of a video gave counts once.

    No store there, or a damaged ledger, is a StoreError.
    """
    load_description(root)
    ledgers = read_ledgers(root)
    shots = {shot.shot: shot for ledger in ledgers for shot in ledger.shots}.values()
    kept = {shot.shot: shot for shot in shots if shot.status == "kept"}
    files = Path(root).glob("clips/*/[!.]*.safetensors")
    sizes = {file.stem: file.stat().st_size for file in files if file.is_file()}
    unnamed = sorted(sizes.keys() - kept.keys())
    spent_s = Counter[str]()
    for ledger in ledgers:
        spent_s.update(ledger.spent_s)
    return DataReport(
        videos=len(ledgers),
        errors={ledger.source: ledger.error for ledger in ledgers if ledger.error},
        kept=[shot for name, shot in kept.items() if name in sizes],
        rejected=[shot for shot in shots if shot.status == "rejected"],
        missing=sorted(kept.keys() - sizes.keys()),
        bytes=sum(size for name, size in sizes.items() if name in kept),
        unnamed=unnamed,
        unnamed_bytes=sum(sizes[name] for name in unnamed),
        spent_s=dict(spent_s),
    )


def listed_shots(root: AnyPath) -> set[str] | None:
    """Ids of the shots that ledgers keep, for `loopy.data.store.index_build.build_index`.

    None where there are no ledgers: the store was made in another way, all its shots count. A
    damaged ledger is a StoreError.
    """
    ledgers = read_ledgers(root)
    kept = {shot.shot for ledger in ledgers for shot in ledger.shots if shot.status == "kept"}
    return kept if ledgers else None


def histograms(found: DataReport, path: Path) -> None:
    """Draws the distributions of the measurements of kept and rejected shots.

    Where they cannot be written that is an OutputError, without matplotlib a DependencyError.
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
            [value for shot in shots if _is_number(value := shot.measured.get(name))]
            for shots in (found.kept, found.rejected)
        ]
        axes.hist(groups, bins=20, stacked=True, label=["kept", "rejected"])
        axes.set_xlabel(words)
    figure.axes[0].set_ylabel("shots")
    figure.axes[0].legend()
    with writing(path) as hidden:
        figure.savefig(hidden)


def _is_number(value: object) -> TypeGuard[float]:
    """Not of a shot without a track, what could not be measured, or what a faulty writer left."""
    return isinstance(value, int | float) and abs(value) < LARGEST
