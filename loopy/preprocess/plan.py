"""What shall become of a video: its shots, judged; a file in ``work/`` until all is finished."""

import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from loopy.data.media.container import AnyPath
from loopy.data.store.shots import checked_id
from loopy.data.store.storage import read_file
from loopy.drafts import draft
from loopy.errors import OutputError
from loopy.preprocess.crop import Box
from loopy.preprocess.ledger import Ledger, ledger_path
from loopy.typed_values import plain_values, record_of


@dataclass(frozen=True)
class Take:
    """A clip to be made.

    Args:
        clip: Its id.
        first: Where it begins in the video, on the 25 fps grid.
        frames: Its length.
        box: Square of the upright pictures that is cut out.

    Raises:
        StoreError: The id is none.
    """

    clip: str
    first: int
    frames: int
    box: Box

    def __post_init__(self) -> None:
        """Refuse what would name a file elsewhere."""
        checked_id(self.clip)

    @property
    def span(self) -> range:
        """Its frames in the video."""
        return range(self.first, self.first + self.frames)


@dataclass(frozen=True)
class Plan:
    """What shall become of a video.

    Args:
        ledger: What will be written when all is done, but for the seconds still to be spent.
        sha256: Of the video.
        fps: Pictures a second, in the mean.
        has_sound: Whether any is heard.
        identity: Who is seen.
        takes: The clips, in the order of the video; rejected shots are in the ledger alone.
    """

    ledger: Ledger
    sha256: str
    fps: float
    has_sound: bool
    identity: str
    takes: tuple[Take, ...]


def plan_path(root: AnyPath, source: AnyPath) -> Path:
    """Where the plan of a video is."""
    return Path(root) / "work" / ledger_path(root, source).name


def write_plan(root: AnyPath, plan: Plan) -> None:
    """Writes it whole or not at all.

    Raises:
        OutputError: It cannot be written.
    """
    path = plan_path(root, plan.ledger.source)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with draft(path) as hidden:
            hidden.write_text(json.dumps(asdict(plan), indent=1) + "\n")
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}; make room") from error


def clips_on_their_way(root: AnyPath) -> set[str]:
    """Ids of all clips that a plan names, rejected ones too."""
    found = set[str]()
    for path in (Path(root) / "work").glob("[!.]*.json"):
        with suppress(OSError, ValueError, TypeError, KeyError):  # finished by now, or damaged
            ledger = record_of(Ledger, plain_values(read_file(path))["ledger"])
            found |= {clip.clip for clip in ledger.clips}
    return found


def read_plan(root: AnyPath, source: AnyPath, stamp: str) -> Plan | None:
    """The plan of a video as it is now.

    Args:
        root: The store.
        source: The video.
        stamp: See `Ledger`.

    Returns:
        None if there is none, one of another stamp, or a damaged one: it is made anew.
    """
    try:
        plan = record_of(Plan, plain_values(read_file(plan_path(root, source))))
    except (OSError, ValueError):
        return None
    return plan if plan.ledger.stamp == stamp else None
