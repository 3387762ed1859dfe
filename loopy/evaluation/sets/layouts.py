"""The test sets of the paper: where their files lie, and which of them can be used.

::

    celebv-hq   any folders, videos in them         100 of them, whole
    ravdess     any folders, 01-01-*.mp4 in them    100 of them, whole (01: with sound; 01: speech)
    hdtf        any folders, videos in them         all of them, ten seconds of each
    open-set    portraits/ and sounds/              20 portraits x 20 sounds, 400 videos

The paper (arXiv 2409.02634, sec. 4) names sets and numbers of videos, not the videos, nor spans.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from loopy.data.media.container import length_s, open_media
from loopy.data.media.sound import read_audio
from loopy.data.media.video_pictures import moving_pictures
from loopy.data.media.video_reader import read_frames
from loopy.errors import MediaError
from loopy.timing import FPS, frame_count

VIDEOS = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v")
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
SOUNDS = (".wav", ".mp3", ".flac", ".m4a", ".ogg", ".opus", ".aac")

PORTRAIT_FOLDER, SOUND_FOLDER = "portraits", "sounds"

SHORTEST_S = 1.0
"""A shorter span is not used."""
SILENCE = 1e-3
"""A sound that never passes this (-60 dB) is silence."""


@dataclass(frozen=True)
class PaperSet:
    """A test set: videos with their own sound, or portraits times sounds, without real videos.

    Of so many items (of an open set portraits, and as many sounds; None: all), a span of at most
    `longest_s` is drawn. Names of files must match `names`.
    """

    name: str
    items: int | None
    longest_s: float | None = None
    names: str = ".*"
    crossed: bool = False


_SETS = (
    PaperSet("celebv-hq", 100),
    PaperSet("ravdess", 100, names=r"01-01-\d\d-\d\d-\d\d-\d\d-\d\d\."),
    PaperSet("hdtf", None, longest_s=10.0),
    PaperSet("open-set", 20, crossed=True),
)
SETS = {each.name: each for each in _SETS}


def candidates(kind: PaperSet, folder: Path) -> dict[str, list[str]]:
    """All files that a set may be drawn from, relative to the folder, sorted.

    By kind: "videos", or "portraits" and "sounds".

    Raises:
        MediaError: No such folder, nothing in it that has the layout, or a name that is no UTF-8.
    """
    if not folder.is_dir():
        raise MediaError(f"{folder} is no folder; give the one with the files of {kind.name}")
    wanted = {"videos": ("", VIDEOS)}
    if kind.crossed:
        wanted = {
            "portraits": (PORTRAIT_FOLDER, PICTURES),
            "sounds": (SOUND_FOLDER, (*SOUNDS, *VIDEOS)),
        }
    found = {
        what: sorted(
            path.relative_to(folder).as_posix()
            for path in _files(folder / inner)
            if path.suffix.lower() in suffixes and re.match(kind.names, path.name)
        )
        for what, (inner, suffixes) in wanted.items()
    }
    for what, files in found.items():
        if not files:
            inner, suffixes = wanted[what]
            named = "" if kind.names == ".*" else f" named {kind.names}"
            raise MediaError(
                f"{folder / inner} holds no {what} of {kind.name} ({', '.join(suffixes)}{named}); "
                "docs/evaluation.md shows the layout"
            )
        for file in files:
            check_utf8(folder / file)
    return found


def fit_video(path: Path, *, portrait_frame: int = 0, shortest_s: float = SHORTEST_S) -> int:
    """Frames at 25 a second that have pictures and sound.

    Raises:
        MediaError: No video, no sound, a silent or too short one, or without the portrait's frame.
    """
    with open_media(path, "video") as container:
        seconds = length_s(container, moving_pictures(container))
    frames = min(round(seconds * FPS), fit_sound(path, shortest_s=shortest_s))
    if frames < max(shortest_s * FPS, portrait_frame + 1):
        raise MediaError(
            f"video {path} has {frames} frames with sound at 25 a second; give "
            f"{max(int(shortest_s * FPS), portrait_frame + 1)} or more"
        )
    read_frames(path, [portrait_frame])
    return frames


def fit_sound(path: Path, *, shortest_s: float = SHORTEST_S) -> int:
    """Frames at 25 a second that a sound lasts.

    Raises:
        MediaError: No sound, a silent or too short one.
    """
    samples = read_audio(path, zero="pictures")
    check_audible(samples, f"sound {path}")
    frames = frame_count(len(samples))
    if frames < shortest_s * FPS:
        raise MediaError(
            f"sound {path} lasts {frames / float(FPS):.2f} s; give {shortest_s:g} s or more"
        )
    return frames


def check_audible(samples: Float[Tensor, " samples"], name: str) -> None:
    """Refuses silence: whether lips fit to it is undefined.

    Raises:
        MediaError: Nothing is louder than -60 dB.
    """
    if not len(samples) or float(samples.abs().max()) < SILENCE:
        raise MediaError(f"{name} is silent; give one in which somebody speaks")


def check_utf8(path: Path) -> None:
    """Refuses a name that no table and no page can show.

    Raises:
        MediaError: It is no UTF-8.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise MediaError(f"{os.fsencode(path)!r} is no name in UTF-8; rename it") from error


def _files(folder: Path) -> Iterator[Path]:
    """All files in a folder that are not hidden, links followed; each folder once."""
    seen = set[str]()
    for here, inner, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(here)
        inner[:] = [name for name in inner if not name.startswith(".")]
        if real in seen:
            inner.clear()
            continue
        seen.add(real)
        yield from (Path(here, name) for name in names if not name.startswith("."))
