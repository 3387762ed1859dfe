"""The shots of one video, tracked and filtered: what needs no network of the store."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from hashlib import sha256
from itertools import chain, pairwise
from math import ceil
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from loopy.data.media.container import open_media
from loopy.data.media.sound import LONGEST_S
from loopy.data.media.sound_blocks import sound_blocks
from loopy.data.media.video_reader import in_parts, iterate_frames
from loopy.data.store.shots import Provenance, shot_id
from loopy.errors import MediaError
from loopy.faces.framing import Box, square_box
from loopy.preprocess.filters import Rejection, check_shot, filter_shot
from loopy.preprocess.landmarks.precomputed import Precomputed, tracks_path
from loopy.preprocess.landmarks.types import FollowingEstimator, LandmarkEstimator
from loopy.preprocess.ledger import ShotOutcome
from loopy.preprocess.measurements import Measurements, Sync, estimate_angles, measure
from loopy.preprocess.options import PreprocessOptions
from loopy.preprocess.remote_videos import Source
from loopy.preprocess.scenes import find_shots
from loopy.preprocess.sources import probe
from loopy.stopwatch import Stopwatch
from loopy.timing import FPS, SAMPLE_RATE_HZ, frame_count

AT_ONCE = 30
"""Most frames in memory at a time; a multiple of how often DWPose searches for people."""
AT_ONCE_BYTES = 2**28
"""Most bytes of frames in memory at a time: 30 frames of 1920 x 1080, 10 of 4K, 2 of 8K."""

ScoreSync = Callable[[Path, range, Box], Sync]
"""Scores the lip sync of frames of a video, in the square that holds the face."""


class FaceTrack(NamedTuple):
    """A face over a shot.

    Attributes:
        points: In pixels of the upright picture; NaN where a point is missing.
        people: How many were found in each frame.
        pose: Yaw, pitch, roll in radians, NaN without a face; of points alone pitch is 0.
        known: The pose is the estimator's, not one of points alone.
    """

    points: Float[Tensor, "f 68 2"]
    people: Int[Tensor, " f"]
    pose: Float[Tensor, "f 3"]
    known: bool


class PlannedShot(NamedTuple):
    """A shot that passes all filters and is to be encoded.

    Attributes:
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


@dataclass(eq=False)
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

    video: Path
    source: Source
    options: PreprocessOptions
    config: dict[str, Any]
    identity: str | None
    estimator: LandmarkEstimator | None
    score_sync: ScoreSync | None
    watch: Stopwatch

    def __post_init__(self) -> None:
        """Find the shots."""
        with self.watch("probe"):
            self.about = probe(self.video)
            self._sound_frames = _sound_frames(self.video) if self.about.has_sound else 0
        self.has_sound = self._sound_frames > 0
        more = {"identity": self.identity} if self.identity else {}
        if self.estimator is None and tracks_path(self.video).is_file():
            more["tracks"] = sha256(tracks_path(self.video).read_bytes()).hexdigest()
        self._id_config = self.config | more
        with self.watch("shots"):
            found = [shot.frames() for shot in find_shots(self.video, self.options.scenes)]
        longest = self.options.longest_frames
        self.spans = [part for span in found for part in split(span, longest) if part]
        if self.options.filters.need_sound:
            self.spans = [_as_far(span, self._sound_frames) for span in self.spans]

    def id(self, span: range) -> str:
        """Name of a shot."""
        return shot_id(self.about.sha256, *_seconds(span), self._id_config)

    def track(self, span: range) -> tuple[ShotOutcome, PlannedShot | None]:
        """Tracks a shot and filters it: what becomes of it, and what is to be encoded, if it is.

        Pictures or tracks that cannot be read are a MediaError.
        """
        filters, has_sound = self.options.filters, self._sound_frames >= span.stop
        outcome = ShotOutcome(self.id(span), *_seconds(span), len(span), "kept")
        reason = check_shot(_unseen(len(span), has_sound), filters)
        if reason is not None:  # no need to look for a face
            return outcome.rejected(reason), None
        with self.watch("track"):
            track = find_track(self.video, span, self.estimator)
        with self.watch("filter"):
            size = {"width_px": self.about.width_px, "height_px": self.about.height_px}
            box = square_box(track.points, **size, options=self.options.crop)
            pose = track.pose if track.known else None
            measured = measure(
                track.points, track.people, box, **size, has_sound=has_sound, pose=pose
            )
            score = None
            if self.score_sync is not None and box is not None:
                score = partial(self.score_sync, self.video, span, box)
            measured, reason = filter_shot(measured, filters, score_sync=score)
        outcome = replace(outcome, frames=len(track.points), measured=asdict(measured))
        if reason is not None or box is None:
            return outcome.rejected(reason or Rejection("face lost", "in all frames")), None
        provenance = Provenance(
            str(self.source),
            self.about.sha256,
            *_seconds(span),
            box,
            float(self.about.fps),
            self.identity or self.about.sha256,
            self.config,
        )
        return outcome, PlannedShot(outcome.shot, span[: len(track.points)], box, track, provenance)


def read_parts(
    video: Path, span: range, *, frames: int = AT_ONCE
) -> Iterator[UInt8[Tensor, "_n h w 3"]]:
    """Frames of a span on the 25 fps grid, at most so many at a time, each in memory once.

    Fewer where they are large (`AT_ONCE_BYTES`), but one. An unreadable video is a MediaError.
    """
    return in_parts(iterate_frames(video, span=span), most=frames, most_bytes=AT_ONCE_BYTES)


def find_track(video: Path, span: range, estimator: LandmarkEstimator | None) -> FaceTrack:
    """Finds the 68 points in each frame of a shot, a span of the 25 fps grid.

    Without an estimator it takes the precomputed tracks next to the video. What cannot be read is
    a MediaError.
    """
    estimator = estimator or Precomputed(video=video, first=span.start)
    frames = read_parts(video, span)
    first = next(frames, None)
    if first is None:
        raise MediaError(f"{video} has no frames {span.start} to {span.stop}; give an intact file")
    frames = chain([first], frames)
    if isinstance(estimator, FollowingEstimator):
        parts = [estimator.follow(frames)]
    else:
        parts = [*map(estimator, frames)]
    points = torch.cat([part.points for part in parts])
    people = torch.cat([part.people for part in parts])
    poses = [part.pose for part in parts if part.pose is not None]
    if poses:
        pose = torch.cat(poses)
    else:
        yaw, roll = estimate_angles(points).unbind(1)
        pose = torch.stack([yaw, torch.zeros_like(yaw), roll], 1)
    return FaceTrack(points, people, pose, known=bool(poses) or isinstance(estimator, Precomputed))


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
