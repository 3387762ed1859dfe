"""What became of each video and its shots: a small JSON file a video, in the store."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from loopy.data.store.shots import checked_id
from loopy.data.store.storage import read_file
from loopy.drafts import existing_folder, writing
from loopy.errors import MediaError, StoreError
from loopy.paths import AnyPath
from loopy.preprocess.filters import Rejection
from loopy.preprocess.remote_videos import MISSING, Source, facts_of
from loopy.typed_values import plain_values, record_of

FOLDER = "videos"
OUT_OF_REACH = "out of reach"
FORMER_NAMES = {"clips": "shots", "clip": "shot"}
"""Keys of files that were written before a stored shot was called so."""


@dataclass(frozen=True)
class ShotOutcome:
    """What became of a shot.

    Args:
        shot: Its id, which names its file in the store if it is kept.
        start_s: Where it begins in the video.
        stop_s: Where it ends.
        frames: At 25 a second.
        status: ``kept`` or ``rejected``.
        reason: Name of the check that rejected it; empty for a kept one.
        words: What was found and what was asked for.
        measured: `loopy.preprocess.measurements.Measurements`, plain.

    Raises:
        StoreError: The id is none.
    """

    shot: str
    start_s: float
    stop_s: float
    frames: int
    status: Literal["kept", "rejected"]
    reason: str = ""
    words: str = ""
    measured: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuses what would name a file elsewhere."""
        checked_id(self.shot)

    def rejected(self, reason: Rejection) -> "ShotOutcome":
        """The same shot, left out for a reason."""
        return replace(self, status="rejected", reason=reason.name, words=reason.words)


@dataclass(frozen=True)
class Ledger:
    """What became of a video.

    Args:
        source: Its path.
        stamp: Size and time of change of the file, and a hash of all options: while they stay,
            nothing is done again.
        seconds: Its length.
        error: Why it cannot be used, or is not finished; empty if all is well.
        shots: Its shots, in order; while it is not finished, those that are done.
        spent_s: Seconds of work by stage.
        finished: False after what the next run may not meet: it goes on where this one stopped.
    """

    source: str
    stamp: str
    seconds: float = 0.0
    error: str = ""
    shots: tuple[ShotOutcome, ...] = ()
    spent_s: Mapping[str, float] = field(default_factory=dict)
    finished: bool = True

    def unfinished(self, reason: str) -> "Ledger":
        """The same of a video on which the next run goes on."""
        error = f"{self.source} is not finished: {reason}; run again"
        return replace(self, finished=False, error=error)


def ledger_path(root: AnyPath, source: AnyPath) -> Path:
    """Where the ledger of a video is."""
    return Path(root) / FOLDER / f"{sha256(os.fsencode(source)).hexdigest()[:32]}.json"


def stamp_of(files: Sequence[Source], key: str) -> str:
    """What changes when files, or how they are prepared, change; a missing file has one too."""
    words = [key]
    for file in files:
        try:
            words.append(facts_of(file))
        except MediaError:  # opening it will fail with the reason
            words.append(OUT_OF_REACH)
    return "; ".join(words)


def write_ledger(root: AnyPath, ledger: Ledger) -> None:
    """Writes it whole or not at all; what cannot be written is an OutputError."""
    path = ledger_path(root, ledger.source)
    existing_folder(path.parent)
    with writing(path) as hidden:
        hidden.write_text(json.dumps(asdict(ledger), indent=1) + "\n")


def current_ledger(root: AnyPath, source: AnyPath, stamp: str) -> Ledger | None:
    """The ledger of a video as it is now; None: none, a damaged one, or one with another stamp.

    While the video is gone, or a network is down, what was found in it holds.
    """
    try:
        ledger = _read(ledger_path(root, source))
    except StoreError:
        return None
    key, video, *_ = stamp.split("; ")
    still = video in (MISSING, OUT_OF_REACH) and ledger.stamp.split("; ")[0] == key
    return ledger if ledger.stamp == stamp or still else None


def known_seconds(root: AnyPath, source: Source) -> float:
    """Length of a video that was probed before; 0 of another one."""
    try:
        return _read(ledger_path(root, source)).seconds
    except StoreError:
        return 0.0


def read_ledgers(root: AnyPath) -> list[Ledger]:
    """All ledgers of a store, by source; a damaged one is a StoreError."""
    ledgers, faults = readable_ledgers(root)
    if faults:
        raise faults[0]
    return ledgers


def readable_ledgers(root: AnyPath) -> tuple[list[Ledger], list[StoreError]]:
    """The ledgers of a store that are whole, by source, and what is wrong with the others."""
    ledgers, faults = list[Ledger](), list[StoreError]()
    for path in sorted((Path(root) / FOLDER).glob("[!.]*.json")):
        try:
            ledgers.append(_read(path))
        except StoreError as error:
            faults.append(error)
    return sorted(ledgers, key=lambda ledger: ledger.source), faults


def _read(path: Path) -> Ledger:
    try:
        return record_of(Ledger, _with_present_names(plain_values(read_file(path))))
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} is damaged ({error}); delete it and preprocess again") from error


def _with_present_names(values: Any) -> Any:
    if not isinstance(values, dict):
        return values
    found = {FORMER_NAMES.get(name, name): value for name, value in values.items()}
    if isinstance(found.get("shots"), list):
        found["shots"] = [_with_present_names(each) for each in found["shots"]]
    return found
