"""A list of videos to make, as a CSV file with a head line.

::

    portrait,sound,out,seed,box
    anna.png,hello.wav,videos/hello.mp4,,
    anna.png,news.mp3,videos/news.mp4,7,40 20 440 420

portrait    a picture of a face
sound       a file with a voice; also a video's sound
out         .mp4, .mov, .mkv, .npy, or the name of a new folder for PNG files
seed        optional: a whole number; the same seed gives the same video (0)
box         optional: square of the portrait, left top right bottom in pixels (the middle);
            with commas between in quotes

Paths are relative to the list; they may also be absolute or lead out of its folder. No video may
replace what any line reads, or the video of another line. Other columns are refused, so that no
misspelt one is ignored.
"""

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import lightning.pytorch as pl

from loopy.data.media.finished import record_path
from loopy.data.media.outputs import check_outputs
from loopy.data.media.portrait import Box, read_box
from loopy.drafts import has_name
from loopy.errors import ConfigurationError, ManifestError, OutputError
from loopy.paths import path_of

REQUIRED, OPTIONAL = ("portrait", "sound", "out"), ("seed", "box")


class Job(NamedTuple):
    """One video to make.

    Attributes:
        number: Place in the list, from 1.
        portrait: Picture of a face.
        sound: File with sound.
        out: Where the video goes.
        seed: Seed of the video.
        box: Square of the portrait, left top right bottom in pixels; None = the middle.
    """

    number: int
    portrait: Path
    sound: Path
    out: Path
    seed: int = 0
    box: Box | None = None

    def results(self) -> dict[str, Path]:
        """Where its results go, by words for them; nowhere if ``out`` can be no name."""
        return {"out": self.out, "record": record_path(self.out)} if has_name(self.out) else {}


def read_manifest(path: Path) -> list[Job]:
    """Reads a list of jobs, whole or not at all.

    Raises:
        ManifestError: Not a readable file, a column is missing or unknown, a value makes no sense,
            there is no job, or one would replace what another one reads or writes.
    """
    path = path_of(path, ManifestError)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file, strict=True)
            _check_columns(path, rows.fieldnames or ())
            lines = [(rows.line_num, row) for row in rows]
    except (OSError, UnicodeError, csv.Error) as error:
        raise ManifestError(f"list {path} cannot be read ({error}); give CSV in UTF-8") from error
    jobs = [
        _job(row, number=number, where=f"{path} line {line}", folder=path.parent)
        for number, (line, row) in enumerate(lines, 1)
    ]
    if not jobs:
        raise ManifestError(f"list {path} holds no job; give a line for each video")
    results, inputs = {"report": report_of(path)}, {"list": path}
    for (line, _), job in zip(lines, jobs, strict=True):
        inputs |= {f"line {line}: portrait": job.portrait, f"line {line}: sound": job.sound}
        results |= {f"line {line}: {word}": place for word, place in job.results().items()}
    try:
        check_outputs(results, inputs)
    except OutputError as error:
        raise ManifestError(f"list {path}: {error}") from error
    return jobs


def report_of(path: Path) -> Path:
    """Where the outcome of each job of a list is written."""
    return path.with_suffix(".report.csv")


def _check_columns(path: Path, found: Sequence[str]) -> None:
    missing = [name for name in REQUIRED if name not in found]
    unknown = [name for name in found if name not in REQUIRED + OPTIONAL]
    if missing or unknown or len(set(found)) < len(found):
        raise ManifestError(
            f"list {path} has the columns {', '.join(found) or '(none)'}; give "
            f"{', '.join(REQUIRED)}, and optionally {', '.join(OPTIONAL)}, each once"
        )


def _job(row: Mapping[str, str | None], *, number: int, where: str, folder: Path) -> Job:
    if None in row:
        raise ManifestError(f"{where} has more values than columns; quote values with commas")
    values = {name: (value or "").strip() for name, value in row.items()}
    for name in REQUIRED:
        if not values[name]:
            raise ManifestError(f"{where} has no {name}; fill it in")
    try:
        seed = int(values.get("seed") or 0)
    except ValueError as error:
        raise ManifestError(
            f"{where}: seed is {values['seed']!r}; give a whole number or nothing"
        ) from error
    try:
        box = read_box(values["box"]) if values.get("box") else None
    except ConfigurationError as error:
        raise ManifestError(f"{where}: {error}, or nothing") from error
    portrait, sound, out = (folder / values[name] for name in REQUIRED)
    return Job(number, portrait, sound, out, seed, box)


class Jobs(pl.LightningDataModule):
    """The jobs of a list; job i belongs to rank i modulo the number of ranks.

    Args:
        manifest: The list: CSV with the columns portrait, sound, out and optionally seed, box; its
            paths are relative to it. The report is written beside it.
    """

    def __init__(self, manifest: Path) -> None:
        super().__init__()
        self.allow_zero_length_dataloader_with_multiple_devices = True  # more ranks than jobs
        self.manifest = Path(manifest)
        self.jobs: list[Job] = []

    @property
    def report(self) -> Path:
        """Where the outcome of each job is written."""
        return report_of(self.manifest)

    def setup(self, stage: str) -> None:
        """Reads the list, before any model is loaded.

        Raises:
            ManifestError: See `read_manifest`.
        """
        self.jobs = read_manifest(self.manifest)

    def predict_dataloader(self) -> "Share":
        """This rank's jobs."""
        if self.trainer is None:
            raise ConfigurationError("the jobs need a trainer: pass them to trainer.predict")
        return Share(self.jobs, rank=self.trainer.global_rank, ranks=self.trainer.world_size)


class Share:
    """The jobs of one rank; no DataLoader, so that lightning adds no sampler of its own.

    Args:
        jobs: The whole list.
        rank: Whose they are.
        ranks: How many share the list; every job belongs to exactly one.
    """

    def __init__(self, jobs: Sequence[Job], *, rank: int, ranks: int) -> None:
        self.jobs = jobs[rank::ranks]

    def __len__(self) -> int:
        """How many they are."""
        return len(self.jobs)

    def __iter__(self) -> Iterator[Job]:
        """In the order of the list."""
        return iter(self.jobs)
