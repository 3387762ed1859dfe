"""Which videos there are, and what each one is, before anything is computed from it."""

import glob
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path, PurePath

from av import time_base as TICKS  # noqa: N812 (a second, on the clock of a file)
from av.container import InputContainer

from loopy.data.media.container import (
    existing_file,
    file_name,
    has_time_stamps,
    open_media,
    sound_stream,
)
from loopy.data.media.finished import content_hash
from loopy.data.media.video_pictures import decoded, moving_pictures
from loopy.data.store.storage import is_address
from loopy.errors import MediaError
from loopy.paths import AnyPath, path_of
from loopy.preprocess.remote_videos import Source, list_files, remote_seconds
from loopy.timing import FPS

SUFFIXES = (
    *(".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v", ".mpg", ".mpeg"),
    *(".ts", ".mts", ".m2ts", ".wmv", ".flv", ".ogv", ".3gp"),
)
LISTS = (".txt", ".list")
STEADY_S = Fraction(2, 1000)
"""Gaps between pictures that differ by more than this are a variable rate; mkv rounds to 1 ms."""
CUT_OFF_S = 1
"""A file that ends this much before the time its header names was cut off."""


def find_videos(where: AnyPath) -> list[Source]:
    """The videos of a folder, a bucket, a list, a pattern, or one file.

    Args:
        where: A folder (with the folders in it, also by links), a pattern ("talks/*/front.mp4"),
            one video, the address of a folder or video that obstore knows ("s3://bucket/talks"), or
            a text file (.txt, .list) with a path or an address a line. Paths there are relative to
            its own folder; lines that are empty or begin with # do not count. Hidden files are left
            alone.

    Returns:
        Absolute paths, and addresses as strings, sorted and each once, so that every machine sees
        the same order. Those of a list need not all exist: `probe` says so of each.

    Raises:
        MediaError: No videos there, or a folder, bucket or list that cannot be read.
        DependencyError: An address is given and obstore is not installed.
    """
    path = path_of(where, MediaError)
    try:
        if is_address(where):
            named = _suffix(str(where)) in SUFFIXES
            files = [str(where)] if named else list_files(str(where))
        elif path.suffix.lower() in LISTS and path.is_file():
            return _listed(path)
        else:
            matches = [path] if path.exists() else map(Path, glob.glob(str(where), recursive=True))
            files = [file.absolute() for match in matches for file in _files(match)]
    except OSError as error:
        raise MediaError(
            f"{error.filename or where} cannot be read: {error.strerror}; check its permissions"
        ) from error
    videos = {file for file in files if _suffix(file) in SUFFIXES}
    if not videos:
        counts = Counter(_suffix(file) or "files without a suffix" for file in files).most_common(5)
        seen = ", ".join(f"{count} {suffix}" for suffix, count in counts) or "nothing"
        raise MediaError(
            f"No videos found under {where}: looked for {' '.join(SUFFIXES)}, saw {seen}"
        )
    return sorted(videos, key=str)


def seconds_of(source: Source) -> Fraction | None:
    """Length of a video by its header, to about a second: for estimates.

    None for what cannot be read, or, at an address, has no length in its header. In a file without
    one `probe`, which reads all of it, finds it.
    """
    try:
        if is_address(source):
            return remote_seconds(str(source))
        with open_media(source, "video") as container:
            if container.duration:
                return Fraction(container.duration, TICKS)
        return probe(source).seconds
    except MediaError:
        return None


def _suffix(source: Source) -> str:
    return PurePath(source).suffix.lower()


def _listed(path: Path) -> list[Source]:
    try:
        lines = [line.strip() for line in path.read_text("utf-8-sig").splitlines()]
    except UnicodeDecodeError as error:
        raise MediaError(f"list {path} is no text in UTF-8; save it as such") from error
    named = [line for line in lines if line and not line.startswith("#")]
    videos: set[Source] = {
        line if is_address(line) else (path.parent / line).absolute() for line in named
    }
    found = sorted(videos, key=str)
    if not any(is_address(video) or Path(video).is_file() for video in found):
        first = f", for one not {found[0]}" if found else ""
        raise MediaError(
            f"No videos found under {path}: of {len(found)} files it lists none exists{first}; "
            "paths count from the folder of the list"
        )
    return found


