"""What a processor can do without the networks of the store: find the clips of a video.

probe -> shots -> track -> filter
"""

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
from loopy.data.store.shots import shot_id
from loopy.preprocess.crop import Box, square_box
from loopy.preprocess.filters import judge, rejection
from loopy.preprocess.ledger import Ledger, Outcome
from loopy.preprocess.measurements import Measurements, Sync, measure
from loopy.preprocess.options import PreprocessOptions
from loopy.preprocess.plan import Plan, Take
from loopy.preprocess.poses import PoseEstimator
from loopy.preprocess.precomputed import tracks_path
from loopy.preprocess.scenes import find_shots
from loopy.preprocess.sources import Probe, probe
from loopy.preprocess.tracks import kept_track
from loopy.preprocess.work import work_path
from loopy.stopwatch import Stopwatch
from loopy.timing import FPS, SAMPLE_RATE_HZ, frame_count

ScoreSync = Callable[[Path, range, Box], Sync]
"""Judges the lip sync of frames of a video, in the square that holds the face."""


@dataclass(frozen=True, eq=False)
class Looker:
    """Finds the clips of videos.

    Args:
        root: The store; tracks that are found are kept in its ``work``.
        options: How.
        config: All that shapes a clip.
        find: The landmark estimator; None where tracks lie beside the videos.
        score_sync: Judges lip sync; None: it is not looked at.
    """

    root: Path
    options: PreprocessOptions
    config: dict[str, Any]
    find: PoseEstimator | None
    score_sync: ScoreSync | None

    def __call__(self, video: Path, ledger: Ledger, *, identity: str | None = None) -> Plan:
        """Looks at a video.

        Args:
            video: The file.
            ledger: Names it, and its stamp.
            identity: Who is seen; None: somebody of whom there is no other video.

        Raises:
            MediaError: No video, or a damaged one.
        """
        watch = Stopwatch()
        with watch("probe"):
            about = probe(video)
            heard = _heard(video) if about.has_sound else 0
        with watch("shots"):
            shots = find_shots(video, self.options.scenes)
        spans = [part for shot in shots for part in split(shot.frames(), self._longest) if part]
        config = (
            self.config | _known(video, self.find) | ({"identity": identity} if identity else {})
        )
        job = _Job(self, video, about, heard, watch, config)
        if self.options.filters.need_sound:
            spans = [_as_far(span, heard) for span in spans]
        judged = [job.judge(span) for span in spans]
        spent = {stage: round(seconds, 3) for stage, seconds in watch.seconds.items()}
        outcomes = tuple(outcome for outcome, _ in judged)
        seconds = float(about.seconds)
        return Plan(
            replace(ledger, seconds=seconds, error="", clips=outcomes, spent_s=spent),
            about.sha256,
            float(about.fps),
            heard > 0,
            identity or about.sha256,
            tuple(take for _, take in judged if take is not None),
        )

    @property
    def _longest(self) -> int:
        return self.options.longest_frames


def split(span: range, longest: int) -> list[range]:
    """Parts of a span, of one length but for a frame, none over the longest."""
    count = max(1, ceil(len(span) / longest))
    places = [span.start + len(span) * part // count for part in range(count + 1)]
    return [range(*pair) for pair in pairwise(places)]


def _as_far(span: range, heard: int) -> range:
    """A span as far as sound goes; the whole of one that has none at all."""
    return range(span.start, min(span.stop, heard)) if heard > span.start else span


class _Job:
    """A video on its way; what all of its shots share."""

    def __init__(
        self,
        maker: Looker,
        video: Path,
        about: Probe,
        heard: int,
        watch: Stopwatch,
        config: dict[str, Any],
    ) -> None:
        self.maker, self.video, self.about, self.heard = maker, video, about, heard
        self.watch, self.config = watch, config

    def judge(self, span: range) -> tuple[Outcome, Take | None]:
        """A shot, and the clip that shall come of it."""
        options, has_sound = self.maker.options, self.heard >= span.stop
        start_s, stop_s = float(span.start / FPS), float(span.stop / FPS)
        name = shot_id(self.about.sha256, start_s, stop_s, self.config)
        outcome = Outcome(name, start_s, stop_s, len(span), "kept")
        reason = rejection(_unseen(len(span), has_sound), options.filters)
        if reason is not None:  # no need to look for a face
            return _rejected(outcome, reason.name, reason.words), None
        with self.watch("track"):
            path = work_path(self.maker.root, name, "track")
            track = kept_track(path, self.video, span, self.maker.find)
        with self.watch("filter"):
            size = {"width_px": self.about.width_px, "height_px": self.about.height_px}
            box = square_box(track.points, **size, options=options.crop)
            measured = measure(
                track.points,
                track.people,
                box,
                **size,
                has_sound=has_sound,
                pose=track.pose if self.maker.find is None else None,
            )
            score = self.maker.score_sync
            judged = None if score is None or box is None else partial(score, self.video, span, box)
            measured, reason = judge(measured, options.filters, score_sync=judged)
        outcome = replace(outcome, frames=len(track), measured=asdict(measured))
        if reason is not None or box is None:
            return _rejected(outcome, *(reason or ("face lost", "in all frames"))), None
        return outcome, Take(name, span.start, len(track), box)


def _heard(video: Path) -> int:
    """Frames of sound, in flat memory."""
    with open_media(video, "video") as container:
        blocks = sound_blocks(
            container, rate_hz=SAMPLE_RATE_HZ, zero="pictures", longest_s=LONGEST_S
        )
        return frame_count(sum(block.samples.shape[1] for block in blocks))


def _known(video: Path, find: PoseEstimator | None) -> dict[str, Any]:
    """Tracks that lie beside a video shape its clips too."""
    path = tracks_path(video)
    if find is not None or not path.is_file():
        return {}
    return {"tracks": sha256(path.read_bytes()).hexdigest()}


def _rejected(outcome: Outcome, reason: str, words: str) -> Outcome:
    return replace(outcome, status="rejected", reason=reason, words=words)


def _unseen(frames: int, has_sound: bool) -> Measurements:
    """A shot before anybody has looked at it, with nothing against it but length and sound."""
    return Measurements(frames, 0.0, 0.0, 0.0, 2**20, 0.0, 0.0, 0.0, 0.0, has_sound)
