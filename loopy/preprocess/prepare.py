"""One video to clips of the store: the same function, whatever engine calls it.

    probe -> shots -> track -> filter -> latents -> audio -> store

Whatever is finished lies in a file of its own: the track of a shot, the clip, the ledger of the
video. So a run that was killed is started again, and goes on.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import torch
from diffusers import AutoencoderKL
from jaxtyping import Float
from torch import Tensor

from loopy.data.clips import ClipRecord, Provenance, clip_id, clip_path
from loopy.data.sound import read_audio
from loopy.data.store import write_clip
from loopy.errors import ConfigurationError, DependencyError, ModelError, OutputError
from loopy.models import AudioEncoder
from loopy.models.latents import encode_posterior
from loopy.motion import MotionSequence
from loopy.preprocess.crop import Box, crop_frames, crop_points, square_box
from loopy.preprocess.estimators import estimator
from loopy.preprocess.filters import judge, rejection
from loopy.preprocess.ledger import Ledger, Outcome, finished, stamp_of, write_ledger
from loopy.preprocess.measurements import Measurements, Sync, fill_gaps, measure
from loopy.preprocess.options import PreprocessOptions
from loopy.preprocess.poses import PoseEstimator
from loopy.preprocess.precomputed import tracks_path
from loopy.preprocess.scenes import Shot, find_shots
from loopy.preprocess.sources import Probe, probe
from loopy.preprocess.tracks import Track, chunks, kept_track
from loopy.stopwatch import Stopwatch
from loopy.timing import FPS, frame_count

AT_ONCE = 8
"""Frames in a batch of the autoencoder."""

OF_THE_RUN = OutputError, ModelError, ConfigurationError, DependencyError
"""What no other video would escape either."""

ScoreSync = Callable[[Path, range, Box], Sync]
"""Judges the lip sync of frames of a video, in the square that holds the face."""


class Stage(NamedTuple):
    """A step of the way; `STAGES` is the table of them.

    Attributes:
        name: As in the times of a ledger.
        takes: What goes in.
        gives: What comes out.
        runs_on: What it keeps busy.
    """

    name: str
    takes: str
    gives: str
    runs_on: str


STAGES = (
    Stage("probe", "the file", "length, rate, size, sound, hash", "disk"),
    Stage("shots", "all pictures, small", "spans without a cut", "CPU"),
    Stage("track", "pictures of a shot, 25 a second", "68 points a frame", "CPU or GPU"),
    Stage("filter", "track, size, sound", "square crop, measures, a reason to reject", "CPU"),
    Stage("latents", "pictures, cropped", "posterior means", "GPU"),
    Stage("audio", "sound at 16 kHz, on the pictures' clock", "all layers of wav2vec2", "GPU"),
    Stage("store", "a clip", "its file", "disk"),
)


@dataclass(frozen=True, eq=False)
class Preparer:
    """Makes clips of videos.

    Args:
        root: The store.
        options: How.
        vae: The picture autoencoder.
        audio_encoder: wav2vec2.
        models: Name -> fingerprint of both.
        score_sync: Judges lip sync; None, the default: it is not looked at.
    """

    root: Path
    options: PreprocessOptions
    vae: AutoencoderKL
    audio_encoder: AudioEncoder
    models: dict[str, str]
    score_sync: ScoreSync | None = None

    @cached_property
    def config(self) -> dict[str, object]:
        """All that shapes a clip."""
        return {"options": self.options.as_json(), "models": self.models}

    @property
    def known(self) -> bool:
        """Whether tracks lie beside the videos."""
        return self.options.estimator == "precomputed"

    @cached_property
    def find(self) -> PoseEstimator | None:
        """The landmark estimator, with its models; None where tracks are known."""
        if self.known:
            return None
        return estimator(self.options.estimator, **self.options.estimator_options)

    def __call__(self, source: Path) -> Ledger:
        """Prepares a video, unless it is done already.

        What is wrong with the video is written into its ledger, and the run goes on.

        Raises:
            OutputError: The store cannot be written.
            LoopyError: Options or models that fit no video.
        """
        key = sha256(json.dumps(self.config, sort_keys=True).encode()).hexdigest()[:16]
        stamp = stamp_of([source, tracks_path(source)] if self.known else [source], key)
        done = finished(self.root, source, stamp)
        if done is not None and all(self._there(clip) for clip in done.clips):
            return done
        ledger, watch, clips = Ledger(str(source), stamp), Stopwatch(), list[Outcome]()
        try:
            with watch("probe"):
                about = probe(source)
            ledger = replace(ledger, seconds=float(about.seconds))
            with watch("shots"):
                shots = find_shots(source, self.options.scenes)
            job = _Job(self, source, about, watch)
            for shot in shots:
                clips.append(job.clip(shot))
        except OF_THE_RUN:
            raise
        except ValueError as error:  # all of ours are, and pictures that change their size
            ledger = replace(ledger, error=f"{source}: {error}")
        ledger = replace(ledger, clips=tuple(clips))
        spent = {stage: round(seconds, 3) for stage, seconds in watch.seconds.items()}
        write_ledger(self.root, replace(ledger, spent_s=spent))
        for clip in ledger.clips:
            self.track_path(clip.clip).unlink(missing_ok=True)
        return replace(ledger, spent_s=spent)

    def track_path(self, clip: str) -> Path:
        """Where the track of a shot waits for the video to be finished."""
        return self.root / "work" / f"{clip}.safetensors"

    def _there(self, clip: Outcome) -> bool:
        return clip.status == "rejected" or (self.root / clip_path(clip.clip)).is_file()


class _Job:
    """A video on its way; what all of its shots share."""

    def __init__(self, maker: Preparer, source: Path, about: Probe, watch: Stopwatch) -> None:
        self.maker, self.source, self.about, self.watch = maker, source, about, watch
        self.options = maker.options

    @cached_property
    def sound(self) -> Float[Tensor, " samples"] | None:
        """The sound; None where there is none."""
        return read_audio(self.source) if self.about.has_sound else None

    @cached_property
    def features(self) -> Float[Tensor, "s k d"]:
        """What wav2vec2 hears in the whole video, so that a shot knows what was said before it."""
        encoder = self.maker.audio_encoder
        pooled = self.options.audio_rate_hz == FPS
        return torch.cat(
            [span.half().cpu() for span in encoder.stream(self.sound, pooled=pooled)]  # pyright: ignore[reportArgumentType]  # has sound
        )

    @cached_property
    def track_hash(self) -> dict[str, object]:
        """Known tracks shape a clip too."""
        if not self.maker.known:
            return {}
        path = tracks_path(self.source)
        return {"tracks": sha256(path.read_bytes()).hexdigest() if path.is_file() else None}

    def clip(self, shot: Shot) -> Outcome:
        """Prepares a shot, as far as it has sound."""
        span, maker, watch = shot.frames(), self.maker, self.watch
        heard = 0 if self.sound is None else frame_count(len(self.sound))
        if heard > span.start:
            span = range(span.start, min(span.stop, heard))
        start_s, stop_s = float(span.start / FPS), float(span.stop / FPS)
        name = clip_id(self.about.sha256, start_s, stop_s, maker.config | self.track_hash)
        outcome = Outcome(name, start_s, stop_s, len(span), "kept")
        reason = rejection(_unseen(len(span), heard >= span.stop), self.options.filters)
        if reason is not None:  # no need to look for a face
            return replace(outcome, status="rejected", reason=reason.name, words=reason.words)
        with watch("track"):
            track = kept_track(maker.track_path(name), self.source, span, maker.find)
        with watch("filter"):
            size = {"width_px": self.about.width_px, "height_px": self.about.height_px}
            box = square_box(track.points, **size, options=self.options.crop)
            measured = measure(
                track.points,
                track.people,
                box,
                **size,
                has_sound=heard >= span.stop,
                pose=track.pose if maker.known else None,
            )
            score = maker.score_sync
            judged = None if score is None or box is None else lambda: score(self.source, span, box)
            measured, reason = judge(measured, self.options.filters, score_sync=judged)
        outcome = replace(outcome, frames=len(track), measured=asdict(measured))
        if reason is not None or box is None:
            name, words = reason or ("face lost", "in all frames")
            return replace(outcome, status="rejected", reason=name, words=words)
        if not (maker.root / clip_path(name)).is_file():
            self._write(outcome, track, box, span)
        return outcome

    def _write(self, outcome: Outcome, track: Track, box: Box, span: range) -> None:
        options, watch = self.options, self.watch
        with watch("latents"):
            pictures = self._latents(span, box)
        with watch("audio"):
            audio = self._heard(span.start, len(track))
        with watch("store"):
            points = fill_gaps(track.points, longest=options.longest_gap)
            valid = ~points.isnan().any(-1)
            crop = crop_points(points, box, size_px=options.size_px).nan_to_num()
            folder = options.identity == "folder"
            record = ClipRecord(
                outcome.clip,
                audio=audio,
                motion=MotionSequence(crop, track.pose, valid, options.size_px),
                provenance=Provenance(
                    str(self.source),
                    self.about.sha256,
                    outcome.start_s,
                    outcome.stop_s,
                    box,
                    float(self.about.fps),
                    self.source.parent.name if folder else self.about.sha256,
                    self.maker.config,
                ),
                **pictures,
            )
            write_clip(self.maker.root, record)

    def _heard(self, start: int, frames: int) -> Float[Tensor, "s k d"]:
        """Rows of sound of some frames; zeros where the video is silent, if that is allowed."""
        each, encoder = self.options.audio_rate_hz // int(FPS), self.maker.audio_encoder
        rows = torch.zeros(frames * each, encoder.layers, encoder.width, dtype=torch.float16)
        if self.sound is not None:
            found = self.features[start * each : (start + frames) * each]
            rows[: len(found)] = found
        return rows

    def _latents(self, span: range, box: Box) -> dict[str, Float[Tensor, "f c h w"]]:
        """Mean, and what else the store shall hold of the pictures."""
        parts = dict[str, list[Tensor]]()
        vae, device = self.maker.vae, self.maker.vae.device
        for frames in chunks(self.source, span, frames=AT_ONCE):
            cut = crop_frames(frames.to(device), box, size_px=self.options.size_px)
            pictures = cut.permute(0, 3, 1, 2).float() / 127.5 - 1
            mean, log_variance = encode_posterior(vae, pictures)
            made = {"latents": mean}
            if self.options.log_variance:
                made["log_variance"] = log_variance
            if self.options.mirrored:
                made["latents_mirrored"], _ = encode_posterior(vae, pictures.flip(-1))
            for name, values in made.items():
                parts.setdefault(name, []).append(values.half().cpu())
        return {name: torch.cat(values) for name, values in parts.items()}


def _unseen(frames: int, has_sound: bool) -> Measurements:
    """A shot before anybody has looked at it, with nothing against it but length and sound."""
    return Measurements(frames, 0.0, 0.0, 0.0, 2**20, 0.0, 0.0, 0.0, has_sound)