def _files(path: Path) -> Iterator[Path]:
    """The path itself, or all that is in a folder, but for what is hidden.

    Each folder is visited once, under its own name if it lies in here, else by the first link.
    """

    def refuse(error: OSError) -> None:
        raise error  # os.walk passes over what it may not read

    if not path.is_dir():
        yield path
        return
    tops, seen = [path], set[str]()
    while tops:
        links = list[Path]()
        for folder, inner, names in (step for top in tops for step in os.walk(top, onerror=refuse)):
            real = os.path.realpath(folder)
            inner[:] = [name for name in inner if not name.startswith(".") and real not in seen]
            if real not in seen:
                links += (Path(folder, name) for name in inner if Path(folder, name).is_symlink())
                yield from (Path(folder, name) for name in names if not name.startswith("."))
            seen.add(real)
        tops = sorted(links)


@dataclass(frozen=True)
class Probe:
    """What a video file is, from its packets and its first picture.

    Args:
        seconds: From the first picture to the end of the last.
        fps: Pictures a second; the mean where the rate varies.
        width_px: Of the upright picture with square pixels, as the reader gives it.
        height_px: Of the upright picture with square pixels.
        sound_end_s: Where the sound ends, counted from the first picture; 0 without sound.
        sha256: Of the whole file, in hex; the same video under two names has one.
    """

    seconds: Fraction
    fps: Fraction
    width_px: int
    height_px: int
    sound_end_s: Fraction
    sha256: str

    @property
    def has_sound(self) -> bool:
        """Whether any of the sound is at the time of the pictures."""
        return self.sound_end_s > 0


def probe(path: AnyPath) -> Probe:
    """Reads all packets of a video, and decodes its first picture.

    Nothing there, empty, no video, cut off, or not decodable: a MediaError.
    """
    path = existing_file(path, "video")
    with open_media(path, "video") as container:
        shown = next(decoded(container), None)
    with open_media(path, "video") as container:
        pictures, stamped = moving_pictures(container), has_time_stamps(container)
        starts, ends = list[Fraction](), dict[str, Fraction]()
        streams = [pictures, *([sound_stream(container)] if container.streams.audio else [])]
        for packet in container.demux(streams):
            moment = packet.pts if stamped and packet.pts is not None else packet.dts
            if moment is None or packet.is_discard:
                continue
            kind, tick = packet.stream.type, packet.time_base
            end = (moment + (packet.duration or 0)) * tick
            ends[kind] = max(ends.get(kind, end), end)
            if kind == "video":
                starts.append(moment * tick)
        if shown is None or not starts:
            raise MediaError(f"{path} has no picture that can be decoded; give an intact file")
        if len(streams) == len(container.streams):  # else another stream may be the longest
            _refuse_cut_off(container, max(ends.values()))
        starts.sort()
        fps = _rate(starts, pictures.average_rate)
        end = ends["video"] if ends["video"] > starts[-1] else starts[-1] + 1 / fps
        width_px, height_px = shown.upright_px
        return Probe(
            seconds=end - starts[0],
            fps=fps,
            width_px=width_px,
            height_px=height_px,
            sound_end_s=max(ends.get("audio", starts[0]) - starts[0], Fraction(0)),
            sha256=content_hash(path, "video"),
        )


def _rate(starts: Sequence[Fraction], named: Fraction | None) -> Fraction:
    """Pictures a second: as the header says, or the mean where the rate varies."""
    if len(starts) < 2 or starts[0] == starts[-1]:
        return named or FPS
    gaps = [after - before for before, after in pairwise(starts)]
    steady = max(gaps) - min(gaps) <= STEADY_S
    return (steady and named) or len(gaps) / (starts[-1] - starts[0])


def _refuse_cut_off(container: InputContainer, end: Fraction) -> None:
    promised = Fraction(container.duration or 0, TICKS)  # in mkv counted from 0, not from the start
    if promised - end > CUT_OFF_S:
        raise MediaError(
            f"{file_name(container)} is cut off: of {float(promised):.2f} s "
            f"it holds {float(end):.2f} s; fetch it again"
        )
