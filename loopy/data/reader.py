"""Frames of a user's video on an exact clock: whatever its rate, the nearest picture in time."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from itertools import count
from pathlib import Path
from typing import Literal

import av
import numpy as np
import torch
from av.container import InputContainer
from av.video.stream import VideoStream
from jaxtyping import UInt8
from torch import Tensor

from loopy.data.media import AnyPath, existing_file, open_media, picture_stream, start_s, tick_s
from loopy.errors import DependencyError, MediaError
from loopy.timing import FPS

SEEK_S = 2  # decoding on is cheaper than seeking for gaps under this

Pixels = UInt8[np.ndarray, "h w 3"]


def read_frames(
    path: AnyPath,
    indices: Sequence[int],
    *,
    fps: Fraction | int = FPS,
    backend: Literal["pyav", "decord"] = "pyav",
) -> UInt8[Tensor, "f h w 3"]:
    """Reads some frames, counted on a grid of ``fps`` that starts at the first picture.

    Frame i is the picture whose time stamp is nearest to i / fps, the only rule without a bias: the
    error is at most half the interval of the source. Rotation flags are honoured.

    Args:
        path: A video file.
        indices: Places on the grid, in any order, also more than once.
        fps: Rate of the grid.
        backend: "pyav" reads everything; "decord" is faster for a few frames far apart, but knows
            fewer codecs (not AV1), and is for files you trust.

    Returns:
        RGB frames in the order of ``indices``.

    Raises:
        MediaError: Not a readable video, or an index outside it.
        DependencyError: decord is not installed.
    """
    wanted = sorted(set(indices))
    if not wanted or wanted[0] < 0:
        raise MediaError(f"frames {list(indices)} of video {path}; give indices from 0 on")
    times = [index / Fraction(fps) for index in wanted]
    if backend == "decord":
        frames = _decord_frames(existing_file(path, "video"), times, fps=Fraction(fps))
    else:
        with open_media(path, "video") as container:
            found = _nearest(container, times, fps=Fraction(fps))
            frames = [_rgb(frame) for frame in found]
    if len(frames) < len(wanted):
        raise MediaError(
            f"video {path} ends before frame {wanted[len(frames)]} at {fps} fps; "
            "give indices inside it"
        )
    place = {index: position for position, index in enumerate(wanted)}
    return torch.from_numpy(np.stack([frames[place[index]] for index in indices]))


def iterate_frames(
    path: AnyPath, *, fps: Fraction | int = FPS, span: range | None = None
) -> Iterator[Pixels]:
    """Frames of a video on the grid of ``read_frames``, one by one, in flat memory.

    Args:
        path: A video file.
        fps: Rate of the grid.
        span: Which frames, rising; None: all round(duration x fps) of them. Those behind the end
            are left out.

    Raises:
        MediaError: Not a readable video.
    """
    with open_media(path, "video") as container:
        times = (index / Fraction(fps) for index in (count() if span is None else span))
        for frame in _nearest(container, times, fps=Fraction(fps)):
            yield _rgb(frame)


def _nearest(
    container: InputContainer, times: Iterable[Fraction], *, fps: Fraction
) -> Iterator[av.VideoFrame]:
    """For each of the rising times the frame nearest to it; stops at the end of the video.

    A time belongs to the video if the middle of its grid frame lies before the end.
    """
    stream = picture_stream(container)
    if stream is None:
        raise MediaError(f"{container.name.removeprefix('file:')} has no pictures; give a video")
    half = 1 / (2 * fps)
    decoded = container.decode(stream)
    near, ended = deque[av.VideoFrame](), False  # from the last one given to just behind the time
    for time in times:
        if time - (picture_s(near[-1], stream) if near else 0) > SEEK_S:
            container.seek(int((time + start_s(stream)) / tick_s(stream)), stream=stream)
            decoded = container.decode(stream)
            near, ended = deque(), False
        while not ended and not (near and picture_s(near[-1], stream) >= time + half):
            frame = next(decoded, None)
            if frame is None:
                ended = True
                continue
            if picture_s(frame, stream) <= time:  # nearer than all before: memory stays flat
                near.clear()
            near.append(frame)
        if not near or (ended and time + half > end_s(near[-1], stream)):
            return
        nearest = min(near, key=lambda frame: abs(picture_s(frame, stream) - time))
        while near[0] is not nearest:
            near.popleft()
        yield nearest


def picture_s(frame: av.VideoFrame, stream: VideoStream) -> Fraction:
    """Time of a frame since the first picture."""
    if frame.pts is None:
        raise MediaError("this video has no time stamps; wrap it as mp4 or mkv with ffmpeg first")
    return frame.pts * tick_s(stream) - start_s(stream)


def end_s(frame: av.VideoFrame, stream: VideoStream) -> Fraction:
    """Time at which a frame gives way to the next, or the video ends."""
    usual_s = 1 / (stream.average_rate or FPS)
    return picture_s(frame, stream) + (frame.duration * tick_s(stream) or usual_s)


def _rgb(frame: av.VideoFrame) -> Pixels:
    return np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90))


def _decord_frames(path: Path, times: Sequence[Fraction], *, fps: Fraction) -> list[Pixels]:
    try:
        import decord
    except ImportError as error:
        raise DependencyError(
            "decord is not installed (it exists for Linux and Windows on x86-64); "
            'use backend="pyav" or pip install decord'
        ) from error
    try:
        reader = decord.VideoReader(str(path))
        spans = reader.get_frame_timestamp(range(len(reader)))
        starts, end = spans[:, 0] - spans[0, 0], spans[-1, 1] - spans[0, 0]
        inside = [float(time) for time in times if float(time + 1 / (2 * fps)) <= end + 1e-3]
        nearest = [int(np.abs(starts - time).argmin()) for time in inside]
        return list(reader.get_batch(nearest).asnumpy()) if nearest else []
    except (decord.DECORDError, RuntimeError) as error:
        raise MediaError(f'video {path} cannot be decoded by decord; use backend="pyav"') from error
