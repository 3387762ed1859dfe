"""Opening the sound and video files of users: one door, typed errors, never the network."""

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from os import PathLike
from pathlib import Path

import av
from av.audio.stream import AudioStream
from av.container import Container, InputContainer
from av.error import FFmpegError
from av.stream import Disposition
from av.video.stream import VideoStream

from loopy.errors import MediaError

AnyPath = str | PathLike[str]


def existing_file(path: AnyPath, kind: str) -> Path:
    """The path itself, once it is known to be a file with something in it.

    Args:
        path: What the user gave.
        kind: The word for it in the message: "sound", "video", "picture".

    Raises:
        MediaError: Nothing there, a folder, or zero bytes.
    """
    path = Path(path)
    try:
        if path.is_dir():
            raise MediaError(f"{kind} {path} is a folder; give a file")
        if not path.is_file():
            raise MediaError(f"{kind} {path} does not exist; check the path")
        if path.stat().st_size == 0:
            raise MediaError(f"{kind} {path} is empty (0 bytes); give another file")
    except OSError as error:
        raise MediaError(f"{kind} {path} cannot be read: {error.strerror}") from error
    return path


@contextmanager
def open_media(path: AnyPath, kind: str) -> Iterator[InputContainer]:
    """Opens a sound or video file; what goes wrong in reading it becomes a MediaError.

    A playlist cannot lead to the network: only the ``file`` protocol is allowed.

    Args:
        path: A file that PyAV (FFmpeg) may know.
        kind: The word for it in messages, "sound" or "video".

    Raises:
        MediaError: Not a readable file, of no known format, or damaged.
    """
    path = existing_file(path, kind)
    try:
        with av.open(
            f"file:{path}",
            options={"protocol_whitelist": "file"},
            metadata_errors="replace",  # old mp3 tags are not always UTF-8
        ) as container:
            if container.format.name == "tty":  # FFmpeg draws any .txt as a terminal
                raise MediaError(f"{kind} {path} is a text file; give a {kind}")
            yield container
    except FFmpegError as error:
        raise MediaError(
            f"{kind} {path} cannot be decoded ({error.strerror}); give an intact file, "
            "or convert it with ffmpeg first"
        ) from error


def sound_stream(container: InputContainer) -> AudioStream:
    """The first sound stream.

    Raises:
        MediaError: There is none.
    """
    if not container.streams.audio:
        raise MediaError(f"{file_name(container)} has no sound stream; give a file with sound")
    return container.streams.audio[0]


def picture_stream(container: InputContainer) -> VideoStream | None:
    """The first stream of moving pictures, None without one. Cover art does not count."""
    pictures = (s for s in container.streams.video if not s.disposition & Disposition.attached_pic)
    return next(pictures, None)


def has_time_stamps(container: InputContainer) -> bool:
    """Whether the times of frames stand in the file; those of AVI are places in a row."""
    return container.format.name != "avi"


def start_s(stream: AudioStream | VideoStream) -> Fraction:
    """Time of a stream's first frame on the clock of its file; 0 where the file is silent on it."""
    return (stream.start_time or 0) * tick_s(stream)


def tick_s(stream: AudioStream | VideoStream) -> Fraction:
    """Seconds in one unit of a stream's time stamps."""
    return stream.time_base or Fraction(1, av.time_base)


def file_name(container: Container) -> str:
    """The path of an open file, for messages."""
    return container.name.removeprefix("file:")
