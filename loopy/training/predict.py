"""`loopy predict`: the videos of a list, on any number of devices; skipped if finished.

The list is a CSV file with a head line::

    portrait,sound,out,seed,box
    anna.png,hello.wav,videos/hello.mp4,,
    anna.png,news.mp3,videos/news.mp4,7,40 20 440 420

portrait    a picture of a face
sound       a file with a voice; also a video's sound
out         .mp4, .mov, .mkv, .npy, or the name of a new folder for PNG files
seed        optional: a whole number; the same seed gives the same video (0)
box         optional: square of the portrait, left top right bottom in pixels (that of the face);
            with commas between in quotes

Paths are relative to the list; they may also be absolute or lead out of its folder. No video may
replace what any line reads, or the video of another line. Other columns are refused, so that no
misspelt one is ignored.
"""

import csv
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import Any, Literal, NamedTuple, cast

import lightning.pytorch as pl
import torch
from torch import nn
from torch.utils.data import Dataset, Subset

from loopy.data.media.finished import content_hash, is_finished, open_result, record_path
from loopy.data.media.outputs import check_outputs
from loopy.data.media.portrait import Box, Crop, read_box
from loopy.data.media.writer import check_crf
from loopy.devices import Precision, dtype_of
from loopy.diffusion.options import SamplingOptions
from loopy.diffusion.sampler import schedule_record
from loopy.drafts import has_name, remove_dead_drafts
from loopy.errors import ConfigurationError, LoopyError, ManifestError, OutputError
from loopy.memory import in_steady_memory
from loopy.models.folder import read_places
from loopy.models.weights import fingerprint
from loopy.paths import path_of
from loopy.pipeline import LoopyPipeline

REQUIRED, OPTIONAL = ("portrait", "sound", "out"), ("seed", "box")
HEAD, REPORT = ("job", "out", "status", "seconds", "error"), ".report.csv"
"""Columns of the report, and how its name ends in place of that of the list."""


class Job(NamedTuple):
    """One video to make: its place in the list, from 1, and what the columns say."""

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
    results, inputs = {"report": path.with_suffix(REPORT)}, {"list": path}
    for (line, _), job in zip(lines, jobs, strict=True):
        inputs |= {f"line {line}: portrait": job.portrait, f"line {line}: sound": job.sound}
        results |= {f"line {line}: {word}": place for word, place in job.results().items()}
    try:
        check_outputs(results, inputs)
    except OutputError as error:
        raise ManifestError(f"list {path}: {error}") from error
    return jobs


def _check_columns(path: Path, found: Sequence[str]) -> None:
    known = set(REQUIRED) <= set(found) <= set(REQUIRED + OPTIONAL)
    if not known or len(set(found)) < len(found):
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

    def setup(self, stage: str) -> None:
        """Reads the list, before any model is loaded; see `read_manifest`."""
        self.jobs = read_manifest(self.manifest)

    def predict_dataloader(self) -> Subset[Job]:
        """This rank's jobs, in order; no DataLoader, to which lightning would add a sampler."""
        if self.trainer is None:
            raise ConfigurationError("the jobs need a trainer: pass them to trainer.predict")
        share = range(self.trainer.global_rank, len(self.jobs), self.trainer.world_size)
        return Subset(cast(Dataset[Job], self.jobs), share)


