"""What became of each video: a small JSON file in the store, written when it is finished."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from loopy.data.media.container import AnyPath
from loopy.data.store.shots import checked_id
from loopy.data.store.storage import read_file
from loopy.drafts import draft
from loopy.errors import MediaError, OutputError, StoreError
from loopy.preprocess.remote_videos import MISSING, Source, facts_of
from loopy.typed_values import plain_values, record_of

FOLDER = "videos"
OUT_OF_REACH = "out of reach"


@dataclass(frozen=True)
class Outcome:
    """What became of a shot.

    Args:
        clip: Id; of a kept clip that of its file.
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

    clip: str
    start_s: float
    stop_s: float
    frames: int
    status: Literal["kept", "rejected"]
    reason: str = ""
    words: str = ""
    measured: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what would name a file elsewhere."""
        checked_id(self.clip)


@dataclass(frozen=True)
class Ledger:
    """What became of a video.

    Args:
        source: Its path.
        stamp: Size and time of change of the file, and a hash of all options: while they stay,
            nothing is done again.
        seconds: Its length.
        error: Why nothing could be made of it; empty if something could.
        clips: Its shots.
        spent_s: Seconds of work by stage.
    """

    source: str
    stamp: str
    seconds: float = 0.0
    error: str = ""
    clips: tuple[Outcome, ...] = ()
    spent_s: Mapping[str, float] = field(default_factory=dict)


def ledger_path(root: AnyPath, source: AnyPath) -> Path:
    """Where the ledger of a video is."""
    return Path(root) / FOLDER / f"{sha256(os.fsencode(source)).hexdigest()[:32]}.json"


def stamp_of(files: Sequence[Source], key: str) -> str:
    """What changes when files, or how they are prepared, change; a missing file has one too."""
    words = [key]
    for file in files:
        try:
            words.append(facts_of(file))
        except MediaError:  # who opens it will say so
            words.append(OUT_OF_REACH)
    return "; ".join(words)


def _gone(stamp: str) -> bool:
    return stamp.split("; ")[1:2] in ([MISSING], [OUT_OF_REACH])


def write_ledger(root: AnyPath, ledger: Ledger) -> None:
    """Writes it whole or not at all.

    Raises:
        OutputError: It cannot be written.
    """
    path = ledger_path(root, ledger.source)
    try:
        path.parent.mkdir(exist_ok=True)
        with draft(path) as hidden:
            hidden.write_text(json.dumps(asdict(ledger), indent=1) + "\n")
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}; make room") from error


def finished(root: AnyPath, source: AnyPath, stamp: str) -> Ledger | None:
    """The ledger of a video as it is now.

    Returns:
        None if there is none, or one with another stamp, or one that is damaged: it is written
        anew. While the video is gone, or a network is down, what was found in it holds.
    """
    try:
        ledger = _read(ledger_path(root, source))
    except StoreError:
        return None
    same_key = ledger.stamp.split("; ")[0] == stamp.split("; ")[0]
    return ledger if ledger.stamp == stamp or (same_key and _gone(stamp)) else None


def known_seconds(root: AnyPath, source: Source) -> float:
    """Length of a video that was looked at before; 0 where it was not."""
    try:
        return _read(ledger_path(root, source)).seconds
    except StoreError:
        return 0.0


def read_ledgers(root: AnyPath) -> list[Ledger]:
    """All ledgers of a store, by source.

    Raises:
        StoreError: One is damaged.
    """
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
        return record_of(Ledger, plain_values(read_file(path)))
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} is damaged ({error}); delete it and preprocess again") from error
