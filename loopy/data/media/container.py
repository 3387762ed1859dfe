"""Opening the sound and video files of users: one choice of streams, typed errors."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TypeVar

import av
from av.audio.stream import AudioStream
from av.container import Container, InputContainer
from av.error import ArgumentError, FFmpegError
from av.stream import Disposition
from av.video.stream import VideoStream

from loopy.errors import MediaError
from loopy.paths import AnyPath, path_of

Media = TypeVar("Media", AudioStream, VideoStream)

CONTAINERS = (
    *("mov", "matroska", "avi", "mpegts", "mpeg", "mpegvideo", "asf", "flv", "ogg", "nut", "rm"),
    *("mxf", "gxf", "dv", "ivf", "h264", "hevc", "m4v", "obu", "mjpeg", "gif", "nsv", "wtv", "swf"),
    *("wav", "w64", "aiff", "caf", "au", "voc", "sox", "ircam", "nistsphere", "sds", "sln"),
    *("flac", "mp3", "aac", "loas", "amr", "amrnb", "amrwb", "ac3", "eac3", "dts", "dtshd", "mlp"),
    *("truehd", "wv", "ape", "tta", "tak", "mpc", "mpc8", "shn", "oma", "qcp", "gsm", "dsf", "iff"),
    *("rso", "act", "dss", "xwma", "yuv4mpegpipe", "mpegtsraw", "avs", "amv", "kux", "live_flv"),
)
"""What FFmpeg may recognise: no playlist, no list of pictures, nothing that opens other files."""
SAFELY = {"protocol_whitelist": "file", "format_whitelist": ",".join(CONTAINERS)}
"""Options for any file: it leads to no other file, nor to the network."""
STILLS = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image
ALTERNATIVE = (
    Disposition.comment
    | Disposition.hearing_impaired
    | Disposition.visual_impaired
    | Disposition.descriptions
    | Disposition.karaoke
    | Disposition.dependent
)
"""Streams that are played with another one, or in its place on demand."""


def existing_file(path: AnyPath, kind: str) -> Path:
    """The path of a file that is not empty, or a MediaError; `kind` is the word in messages."""
    path = path_of(path, MediaError)
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

    Only formats that hold their sound and pictures themselves are opened (``CONTAINERS``): a
    playlist would lead to other files, or to the network. The kind, "sound" or "video", is the word
    in messages.
    """
    path, container = existing_file(path, kind), None
    try:
        # old mp3 tags are not always UTF-8
        with av.open(f"file:{path}", options=SAFELY, metadata_errors="replace") as container:
            yield container
    except FFmpegError as error:
        why = f" ({error.strerror}); give an intact file"
        if container is None and isinstance(error, ArgumentError):  # its format is not on the list
            why = (
                ": it is a text, a playlist, a picture or of a format that is not read here; give "
            )
            why += f"a {kind}"
        raise MediaError(
            f"{kind} {path} cannot be decoded{why}, or convert it with ffmpeg first"
        ) from error


def sound_stream(container: InputContainer) -> AudioStream:
    """The sound that a player would play (`chosen_stream`); MediaError: none, or none known."""
    streams, name = container.streams.audio, file_name(container)
    if not streams:
        raise MediaError(f"{name} has no sound stream; give a file with sound")
    if (stream := chosen_stream(container, streams)) is None:
        raise MediaError(
            f"the sound of {name} cannot be decoded: FFmpeg does not know its codec, or the "
            "file is cut off; convert it, or give an intact file"
        )
    return stream


def picture_stream(container: InputContainer) -> VideoStream | None:
    """The moving pictures that a player would show: see `chosen_stream`; no covers or stills."""
    moving = [stream for stream in container.streams.video if not stream.disposition & STILLS]
    return chosen_stream(container, moving)


def chosen_stream(container: InputContainer, streams: Sequence[Media]) -> Media | None:
    """Which of several streams of one kind counts, as in players; None where none is decodable.

    The one with the default flag goes first, then one that is no commentary and not made for
    hearing or visually impaired people, then the one that FFmpeg thinks best, then the first.
    """
    known = [stream for stream in streams if stream.codec_context is not None]
    if len(known) < 2:
        return known[0] if known else None
    best = container.streams.best("audio" if isinstance(known[0], AudioStream) else "video")

    def rank(stream: Media) -> tuple[bool, bool, bool, int]:
        default = bool(stream.disposition & Disposition.default)
        itself = not stream.disposition & ALTERNATIVE
        return default, itself, best is not None and stream.index == best.index, -stream.index

    return max(known, key=rank)


def has_time_stamps(container: InputContainer) -> bool:
    """Whether the times of frames stand in the file; those of AVI are places in a row."""
    return container.format.name != "avi"


def start_s(stream: AudioStream | VideoStream) -> Fraction:
    """Time of a stream's first frame on the clock of its file; 0 where the file is silent on it."""
    return (stream.start_time or 0) * tick_s(stream)


def tick_s(stream: AudioStream | VideoStream) -> Fraction:
    """Seconds in one unit of a stream's time stamps."""
    return stream.time_base or Fraction(1, av.time_base)


def length_s(container: InputContainer, stream: VideoStream) -> Fraction:
    """Length of a stream by its header, else of the file; 0 where neither says it."""
    if stream.duration and stream.time_base:
        return stream.duration * stream.time_base
    return Fraction(container.duration or 0, av.time_base)


def file_name(container: Container) -> str:
    """The path of an open file, for messages."""
    return container.name.removeprefix("file:")
