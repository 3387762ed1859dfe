"""One video to shots of a store: probe, shots, track, filter, encode, store.

The store is the state. A shot has an id that follows from the video and all options, and its file
appears whole or not at all; the ledger of the video names the shots that are done. A run that was
killed is started again: it finds the cuts of the video anew, and goes on at the shot in work.
"""

import json
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from loopy.data.media.sound import read_audio
from loopy.data.store.description import load_description
from loopy.data.store.shots import ShotRecord, shot_path, write_shot
from loopy.errors import ConfigurationError, DependencyError, MediaError, ModelError, OutputError
from loopy.faces.framing import crop_frames, crop_points
from loopy.models import AudioEncoder
from loopy.models.latents import Autoencoder, encode_posterior
from loopy.motion import MotionSequence
from loopy.pixels import from_pixels
from loopy.preprocess.identity import IdentityOf, identity_rule
from loopy.preprocess.landmarks import estimator
from loopy.preprocess.landmarks.types import LandmarkEstimator
from loopy.preprocess.ledger import Ledger, ShotOutcome, current_ledger, stamp_of, write_ledger
from loopy.preprocess.measurements import fill_gaps
from loopy.preprocess.options import PreprocessOptions
from loopy.preprocess.remote_videos import Source, local_copy, tracks_of
from loopy.preprocess.shot_finder import PlannedShot, ScoreSync, ShotFinder, read_parts
from loopy.preprocess.sync_scorer import PeopleSyncScorer, ToonSyncScorer
from loopy.stopwatch import Stopwatch
from loopy.timing import FPS

BATCH = 8
"""Frames in a batch of the autoencoder."""
OF_THE_RUN = OutputError, ModelError, ConfigurationError, DependencyError
"""Errors that every other video would meet too."""


class Networks(NamedTuple):
    """What turns pictures and sound into what is stored."""

    vae: Autoencoder
    audio_encoder: AudioEncoder

    def latents(
        self, pictures: UInt8[Tensor, "f h w 3"], options: PreprocessOptions
    ) -> dict[str, Float[Tensor, "f c h w"]]:
        """Of one batch of crops the mean of the posterior, and what else the options ask for."""
        images = from_pixels(pictures.to(self.vae.device).permute(0, 3, 1, 2))
        mean, log_variance = encode_posterior(self.vae, images)
        tensors = {"latents": mean}
        if options.log_variance:
            tensors["log_variance"] = log_variance
        if options.mirrored:
            tensors["latents_mirrored"], _ = encode_posterior(self.vae, images.flip(-1))
        return {name: tensor.half().cpu() for name, tensor in tensors.items()}

    def features(self, video: Path, *, rate_hz: int) -> Iterator[Float[Tensor, "k d"]]:
        """Features of the whole sound of a video, on the clock of its pictures, row by row.

        It is read when the first of the 25 or 50 rows a second is asked for.
        """
        samples = read_audio(video, zero="pictures").to(self.audio_encoder.network.device)
        for part in self.audio_encoder.stream(samples, pooled=rate_hz == int(FPS)):
            yield from part.half().cpu()


