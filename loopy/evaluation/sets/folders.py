"""Given videos in a folder, and the real ones of the same names in another."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

from loopy.data.media.container import length_s, open_media
from loopy.data.media.sound import read_audio
from loopy.data.media.video_pictures import moving_pictures
from loopy.data.media.video_reader import read_frames
from loopy.errors import LoopyError, MediaError
from loopy.evaluation.sets.layouts import VIDEOS, check_audible, check_utf8
from loopy.evaluation.table.evaluate import OF_ALL, Pair
from loopy.timing import FPS

SPARE = 1
"""Frames by which a codec may make a video longer or shorter than the real one."""


def folder_pairs(made: Path, real: Path | None) -> Iterator[Pair]:
    """Pairs of the videos in two folders, by name without suffix.

    A video that cannot be judged has a problem, in words: not readable, without sound or
    silent, not 25 frames a second, without a real one, or not as long as it. Where there are no
    real ones it has no portrait: its own first frame would be near to it whoever it shows.

    Args:
        made: The folder of the videos to judge.
        real: The folder of the real ones; None: there are none.

    Raises:
        MediaError: A folder is missing, holds no video, two of one name, or one that is no UTF-8.
    """
    ours = _videos(made)
    theirs = {} if real is None else _videos(real)
    for name, path in ours.items():
        partner = theirs.get(name)
        try:
            if real is not None and partner is None:
                raise MediaError(f"{real} holds no video named {name}; put the real one there")
            frames = _check(path)
            if partner is not None and abs(frames - (length := _check(partner))) > SPARE:
                raise MediaError(
                    f"{path} has {frames} frames, the real one {length}; cut both to one length"
                )
            portrait = None if partner is None else read_frames(partner, [0])[0]
            yield Pair(name, path, partner, portrait)
        except OF_ALL:
            raise
        except LoopyError as error:
            yield Pair(name, path, partner, problem=str(error))


def _videos(folder: Path) -> dict[str, Path]:
    """Videos directly in a folder, by name without suffix."""
    if not folder.is_dir():
        raise MediaError(f"{folder} is no folder; give one with videos")
    found = dict[str, Path]()
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in VIDEOS or path.name.startswith("."):
            continue
        check_utf8(path)
        if path.stem in found:
            raise MediaError(f"{path} and {found[path.stem]} have one name; rename one of them")
        found[path.stem] = path
    if not found:
        raise MediaError(f"{folder} holds no videos ({', '.join(VIDEOS)})")
    return found


def _check(path: Path) -> int:
    """Frames of a video that can be judged."""
    with open_media(path, "video") as container:
        stream = moving_pictures(container)
        rate = stream.average_rate or Fraction(0)
        if abs(rate - FPS) > Fraction(1, 100):
            raise MediaError(
                f"video {path} has {float(rate):.6g} frames a second, all figures are of {FPS}; "
                f"write it anew with ffmpeg -i IN -r {FPS} OUT"
            )
        seconds = length_s(container, stream)
    check_audible(read_audio(path, zero="pictures"), f"the sound of {path}")
    return round(seconds * FPS)
