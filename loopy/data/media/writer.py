"""Results to disk, clip by clip, whole or not at all: video with sound, PNG frames, an array."""

import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import numpy as np
from av.error import FFmpegError
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from loopy.data.media.sound import Sound
from loopy.data.media.video_file import VIDEO_FORMATS, LiveTrack, VideoFile
from loopy.drafts import check_output_name, check_place, draft, output_errors
from loopy.errors import OutputError
from loopy.paths import AnyPath
from loopy.timing import FPS
from loopy.typed_values import check_number


@contextmanager
def open_writer(
    path: AnyPath,
    *,
    fps: Fraction | int = FPS,
    sound: Sound | LiveTrack | None = None,
    crf: int = 18,
    replace: bool = False,
    when_whole: Callable[[Path], None] | None = None,
) -> Iterator["Writer"]:
    """Opens the kind of output that the name asks for.

    Everything goes to a hidden name in the same folder, and takes its place at the end of the
    ``with`` block. An exception in the block removes it and leaves what was there before.

    Args:
        path: ``.mp4``, ``.mov`` or ``.mkv``: H.264 video with sound. ``.npy``: one array (f h w 3).
            No suffix: a new or empty folder for ``000000.png``, ``000001.png`` ...
        fps: Frames a second of a video.
        sound: The sound track of a video: a file, which keeps its own rate and channels, sound in
            memory (`check_audio`), or one that comes with the pictures. It begins with the first
            picture, wherever it stands in its file, and is cut, or followed by silence, to the
            length of the pictures.
        crf: Quality of H.264, 0 to 51: 0 is lossless, 18 looks so, 23 is smaller.
        replace: A folder that exists may be replaced.
        when_whole: Is given the hidden name of the finished output, before it takes its place.

    Yields:
        The writer: give it frames of one size by ``write``.

    Raises:
        ConfigurationError: ``crf`` is out of its range, 0 to 51.
        OutputError: Unknown suffix, no such folder, no permission, a full disk, or no frames.
        MediaError: The sound cannot be read.
    """
    check_crf(crf)
    check_number("fps", fps, float, least=0.001, most=1000)
    folder, path = check_result(path, replace=replace), Path(path)
    kind = path.suffix.lower()
    with draft(path, folder=folder, replace=replace) as hidden:
        with output_errors(path, FFmpegError):
            if kind in VIDEO_FORMATS:
                sink = VideoFile(hidden, fps=fps, sound=sound, crf=crf)
            else:
                sink = ArrayFile(hidden) if kind == ".npy" else PngFolder(hidden)
        with closing(sink):
            writer = Writer(sink, path)
            yield writer
            writer.finish()
        if when_whole is not None:
            when_whole(hidden)


def check_result(path: AnyPath, *, replace: bool = False) -> bool:
    """Whether the output of `open_writer` will be a folder; or an OutputError, if it cannot be."""
    check_output_name(path)
    kind, known = Path(path).suffix.lower(), [*VIDEO_FORMATS, ".npy"]
    folder = kind not in known
    if folder and kind and not os.path.isdir(path):
        known = ", ".join(known)
        raise OutputError(f"{path}: unknown suffix {kind}; use {known}, or none for PNG frames")
    check_place(path, folder=folder, replace=replace)
    return folder


def check_crf(crf: int) -> None:
    """Refuses, by a ConfigurationError, what is no quality of H.264."""
    check_number("crf, the quality of a video,", crf, least=0, most=51)


class Sink(Protocol):
    """One format of output; frames arrive checked and in order."""

    def put(self, frame: UInt8[np.ndarray, "h w 3"]) -> None:
        """Appends one RGB frame."""
        ...

    def finish(self) -> None:
        """Completes the output."""

    def close(self) -> None:
        """Closes the file, finished or not."""


class Writer:
    """Takes clips in order and holds none of them; comes from ``open_writer``."""

    def __init__(self, sink: Sink, path: Path) -> None:
        self._sink, self._path = sink, path
        self._size: tuple[int, ...] | None = None

    def write(self, frames: Tensor | np.ndarray) -> None:
        """Appends RGB frames: uint8 (f h w 3), all of one size, on any device.

        Raises:
            OutputError: Frames of another type, shape or size, or the disk refuses.
            MediaError: The sound turns out to be damaged.
        """
        if not isinstance(frames, Tensor | np.ndarray):
            raise OutputError(f"{self._path}: frames are {type(frames).__name__}, give an array")
        pixels = frames.cpu().numpy() if isinstance(frames, Tensor) else frames
        if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[3] != 3:
            raise OutputError(
                f"{self._path}: frames are {pixels.dtype} {pixels.shape}, "
                "expected uint8 (frames, height, width, 3)"
            )
        self._size = self._size or pixels.shape[1:]
        if pixels.shape[1:] != self._size:
            raise OutputError(
                f"{self._path}: frames are {pixels.shape[1:]}, the first ones were {self._size}; "
                "write frames of one size"
            )
        with output_errors(self._path, FFmpegError):
            for frame in pixels:
                self._sink.put(np.ascontiguousarray(frame))

    def finish(self) -> None:
        """Completes the output; ``open_writer`` calls it at the end of its block."""
        if self._size is None:
            raise OutputError(f"{self._path}: no frame was written; write at least one")
        with output_errors(self._path, FFmpegError):
            self._sink.finish()


class PngFolder(Sink):
    """A folder of numbered PNG files."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._frames = folder, 0

    def put(self, frame: UInt8[np.ndarray, "h w 3"]) -> None:
        """Writes one file."""
        Image.fromarray(frame).save(self._folder / f"{self._frames:06d}.png")
        self._frames += 1


class ArrayFile(Sink):
    """One ``.npy`` array (f h w 3); NumPy leaves room in the header for the count of frames."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._shape = (0, 0, 0, 3)

    def put(self, frame: UInt8[np.ndarray, "h w 3"]) -> None:
        """Appends the bytes of one frame."""
        frames = self._shape[0]
        self._shape = (frames + 1, *frame.shape)
        if frames == 0:
            self._write_header()
        self._file.write(frame.data)

    def finish(self) -> None:
        """Writes the final count into the header."""
        self._file.seek(0)
        self._write_header()
        self.close()

    def close(self) -> None:
        """Closes the file, finished or not."""
        self._file.close()

    def _write_header(self) -> None:
        header = {"descr": "|u1", "fortran_order": False, "shape": self._shape}
        np.lib.format.write_array_header_1_0(self._file, header)