class Animator(pl.LightningModule):
    """Makes the video of each job by `LoopyPipeline`, on any number of devices.

    Beside each video stands ``<out>.json`` with the content hashes of portrait, sound and result,
    the options and the fingerprint of the weights. A job whose video is there with the same record
    is skipped; one of which anything changed runs again. A job that fails, for whatever reason, is
    one line on stderr and in the report, and the others go on.

    Args:
        model: A model that comes with loopy, a model folder, or a hub id (owner/name).
        dtype: Precision of the networks that denoise.
        crf: Quality of videos, 0 to 51: 0 is lossless, 18 looks so, 23 is smaller.
        crop: Of portraits without a box: around the "face", where `loopy faces install` was run, or
            the "center".
        **sampling: See `SamplingOptions`.
    """

    def __init__(
        self,
        model: str = "toon",
        *,
        dtype: Precision = "float32",
        crf: int = 18,
        crop: Crop = "face",
        **sampling: Any,
    ) -> None:
        super().__init__()
        self.model = model
        self.options = SamplingOptions(**sampling)
        check_crf(crf)
        self.dtype_of_networks = dtype_of(dtype)
        self.crf = crf
        self.crop: Crop = crop
        self.failed = 0

    def setup(self, stage: str) -> None:
        """Loads the model, and begins the report.

        Raises:
            ModelError: There is no such model.
            OutputError: The report cannot be written, or a job would write into the model.
            ConfigurationError: The data are no jobs.
        """
        jobs = self.trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
        if not isinstance(jobs, Jobs):
            raise ConfigurationError("Animator runs a list of jobs; give it data of class Jobs")
        self.report = jobs.manifest.with_suffix(REPORT)
        outs = {
            f"job {job.number}: {word}": place
            for job in jobs.jobs
            for word, place in job.results().items()
        }
        check_outputs(outs, read_places(self.model))
        self.pipe = LoopyPipeline.from_pretrained(self.model)
        networks = [self.pipe.network, self.pipe.audio_encoder, self.pipe.vae]
        self.made_by = {
            "weights": fingerprint(nn.ModuleList(networks)),
            "scheduler": schedule_record(self.pipe.scheduler),
            "sampling": asdict(self.pipe.settings.sampling.altered(self.options)),
            "contract": asdict(self.pipe.settings.contract),
            "crf": self.crf,
        }
        if self.dtype_of_networks != torch.float32:  # or records of before would all be others
            self.made_by["dtype"] = str(self.dtype_of_networks)
        if self.trainer.is_global_zero:
            remove_dead_drafts(*(out.parent for out in outs.values()))
            self._write_row(*HEAD, mode="w")

    def on_predict_start(self) -> None:
        """Moves the networks to this rank's device."""
        self.pipe.to(self.device, dtype=self.dtype_of_networks)

    def predict_step(self, job: Job, batch_idx: int) -> str:
        """Runs one job and reports it: "done", "skipped" or "failed"."""
        start, reason = perf_counter(), ""
        try:
            status = self._make(job)
        except Exception as error:  # also a device out of memory, and what nobody foresaw
            kind = "" if isinstance(error, LoopyError) else type(error).__name__
            words = " ".join(str(error).split())[:300]
            reason = ": ".join(filter(None, (kind, words)))
            status, self.failed = "failed", self.failed + 1
            print(f"loopy: job {job.number} failed: {reason}", file=sys.stderr)
        self._write_row(job.number, job.out, status, f"{perf_counter() - start:.1f}", reason)
        return status

    def teardown(self, stage: str) -> None:
        """Counts the failures of all ranks."""
        strategy = self.trainer.strategy
        failed = torch.tensor(self.failed, device=strategy.root_device)
        self.failed = int(strategy.reduce(failed, reduce_op="sum"))

    def _make(self, job: Job) -> Literal["done", "skipped"]:
        record = self.made_by | {
            "portrait": content_hash(job.portrait, "picture"),
            "sound": content_hash(job.sound, "sound"),
            "seed": job.seed,
            "box": job.box,
        }
        framed = self.pipe.frame(job.portrait, box=job.box, crop=self.crop)
        if job.box is None and not framed.is_middle:
            record["square"] = framed.square
        if is_finished(job.out, record):
            return "skipped"
        with open_result(job.out, record, sound=job.sound, crf=self.crf) as writer:
            subject = self.pipe.prepare(framed)
            clips = self.pipe.stream(subject, job.sound, seed=job.seed, options=self.options)
            for clip in in_steady_memory(clips):
                writer.write(clip)
        return "done"

    def _write_row(self, *values: object, mode: Literal["a", "w"] = "a") -> None:
        try:
            with self.report.open(mode, newline="", encoding="utf-8") as file:
                csv.writer(file).writerow(values)
        except OSError as error:
            raise OutputError(
                f"report {self.report} cannot be written ({error.strerror}); make the folder of "
                "the list writable, and room"
            ) from error
