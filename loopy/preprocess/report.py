"""What is in a store, and what was left out: numbers for reading, histograms for looking."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from textwrap import indent
from typing import Any, TypeGuard

from loopy.data.media.container import AnyPath
from loopy.data.media.writer import draft
from loopy.data.store.description import load_description
from loopy.errors import DependencyError, OutputError
from loopy.preprocess.ledger import Ledger, Outcome, read_ledgers
from loopy.preprocess.motion_scale import MotionScale
from loopy.timing import FPS

SHOWN = {
    "frames": "frames of a clip",
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
        errors: Videos of which nothing could be made, with the reason.
        kept: Shots that are clips, and whose files are there: what an index holds.
        rejected: Shots that are not.
        missing: Clips whose files are gone.
        bytes: Size of the kept clips on disk.
        unnamed: Files of clips that no ledger names, of videos that were prepared anew or taken
            out. They are in no index.
        unnamed_bytes: Their size.
        spent_s: Seconds of work by stage.
        scale: Of the motion measures, where it was asked for.
        unmeasured: Why it cannot be told; empty if it can.
    """

    videos: int
    errors: dict[str, str]
    kept: Sequence[Outcome]
    rejected: Sequence[Outcome]
    missing: Sequence[str]
    bytes: int
    unnamed: Sequence[str]
    unnamed_bytes: int
    spent_s: dict[str, float]
    scale: MotionScale | None = None
    unmeasured: str = ""

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
            f"{self.videos} videos, {len(self.kept)} clips, {self.hours:.2f} hours, "
            f"{self.bytes / 1e9:.3f} GB"
        ]
        for reason, count in Counter(clip.reason for clip in self.rejected).most_common():
            example = next(clip.words for clip in self.rejected if clip.reason == reason)
            lines.append(f"  rejected: {count} x {reason} (one: {example})")
        lines += [f"  unusable: {source}: {reason}" for source, reason in self.errors.items()]
        if self.missing:
            lines.append(f"  gone: {len(self.missing)} files of clips; preprocess again")
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


def report(root: AnyPath) -> DataReport:
    """Reads the ledgers of a store; what two copies of a video gave counts once.

    Raises:
        StoreError: No store there, or a ledger is damaged.
    """
    load_description(root)
    ledgers = read_ledgers(root)
    clips = {clip.clip: clip for ledger in ledgers for clip in ledger.clips}.values()
    kept = {clip.clip: clip for clip in clips if clip.status == "kept"}
    files = Path(root).glob("clips/*/[!.]*.safetensors")
    sizes = {file.stem: file.stat().st_size for file in files if file.is_file()}
    unnamed = sorted(sizes.keys() - kept.keys())
    return DataReport(
        videos=len(ledgers),
        errors={ledger.source: ledger.error for ledger in ledgers if ledger.error},
        kept=[clip for name, clip in kept.items() if name in sizes],
        rejected=[clip for clip in clips if clip.status == "rejected"],
        missing=sorted(kept.keys() - sizes.keys()),
        bytes=sum(size for name, size in sizes.items() if name in kept),
        unnamed=unnamed,
        unnamed_bytes=sum(sizes[name] for name in unnamed),
        spent_s=_spent(ledgers),
    )


def listed_shots(root: AnyPath) -> set[str] | None:
    """Ids of the clips that ledgers keep, for `loopy.data.store.index_build.build_index`.

    Returns:
        None where there are no ledgers: the store was made in another way, all its clips count.

    Raises:
        StoreError: A ledger is damaged.
    """
    ledgers = read_ledgers(root)
    kept = {clip.clip for ledger in ledgers for clip in ledger.clips if clip.status == "kept"}
    return kept if ledgers else None


def histograms(found: DataReport, path: Path) -> None:
    """Draws how the measurements of kept and rejected clips are spread.

    Raises:
        OutputError: They cannot be written there.
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
            [value for clip in clips if _is_number(value := clip.measured.get(name))]
            for clips in (found.kept, found.rejected)
        ]
        axes.hist(groups, bins=20, stacked=True, label=["kept", "rejected"])
        axes.set_xlabel(words)
    figure.axes[0].set_ylabel("clips")
    figure.axes[0].legend()
    with draft(path) as hidden:
        try:
            figure.savefig(hidden)
        except OSError as error:
            raise OutputError(
                f"{path} cannot be written ({error.strerror}); check permission and free space"
            ) from error


def _is_number(value: object) -> TypeGuard[float]:
    """Not what could not be measured, nor what a faulty writer left."""
    return isinstance(value, int | float) and abs(value) < LARGEST


def _spent(ledgers: Sequence[Ledger]) -> dict[str, float]:
    total = Counter[str]()
    for ledger in ledgers:
        total.update(ledger.spent_s)
    return dict(total)
