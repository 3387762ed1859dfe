"""The shots of one video, tracked and filtered: what needs no network of the store."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from hashlib import sha256
from itertools import pairwise
from math import ceil
from pathlib import Path
from typing import Any

from loopy.data.media.container import open_media
from loopy.data.media.sound import LONGEST_S
from loopy.data.media.sound_blocks import sound_blocks
from loopy.data.store.shots import Provenance, shot_id
from loopy.preprocess.crop import Box, square_box
from loopy.preprocess.filters import Rejection, check_shot, filter_shot
from loopy.preprocess.landmarks.precomputed import tracks_path
from loopy.preprocess.landmarks.types import LandmarkEstimator
from loopy.preprocess.ledger import ShotOutcome
from loopy.preprocess.measurements import Measurements, Sync, measure
from loopy.preprocess.options import PreprocessOptions
from loopy.preprocess.remote_videos import Source
from loopy.preprocess.scenes import find_shots
from loopy.preprocess.sources import probe
from loopy.preprocess.track import FaceTrack, find_track
from loopy.stopwatch import Stopwatch
from loopy.timing import FPS, SAMPLE_RATE_HZ, frame_count

ScoreSync = Callable[[Path, range, Box], Sync]
"""Scores the lip sync of frames of a video, in the square that holds the face."""


@dataclass(frozen=True, eq=False)
class PlannedShot:
    """A shot that passes all filters and is to be encoded.

    Args:
        id: Its name in the store.
        span: Its frames in the video.
        box: Square of the upright pictures that is cut out.
        track: Of its face.
        provenance: Where it comes from.
    """

    id: str
    span: range
    box: Box
    track: FaceTrack
    provenance: Provenance


class ShotFinder:
    """Finds the shots of a video when it is built, and tracks and filters them one by one.

    Args:
        video: The file.
        source: Where it is from.
        options: How.
        config: All that shapes a shot.
        identity: Who is seen; None: a person of whom there is no other video.
        estimator: Finds landmarks; None takes the tracks next to the video.
        score_sync: Scores lip sync; None leaves it out.
        watch: Counts the time.

    Attributes:
        spans: Frames of each shot, in order.
        about: What the file is.
        has_sound: Whether there is any.

    Raises:
        MediaError: No video, or a damaged one.
    """

    def __init__(
        self,
        video: Path,
        source: Source,
        options: PreprocessOptions,
        config: dict[str, Any],
        *,
        identity: str | None,
        estimator: LandmarkEstimator | None,
        score_sync: ScoreSync | None,
        watch: Stopwatch,
    ) -> None:
        self._video, self._source, self._options = video, source, options
        self._config, self._identity, self._watch = config, identity, watch
        self._estimator, self._score_sync = estimator, score_sync
        with watch("probe"):
            self.about = probe(video)
            self._sound_frames = _sound_frames(video) if self.about.has_sound else 0
        self.has_sound = self._sound_frames > 0
        more = {"identity": identity} if identity else {}
        if estimator is None and tracks_path(video).is_file():
            more["tracks"] = sha256(tracks_path(video).read_bytes()).hexdigest()
        self._id_config = config | more
        with watch("shots"):
            found = [shot.frames() for shot in find_shots(video, options.scenes)]
        spans = [part for span in found for part in split(span, options.longest_frames) if part]
        if options.filters.need_sound:
            spans = [_as_far(span, self._sound_frames) for span in spans]
        self.spans = spans

    def id(self, span: range) -> str:
        """Name of a shot."""
        return shot_id(self.about.sha256, *_seconds(span), self._id_config)

    def track(self, span: range) -> tuple[ShotOutcome, PlannedShot | None]:
        """Tracks a shot and filters it.

        Returns:
            What becomes of it, and what is to be encoded; None where it is rejected.

        Raises:
            MediaError: Pictures or tracks cannot be read.
        """
        filters, has_sound = self._options.filters, self._sound_frames >= span.stop
        outcome = ShotOutcome(self.id(span), *_seconds(span), len(span), "kept")
        reason = check_shot(_unseen(len(span), has_sound), filters)
        if reason is not None:  # no need to look for a face
            return outcome.rejected(reason), None
        with self._watch("track"):
            track = find_track(self._video, span, self._estimator)
        with self._watch("filter"):
            size = {"width_px": self.about.width_px, "height_px": self.about.height_px}
            box = square_box(track.points, **size, options=self._options.crop)
            pose = track.pose if self._estimator is None else None
            measured = measure(
                track.points, track.people, box, **size, has_sound=has_sound, pose=pose
            )
            score = None
            if self._score_sync is not None and box is not None:
                score = partial(self._score_sync, self._video, span, box)
            measured, reason = filter_shot(measured, filters, score_sync=score)
        outcome = replace(outcome, frames=len(track), measured=asdict(measured))
        if reason is not None or box is None:
            return outcome.rejected(reason or Rejection("face lost", "in all frames")), None
        provenance = Provenance(
            str(self._source),
            self.about.sha256,
            *_seconds(span),
            box,
            float(self.about.fps),
            self._identity or self.about.sha256,
            self._config,
        )
        span = range(span.start, span.start + len(track))
        return outcome, PlannedShot(outcome.shot, span, box, track, provenance)


def split(span: range, longest: int) -> list[range]:
    """Parts of a span, of one length but for a frame, none over the longest."""
    count = max(1, ceil(len(span) / longest))
    places = [span.start + len(span) * part // count for part in range(count + 1)]
    return [range(*pair) for pair in pairwise(places)]


def _as_far(span: range, sound_frames: int) -> range:
    """A span as far as sound goes; the whole of one that has none at all."""
    return range(span.start, min(span.stop, sound_frames)) if sound_frames > span.start else span


def _seconds(span: range) -> tuple[float, float]:
    return float(span.start / FPS), float(span.stop / FPS)


def _sound_frames(video: Path) -> int:
    """Length of the sound, in flat memory."""
    with open_media(video, "video") as container:
        blocks = sound_blocks(
            container, rate_hz=SAMPLE_RATE_HZ, zero="pictures", longest_s=LONGEST_S
        )
        return frame_count(sum(block.samples.shape[1] for block in blocks))


def _unseen(frames: int, has_sound: bool) -> Measurements:
    """A shot before its face is tracked: it can only fail for its length or its sound."""
    return Measurements(frames, 0.0, 0.0, 0.0, 2**20, 0.0, 0.0, 0.0, 0.0, has_sound)
