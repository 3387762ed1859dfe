"""Sound that comes through a pipe: read as it comes, without waiting for its end.

The header of a WAV is read here and its samples by FFmpeg as raw ones: FFmpeg's own reader of WAV
waits for 64 KB first, two seconds of a voice, and believes lengths that nobody could know.
"""

import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from typing import BinaryIO, NamedTuple

import av
from av.container import InputContainer
from av.error import ArgumentError, FFmpegError

from loopy.data.media.container import SAFELY, sound_stream
from loopy.data.media.sound_blocks import Block, sound_blocks
from loopy.data.media.video_file import aac_form
from loopy.errors import MediaError

STANDARD_INPUT = "standard input"
AT_ONCE_BYTES = 1024
EXAMPLE = "pipe a sound into it: ffmpeg -i voice.mp3 -f wav - | loopy animate face.png - -o out.mp4"
PCM = {(1, 8): "u8", (1, 16): "s16le", (1, 24): "s24le", (1, 32): "s32le", (3, 32): "f32le"}
"""FFmpeg's raw formats by the tag of a WAV and the bits of a sample."""
EXTENSIBLE = 0xFFFE
"""The tag of a WAV whose true one stands further behind."""
UNKNOWN_BYTES = 0x7FFF0000
"""Lengths from here on, and 0, are those of a WAV that was begun before its end was known."""
LAYOUTS = {1: "mono", 2: "stereo"}
MOST_BYTES = 65_536
"""A WAV's header is shorter."""


class LiveSound:
    """A sound that comes through a pipe, at its own rate and channels where AAC has them.

    Args:
        container: Open, at its begin.
    """

    def __init__(self, container: InputContainer) -> None:
        self._container = container
        self.rate_hz, self.layout = aac_form(sound_stream(container))

    def blocks(self, *, longest_s: float) -> Iterator[Block]:
        """Consecutive samples, as they come; see `sound_blocks`."""
        form = {"rate_hz": self.rate_hz, "layout": self.layout, "longest_s": longest_s}
        return sound_blocks(self._container, zero="sound", **form)


def standard_input() -> BinaryIO | None:
    """What is piped into this process; None where there is no such thing."""
    return None if sys.stdin is None else sys.stdin.buffer


@contextmanager
def open_pipe(pipe: BinaryIO | None) -> Iterator[LiveSound]:
    """Opens a sound that comes through a pipe, as ``ffmpeg -f wav -`` or ``arecord`` write it.

    A WAV of plain samples is heard from its first 0.1 s on; other formats, which FFmpeg has to
    find out about, after some KB. Errors of reading become a MediaError, also in the block.

    Args:
        pipe: Binary; None where there is none.

    Raises:
        MediaError: A terminal, empty, or no sound that is known.
    """
    if pipe is None or pipe.closed:
        raise MediaError(f"{STANDARD_INPUT} is closed; {EXAMPLE}")
    if pipe.isatty():
        raise MediaError(f"{STANDARD_INPUT} is a terminal; {EXAMPLE}")
    reader = _Reader(pipe)
    if reader.is_empty():
        raise MediaError(f"{STANDARD_INPUT} is empty (0 bytes); {EXAMPLE}")
    wave, container = reader.wave_form(), None
    options, form = dict(SAFELY), None
    if wave is not None:
        layout = LAYOUTS.get(wave.channels, f"{wave.channels}c")
        options, form = {"sample_rate": str(wave.rate_hz), "ch_layout": layout}, wave.form
    try:
        with av.open(
            reader, "r", format=form, options=options, buffer_size=AT_ONCE_BYTES,
            metadata_errors="replace",
        ) as container:  # fmt: skip
            yield LiveSound(container)
    except FFmpegError as error:
        known = container is not None or not isinstance(error, ArgumentError)
        why = f" ({error.strerror})" if known else ": it is no sound of a format that is read here"
        raise MediaError(f"{STANDARD_INPUT} cannot be decoded{why}; {EXAMPLE}") from error


class _Wave(NamedTuple):
    """What the header of a WAV says of its samples."""

    form: str
    rate_hz: int
    channels: int


class _Reader:
    """What of a pipe is there; a whole buffer would be waited for."""

    name = STANDARD_INPUT

    def __init__(self, pipe: BinaryIO) -> None:
        self._pipe = pipe if isinstance(pipe, BufferedReader) else BufferedReader(pipe)  # pyright: ignore[reportArgumentType]  # it reads
        self._again = b""
        self._left: int | None = None  # bytes of samples; None: to the end of the pipe

    def is_empty(self) -> bool:
        """Waits for the first byte."""
        return not self._pipe.peek(1)

    def read(self, size: int) -> bytes:
        """At most so many bytes; none at the end.

        Called by FFmpeg, behind whose door a stop that is no `Exception` would end the process at
        once, with the draft of the video left behind.
        """
        if self._again:
            part, self._again = self._again[:size], self._again[size:]
            return part
        try:
            part = self._pipe.read1(size if self._left is None else min(size, self._left))
        except (KeyboardInterrupt, SystemExit) as stop:
            raise InterruptedError("stopped while it waited for sound") from stop
        if self._left is not None:
            self._left -= len(part)
        return part

    def wave_form(self) -> _Wave | None:
        """Reads the header of a WAV up to its samples; None, and all is read again, for others."""
        if not self._pipe.peek(4).startswith(b"RIFF"):
            return None
        seen, form = self._pipe.read(12), None
        while len(seen) < MOST_BYTES and len(head := self._pipe.read(8)) == 8:
            kind, size = struct.unpack("<4sI", head)
            if kind == b"data" and form is not None:
                self._left = None if size == 0 or size >= UNKNOWN_BYTES else size
                return form
            body = self._pipe.read(min(size + size % 2, MOST_BYTES))
            seen += head + body
            if kind == b"fmt ":
                form = _plain(body)
        self._again = seen
        return None


def _plain(header: bytes) -> _Wave | None:
    """The form of plain samples; None of others, which need a decoder."""
    if len(header) < 16:
        return None
    tag, channels, rate_hz, _, _, bits = struct.unpack("<HHIIHH", header[:16])
    if tag == EXTENSIBLE and len(header) >= 26:
        (tag,) = struct.unpack("<H", header[24:26])
    form = PCM.get((tag, bits))
    return None if form is None or channels == 0 or rate_hz == 0 else _Wave(form, rate_hz, channels)