@dataclass(frozen=True, eq=False)
class Preparer:
    """Makes shots of videos.

    Args:
        root: The store.
        options: How.
        config: All that shapes a shot; see `config_of`.
        load: Loads the networks, where they are first needed.
        score_sync: Scores lip sync; None: as the options say.
    """

    root: Path
    options: PreprocessOptions
    config: dict[str, Any]
    load: Callable[[], Networks]
    score_sync: ScoreSync | None = None

    @cached_property
    def networks(self) -> Networks:
        """The networks, on their device."""
        return self.load()

    def load_all(self) -> None:
        """Loads networks, models of landmarks and identities; what is wrong is a LoopyError."""
        _ = self.networks, self._estimator, self._scorer, self._identity_of

    def __call__(self, source: Source) -> Ledger:
        """Prepares a video, but for the shots that are done already.

        What is wrong with the video is written into its ledger, and the run goes on.

        Raises:
            OutputError: The store cannot be written.
            LoopyError: Options or models that fit no video.
        """
        stamp = self._stamp(source)
        before = current_ledger(self.root, source, stamp)
        if before is not None and not before.error and all(map(self._done, before.shots)):
            return before
        try:
            with local_copy(source, tracks=self._precomputed) as video:
                return self._prepare(source, video, before or Ledger(str(source), stamp))
        except OF_THE_RUN:
            raise
        except ValueError as error:  # all of ours are, and what no store takes
            now = self._stamp(source)
            known = current_ledger(self.root, source, now) or Ledger(str(source), now)
            # what was made of it before stays, also while it is out of reach
            failed = replace(known, error=f"{source}: {error}", finished=True)
            write_ledger(self.root, failed)
            return failed
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{Path(place.filename).name}:{place.lineno}"
            return self.record_failure(source, f"{type(error).__name__} in {where}: {error}")

    def record_failure(self, source: Source, reason: str) -> Ledger:
        """Writes that a video is not finished, for a reason that the next run may not meet."""
        stamp = self._stamp(source)
        before = current_ledger(self.root, source, stamp) or Ledger(str(source), stamp)
        write_ledger(self.root, ledger := before.unfinished(reason))
        return ledger

    def encode(self, video: Path, shot: PlannedShot, watch: Stopwatch) -> dict[str, Tensor]:
        """Latents of a shot, one batch of pictures in memory at a time; or a MediaError."""
        size_px, parts = self.options.size_px, defaultdict[str, list[Tensor]](list)
        pictures = read_parts(video, shot.span, frames=1)  # each is cut before the next comes
        crops = (crop_frames(picture, shot.box, size_px=size_px) for picture in pictures)
        frames = 0
        while True:
            with watch("pictures"):
                batch = list(islice(crops, BATCH))
            if not batch:
                break
            frames += len(batch)
            with watch("latents"):
                for name, part in self.networks.latents(torch.cat(batch), self.options).items():
                    parts[name].append(part)
        if frames < len(shot.span):
            raise MediaError(f"its pictures end at frame {shot.span.start + frames}")
        return {name: torch.cat(each) for name, each in parts.items()}

    def _prepare(self, source: Source, video: Path, before: Ledger) -> Ledger:
        """Makes the shots of a video that are missing."""
        watch = Stopwatch(dict(before.spent_s))
        who, found_by = self._identity_of(source), self._estimator
        finder = ShotFinder(
            video, source, self.options, self.config, who, found_by, self._scorer, watch
        )
        features = self.networks.features(video, rate_hz=self.options.audio_rate_hz)
        rows, place = features if finder.has_sound else iter(()), 0  # next frame of the rows
        done = {outcome.shot: outcome for outcome in before.shots if self._done(outcome)}
        outcomes, seconds = list[ShotOutcome](), float(finder.about.seconds)
        ledger = replace(before, seconds=seconds, error="", finished=True)
        for span in finder.spans:
            outcome = done.get(finder.id(span))
            if outcome is None:
                outcome, shot = finder.track(span)
                if shot is not None and not self._done(outcome):
                    tensors = self.encode(video, shot, watch)
                    with watch("audio"):
                        skipped, place = shot.span.start - place, shot.span.stop
                        tensors["audio"] = self._audio(rows, skipped, len(shot.span))
                    with watch("store"):
                        write_shot(self.root, self._record(shot, tensors))
                if outcome.measured:  # it took some work
                    so_far = replace(ledger, shots=(*outcomes, outcome), spent_s=watch.seconds)
                    write_ledger(self.root, so_far.unfinished("it was interrupted"))
            outcomes.append(outcome)
        spent_s = {stage: round(seconds, 3) for stage, seconds in watch.seconds.items()}
        ledger = replace(ledger, shots=tuple(outcomes), spent_s=spent_s)
        write_ledger(self.root, ledger)
        return ledger

    def _audio(self, rows: Iterator[Tensor], skipped: int, frames: int) -> Tensor:
        """Features of the next frames but for some; zeros where there is no more sound."""
        each = self.options.audio_rate_hz // int(FPS)
        found = list(islice(rows, skipped * each, (skipped + frames) * each))
        silent = torch.zeros(*load_description(self.root).audio_shape, dtype=torch.float16)
        return torch.stack(found + [silent] * (frames * each - len(found)))

    def _record(self, shot: PlannedShot, tensors: dict[str, Tensor]) -> ShotRecord:
        size_px = self.options.size_px
        points = fill_gaps(shot.track.points, longest=self.options.longest_gap)
        valid = ~points.isnan().any(-1)
        crop = crop_points(points, shot.box, size_px=size_px).nan_to_num()
        motion = MotionSequence(crop, shot.track.pose.nan_to_num(), valid, size_px)
        return ShotRecord(shot.id, motion=motion, provenance=shot.provenance, **tensors)

    def _done(self, outcome: ShotOutcome) -> bool:
        return outcome.status == "rejected" or (self.root / shot_path(outcome.shot)).is_file()

    def _stamp(self, source: Source) -> str:
        try:
            identity = self._identity_of(source) or ""
        except MediaError:  # preparing it will fail with the reason
            identity = ""
        key = sha256(json.dumps(self.config, sort_keys=True).encode()).hexdigest()[:16]
        files = [source, tracks_of(source)] if self._precomputed else [source]
        return stamp_of(files, f"{key} {identity.encode(errors='surrogatepass').hex()}")

    @property
    def _precomputed(self) -> bool:
        """Whether tracks are next to the videos."""
        return self.options.estimator == "precomputed"

    @cached_property
    def _estimator(self) -> LandmarkEstimator | None:
        if self._precomputed:
            return None
        return estimator(self.options.estimator, **self.options.estimator_options)

    @cached_property
    def _scorer(self) -> ScoreSync | None:
        if self.score_sync is not None or self.options.sync == "none":
            return self.score_sync
        return ToonSyncScorer() if self.options.sync == "toon" else PeopleSyncScorer()

    @cached_property
    def _identity_of(self) -> IdentityOf:
        return identity_rule(self.options.identity)


MakePreparer = Callable[[], Preparer]
"""Builds a preparer with its models; it pickles, the models need not."""


def config_of(options: PreprocessOptions, models: dict[str, str]) -> dict[str, Any]:
    """All that shapes a shot (`models`: name -> fingerprint), taken once for a run.

    Other machines may not see all files.
    """
    return {"options": options.as_json(), "models": models}
