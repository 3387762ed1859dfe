"""One video to clips of the store: the same steps, whatever engine calls them.

probe -> shots -> track -> filter -> pictures -> latents -> audio -> store

Whatever is finished lies in a file of its own, in ``work/`` until the video is: what was found in
it, the track of each shot, its latents by 64 frames, its sound. So a run that was killed is
started again and goes on, and the steps of a video may be done by processes that know nothing of
each other.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from loopy.data.media.sound import read_audio
from loopy.data.store.description import load_description
from loopy.data.store.shot_store import write_shot
from loopy.data.store.shots import shot_path
from loopy.errors import ConfigurationError, DependencyError, MediaError, ModelError, OutputError
from loopy.preprocess.assemble import assemble
from loopy.preprocess.crop import crop_frames
from loopy.preprocess.estimators import estimator
from loopy.preprocess.identity import IdentityOf, identity_rule
from loopy.preprocess.ledger import Ledger, finished, ledger_path, stamp_of, write_ledger
from loopy.preprocess.look import Looker, ScoreSync
from loopy.preprocess.networks import Networks
from loopy.preprocess.options import PreprocessOptions
from loopy.preprocess.plan import Plan, Take, plan_path, read_plan, write_plan
from loopy.preprocess.remote_videos import Source, local_copy, source_of, tracks_of
from loopy.preprocess.sync_scorer import ToonSyncScorer
from loopy.preprocess.tracks import chunks
from loopy.preprocess.work import forget, keep, kept, work_path
from loopy.stopwatch import Stopwatch

PIECE = 64
"""Most pictures in a piece of work: at 512 px they weigh 50 MB."""
OF_THE_RUN = OutputError, ModelError, ConfigurationError, DependencyError
"""What no other video would escape either."""


@dataclass(frozen=True)
class Piece:
    """What a network must look at; it holds all that it takes to do so, and can travel.

    Args:
        kind: ``pictures``, or the ``sound`` of a whole video.
        source: The video.
        clip: Id of the clip that the pictures are of; empty for sound.
        first: Frame of the clip that the pictures begin with.
        content: Pictures (f h w c), cropped; or samples at 16 kHz.
        spent_s: Seconds it took to make them.
    """

    kind: Literal["pictures", "sound"]
    source: str
    clip: str
    first: int
    content: np.ndarray
    spent_s: float


@dataclass(frozen=True, eq=False)
class Preparer:
    """Makes clips of videos, in steps: `pieces`, `encode` each, `finish`.

    Args:
        root: The store.
        options: How.
        config: All that shapes a clip; see `config_of`.
        load: Loads the networks, where they are first needed.
        score_sync: Judges lip sync; None: whom the options name, nobody by default.
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

    @cached_property
    def look(self) -> Looker:
        """Finds clips; with the models of landmarks, but for tracks that are known."""
        name, more = self.options.estimator, self.options.estimator_options
        find = None if self._known else estimator(name, **more)
        score = self.score_sync
        if score is None and self.options.sync == "toon":
            score = ToonSyncScorer()
        return Looker(self.root, self.options, self.config, find, score)

    def load_all(self) -> None:
        """Loads the networks, the models of landmarks, and the table of identities.

        Raises:
            LoopyError: One of them is missing, damaged, or not what it should be.
        """
        _ = self.networks, self.look, self._who

    @property
    def _known(self) -> bool:
        """Whether tracks lie beside the videos."""
        return self.options.estimator == "precomputed"

    def __call__(self, source: Source) -> Ledger:
        """Prepares a video, unless it is done already.

        What is wrong with the video is written into its ledger, and the run goes on.

        Raises:
            OutputError: The store cannot be written.
            LoopyError: Options or models that fit no video.
        """
        for _ in range(3):
            try:
                for piece in self.pieces(source):
                    self.encode(piece)
                ledger = self.finish(source)
            except OF_THE_RUN:
                raise
            except ValueError as error:  # numbers that no store takes
                return self.give_up(source, error)
            if ledger is not None:
                return ledger
        raise OutputError(
            f"files of {source} vanish from {self.root}/work; does another job clean?"
        )

    def pieces(self, source: Source) -> Iterator[Piece]:
        """Looks at a video, and yields what the networks still must.

        Raises:
            OutputError: The store cannot be written.
            LoopyError: Options or models that fit no video.
        """
        stamp = self._stamp(source)
        if self._done(source, stamp):
            return
        try:
            with local_copy(source, tracks=self._known) as video:
                plan = self._plan(source, stamp)
                if plan is None:
                    ledger_path(self.root, source).unlink(missing_ok=True)
                    ledger = Ledger(str(source), stamp)
                    plan = self.look(video, ledger, identity=self._who(source))
                    write_plan(self.root, plan)
                takes = [take for take in plan.takes if not self._stored(take.clip)]
                if plan.has_sound and self._unheard(takes):
                    yield _sound(source, video)
                for take in takes:
                    yield from self._pictures(source, video, take)
        except OF_THE_RUN:
            raise
        except ValueError as error:  # all of ours are
            self.give_up(source, error)

    def give_up(self, source: Source, error: Exception) -> Ledger:
        """Writes why a video gives no clips.

        Raises:
            OutputError: The store cannot be written.
        """
        ledger = Ledger(str(source), self._stamp(source), error=f"{source}: {error}")
        write_ledger(self.root, ledger)
        return ledger

    def encode(self, piece: Piece) -> None:
        """Keeps what the networks make of a piece.

        Raises:
            OutputError: The store cannot be written.
        """
        if piece.kind == "sound":
            self._hear(piece)
            return
        watch = Stopwatch({"pictures": piece.spent_s})
        with watch("latents"):
            tensors = self.networks.latents(torch.from_numpy(piece.content), self.options)
        keep(self._path(piece.clip, _pictures(piece.first)), tensors, spent_s=watch.seconds)

    def finish(self, source: Source) -> Ledger | None:
        """Writes what is ready: clips, and the ledger behind the last of them.

        Returns:
            The ledger; None as long as parts are missing.

        Raises:
            OutputError: The store cannot be written.
        """
        stamp = self._stamp(source)
        if (done := finished(self.root, source, stamp)) is not None:
            self._forget(source, done)  # a process that was killed may have left it
            return done
        plan = read_plan(self.root, source, stamp)
        if plan is None:
            return None
        stored = [self._store(plan, take) for take in plan.takes]
        if not all(stored):
            return None
        spent: Counter[str] = Counter()
        spent.update(plan.ledger.spent_s)
        for take in plan.takes:
            _, more = kept(self._path(take.clip, "done")) or ({}, {})
            spent.update(more)
        rounded = {stage: round(seconds, 3) for stage, seconds in spent.items()}
        ledger = replace(plan.ledger, spent_s=rounded)
        write_ledger(self.root, ledger)
        self._forget(source, ledger)
        return ledger

    def _forget(self, source: Source, ledger: Ledger) -> None:
        """Deletes the plan of a finished video, and parts of its clips; the plan goes last."""
        plan = plan_path(self.root, source)
        if plan.is_file():
            forget(self.root, {clip.clip for clip in ledger.clips})
            plan.unlink(missing_ok=True)

    def _stamp(self, source: Source) -> str:
        try:
            who = self._who(source)
        except MediaError:  # who looks at the video will say so
            who = None
        files = [source, tracks_of(source)] if self._known else [source]
        return stamp_of(
            files, f"{self._key} {'' if who is None else who.encode(errors='surrogatepass').hex()}"
        )

    @cached_property
    def _key(self) -> str:
        return sha256(json.dumps(self.config, sort_keys=True).encode()).hexdigest()[:16]

    def _done(self, source: Source, stamp: str) -> bool:
        """Whether nothing is left to do; an error may have passed."""
        done = finished(self.root, source, stamp)
        if done is None or done.error:
            return False
        return all(clip.status == "rejected" or self._stored(clip.clip) for clip in done.clips)

    def _plan(self, source: Source, stamp: str) -> Plan | None:
        """The plan, as long as the tracks that it stands on are whole."""
        plan = read_plan(self.root, source, stamp)
        left = [] if plan is None else [t for t in plan.takes if not self._stored(t.clip)]
        tracks = all(kept(self._path(take.clip, "track")) is not None for take in left)
        return plan if tracks else None

    def _stored(self, clip: str) -> bool:
        return (self.root / shot_path(clip)).is_file()

    def _path(self, clip: str, part: str) -> Path:
        return work_path(self.root, clip, part)

    def _unheard(self, takes: Iterable[Take]) -> list[Take]:
        return [take for take in takes if not self._path(take.clip, "audio").is_file()]

    def _pictures(self, source: Source, video: Path, take: Take) -> Iterator[Piece]:
        """Pictures of a clip that are not encoded yet."""
        left = [
            first
            for first in range(0, take.frames, PIECE)
            if not self._path(take.clip, _pictures(first)).is_file()
        ]
        if not left:
            return
        shown = chunks(video, take.span[left[0] :], frames=1)  # each is cut before the next comes
        for first in range(left[0], left[-1] + 1, PIECE):
            watch = Stopwatch()
            with watch("pictures"):
                size_px, count = self.options.size_px, min(PIECE, take.frames - first)
                cut = (crop_frames(frame, take.box, size_px=size_px) for frame in shown)
                squares = torch.cat([*islice(cut, count)] or [torch.empty(0)])
            if len(squares) < count:
                raise MediaError(f"its pictures end at frame {take.first + first + len(squares)}")
            if first in left:
                content, spent_s = squares.numpy(), watch.seconds["pictures"]
                yield Piece("pictures", str(source), take.clip, first, content, spent_s)

    def _hear(self, piece: Piece) -> None:
        """Keeps the rows of sound of each clip of a video."""
        source = source_of(piece.source)
        plan = read_plan(self.root, source, self._stamp(source))
        takes = [] if plan is None else self._unheard(plan.takes)
        rows = self.networks.features(
            torch.from_numpy(piece.content),
            [take.span for take in takes],
            rate_hz=self.options.audio_rate_hz,
        )
        spent_s = piece.spent_s
        for take in takes:
            watch = Stopwatch({"audio": spent_s})
            with watch("audio"):
                heard = next(rows)
            keep(self._path(take.clip, "audio"), {"audio": heard}, spent_s=watch.seconds)
            spent_s = 0.0

    def _store(self, plan: Plan, take: Take) -> bool:
        """Writes a clip whose parts are all there; says whether it is in the store."""
        if self._stored(take.clip):
            return True
        names = ["track", *map(_pictures, range(0, take.frames, PIECE))]
        names += ["audio"] if plan.has_sound else []
        if not all(self._path(take.clip, name).is_file() for name in names):
            return False
        parts = {name: kept(self._path(take.clip, name)) for name in names}
        whole = {name: part for name, part in parts.items() if part is not None}
        if len(whole) < len(parts):
            return False
        watch = Stopwatch(dict(sum((Counter(spent) for _, spent in whole.values()), Counter())))
        with watch("store"):
            shape = load_description(self.root).audio_shape
            tensors = {name: tensors for name, (tensors, _) in whole.items()}
            write_shot(self.root, assemble(plan, take, tensors, self.options, self.config, shape))
        keep(self._path(take.clip, "done"), {}, spent_s=watch.seconds)
        for name in names:
            self._path(take.clip, name).unlink(missing_ok=True)
        return True

    @cached_property
    def _who(self) -> IdentityOf:
        return identity_rule(self.options.identity)


def config_of(options: PreprocessOptions, models: dict[str, str]) -> dict[str, Any]:
    """All that shapes a clip, taken once for a run: other machines may not see all files.

    Args:
        options: How.
        models: Name -> fingerprint of the networks.
    """
    return {"options": options.as_json(), "models": models}


def _pictures(first: int) -> str:
    """Name of the part that begins with a frame."""
    return f"pictures-{first:06d}"


def _sound(source: Source, video: Path) -> Piece:
    watch = Stopwatch()
    with watch("audio"):
        samples = read_audio(video, zero="pictures").numpy()
    return Piece("sound", str(source), "", 0, samples, watch.seconds["audio"])
