"""The jobs of a list through the pipeline: skipped if finished, reported if failed."""

import csv
import sys
from dataclasses import asdict
from time import perf_counter
from typing import Literal

import lightning.pytorch as pl
import torch
from torch import nn

from loopy.data.media.finished import content_hash, is_finished, open_result
from loopy.data.media.outputs import check_outputs
from loopy.data.media.writer import check_crf
from loopy.devices import Precision, dtype_of
from loopy.diffusion.options import SamplingOptions
from loopy.drafts import remove_dead_drafts
from loopy.errors import ConfigurationError, LoopyError, OutputError
from loopy.memory import in_steady_memory
from loopy.models.folder import read_places
from loopy.models.weights import fingerprint
from loopy.pipeline import LoopyPipeline
from loopy.training.jobs import Job, Jobs

HEAD = ("job", "out", "status", "seconds", "error")


class Animator(pl.LightningModule):
    """Makes the video of each job by `LoopyPipeline`, on any number of devices.

    Beside each video stands ``<out>.json`` with the content hashes of portrait, sound and result,
    the options and the fingerprint of the weights. A job whose video is there with the same record
    is skipped; one of which anything changed runs again. A job that fails, for whatever reason, is
    one line on stderr and in the report, and the others go on.

    Args:
        model: A model that comes with loopy, a model folder, or a hub id (owner/name).
        steps: Denoising steps of a clip, in place of the model's own.
        audio_ratio: How strongly the sound leads, in place of the model's own.
        reference_ratio: How strongly the portrait leads, in place of the model's own.
        guidance_start: Share of the steps, in [0, 1], after which guidance begins.
        guidance_stop: Share of the steps, in [0, 1], after which it ends.
        stacked: Run the guidance branches as one batch, or one after another in less memory.
        base_keeps_past: The branch without sound and portrait keeps the motion frames.
        dtype: Precision of the networks that denoise.
        crf: Quality of videos, 0 to 51: 0 is lossless, 18 looks so, 23 is smaller.
    """

    def __init__(
        self,
        model: str = "toon",
        *,
        steps: int | None = None,
        audio_ratio: float | None = None,
        reference_ratio: float | None = None,
        guidance_start: float | None = None,
        guidance_stop: float | None = None,
        stacked: bool | None = None,
        base_keeps_past: bool | None = None,
        dtype: Precision = "float32",
        crf: int = 18,
    ) -> None:
        super().__init__()
        self.model = model
        self.options = SamplingOptions(
            steps=steps,
            audio_ratio=audio_ratio,
            reference_ratio=reference_ratio,
            guidance_start=guidance_start,
            guidance_stop=guidance_stop,
            stacked=stacked,
            base_keeps_past=base_keeps_past,
        )
        check_crf(crf)
        self.dtype_of_networks = dtype_of(dtype)
        self.crf = crf
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
        self.report = jobs.report
        outs = {
            f"job {job.number}: {word}": place
            for job in jobs.jobs
            for word, place in job.results().items()
        }
        check_outputs(outs, read_places(self.model))
        self.pipe = LoopyPipeline.from_pretrained(self.model)
        self.made_by = {
            "weights": fingerprint(
                nn.ModuleList([self.pipe.network, self.pipe.audio_encoder, self.pipe.vae])
            ),
            "scheduler": {k: v for k, v in self.pipe.scheduler.config.items() if k[0] != "_"},
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
        """Runs one job and reports it.

        Returns:
            "done", "skipped" or "failed".

        Raises:
            OutputError: The report cannot be written.
        """
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
        record = self.made_by | _content(job)
        if is_finished(job.out, record):
            return "skipped"
        with open_result(job.out, record, sound=job.sound, crf=self.crf) as writer:
            subject = self.pipe.prepare(job.portrait, box=job.box)
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


def _content(job: Job) -> dict[str, object]:
    """What decides the video, besides the model."""
    return {
        "portrait": content_hash(job.portrait, "picture"),
        "sound": content_hash(job.sound, "sound"),
        "seed": job.seed,
        "box": job.box,
    }
