"""Frames of a user's video on an exact clock: whatever its rate, the nearest picture in time."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from itertools import chain, count, islice
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from loopy.data.media.container import existing_file, open_media
from loopy.data.media.video_frames import UPRIGHT, guessed_bt709
from loopy.data.media.video_pictures import (
    SEEK_S,
    Picture,
    Pixels,
    decoded,
    moving_pictures,
    pictures_from,
)
from loopy.errors import DependencyError, MediaError
from loopy.paths import AnyPath
from loopy.timing import FPS


def read_frames(
    path: AnyPath,
    indices: Sequence[int],
    *,
    fps: Fraction | int = FPS,
    backend: Literal["pyav", "decord"] = "pyav",
) -> UInt8[Tensor, "f h w 3"]:
    """Reads some RGB frames, counted on a grid of ``fps`` that starts at the first picture.

    Frame i is the picture whose time stamp is nearest to i / fps, the only rule without a bias: the
    error is at most half the interval of the source. Pictures come out upright, in the
    colours that players show, and not interlaced. Pixels come out square: where the file says that
    they are not, their shorter side grows (720 x 576 pixels of shape 16:15 become 768 x 576), so
    that a face is never stretched.

    Args:
        path: A video file.
        indices: Places on the grid, in the order wanted, also more than once.
        fps: Rate of the grid.
        backend: "pyav" reads everything; "decord" is faster for a few frames far apart, but knows
            fewer codecs (not AV1), takes only what needs none of this, and is for files you trust.

    Raises:
        MediaError: Not a readable video, HDR, or an index outside it.
        DependencyError: decord is not installed.
    """
    wanted = sorted(set(indices))
    if not wanted or wanted[0] < 0:
        raise MediaError(f"frames {list(indices)} of video {path}; give indices from 0 on")
    times = [index / Fraction(fps) for index in wanted]
    if backend == "decord":
        frames = _decord_frames(existing_file(path, "video"), times, fps=Fraction(fps))
    else:
        frames = [picture.rgb() for picture in _nearest(path, times, fps=Fraction(fps))]
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

    All round(duration x fps) of them, or those of a rising span that are before the end. What is
    no readable video is a MediaError.
    """
    times = (index / Fraction(fps) for index in (count() if span is None else span))
    for picture in _nearest(path, times, fps=Fraction(fps)):
        yield picture.rgb()


def in_parts(
    frames: Iterator[Pixels], *, most: int, most_bytes: int, multiple: int = 1
) -> Iterator[UInt8[Tensor, "_n h w 3"]]:
    """Frames of one size, at most so many and so many bytes at a time, each in memory once.

    All parts but the last one hold whole sets of ``multiple`` frames, one set at least.
    """
    while (first := next(frames, None)) is not None:
        sets = max(1, min(most, most_bytes // first.nbytes) // multiple)
        part, filled = np.empty((sets * multiple, *first.shape), np.uint8), 0
        for filled, frame in enumerate(chain([first], islice(frames, len(part) - 1)), 1):
            part[filled - 1] = frame
        yield torch.from_numpy(part[:filled])


def _nearest(path: AnyPath, times: Iterable[Fraction], *, fps: Fraction) -> Iterator[Picture]:
    """For each of the rising times the picture nearest to it; stops at the end of the video.

    A time belongs to the video if the middle of its grid frame lies before the end.
    """
    half, size = 1 / (2 * fps), None
    pictures = iter(list[Picture]())
    near, ended = deque[Picture](), False  # from the last one given to just behind the time
    for place, time in enumerate(times):
        # behind the last picture, which may stay for long, there is nothing to seek
        if place == 0 or (not ended and time - near[-1].time_s > SEEK_S):
            pictures, ended = pictures_from(path, time), False
            near.clear()
        while not ended and not (near and near[-1].time_s >= time + half):
            picture = next(pictures, None)
            if picture is None:
                ended = True
                continue
            if picture.time_s <= time:  # nearer than all before: memory stays flat
                near.clear()
            near.append(picture)
        if not near or (ended and time + half > near[-1].end_s):
            return
        nearest = min(near, key=lambda picture: abs(picture.time_s - time))
        while near[0] is not nearest:
            near.popleft()
        size = size or nearest.upright_px
        if nearest.upright_px != size:
            raise MediaError(
                f"video {path} changes its size from {size} to {nearest.upright_px} at "
                f"{float(nearest.time_s):.2f} s; cut it there, or convert it"
            )
        yield nearest


def _decord_frames(path: Path, times: Sequence[Fraction], *, fps: Fraction) -> list[Pixels]:
    try:
        import decord
    except ImportError as error:
        raise DependencyError(
            "decord is not installed (it exists for Linux and Windows on x86-64); "
            'use backend="pyav" or pip install decord'
        ) from error
    with open_media(path, "video") as container:
        aspect = moving_pictures(container).sample_aspect_ratio
        first = next(decoded(container), None)
        others = {  # what decord would show otherwise than PyAV does here
            "has pixels that are not square": aspect not in (None, 0, 1),
            "has several streams of pictures": len(container.streams.video) > 1,
            "is stored turned or mirrored": first is not None and first.orientation != UPRIGHT,
            "is interlaced": first is not None and first.blended,
            "does not name its colours": first is not None and guessed_bt709(first.frame),
        }
    if words := next((words for words, found in others.items() if found), ""):
        raise MediaError(f'video {path} {words}; use backend="pyav"')
    try:
        reader = decord.VideoReader(str(path))
        spans = reader.get_frame_timestamp(range(len(reader)))
        starts, end = spans[:, 0] - spans[0, 0], spans[-1, 1] - spans[0, 0]
        inside = [float(time) for time in times if float(time + 1 / (2 * fps)) <= end + 1e-3]
        nearest = [int(np.abs(starts - time).argmin()) for time in inside]
        return list(reader.get_batch(nearest).asnumpy()) if nearest else []
    except (decord.DECORDError, RuntimeError) as error:
        raise MediaError(f'video {path} cannot be decoded by decord; use backend="pyav"') from error
