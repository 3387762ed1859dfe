"""Pictures of a video file as players show them: upright, square pixels, in time."""

from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from itertools import chain
from typing import NamedTuple

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.video.stream import VideoStream
from jaxtyping import UInt8

from loopy.data.media.container import (
    file_name,
    has_time_stamps,
    open_media,
    picture_stream,
    start_s,
    tick_s,
)
from loopy.data.media.video_frames import (
    Orientation,
    Shown,
    check_colours,
    orientation_of,
    pixels_of,
    progressive,
)
from loopy.errors import MediaError
from loopy.paths import AnyPath
from loopy.timing import FPS

Pixels = UInt8[np.ndarray, "h w 3"]

SEEK_S = 2
"""Decoding on is cheaper than seeking for spans under this."""
FURTHER_BACK_S = (0, 2, 6, 18)
"""How much earlier than wanted a seek aims, try by try."""
RESTART_S = 1
"""Time stamps that go back by more are those of another video."""
WIDEST_PIXEL = 4
"""Film squeezed by a lens has 2; more is a damaged header."""
READING = "2"
"""Version: another one says that the same file gives other pictures, and caches are stale."""
MOST_PX = 2**26
"""Pixels of the largest picture: twice 8K, 200 MB as RGB."""


class Picture(NamedTuple):
    """A decoded picture.

    Attributes:
        frame: As the decoder gives it, but not interlaced: as it lies, with pixels of any shape.
        time_s: Since the first picture.
        end_s: When it gives way to the next, or the video ends.
        width_px: With square pixels, as it lies.
        height_px: With square pixels, as it lies.
        orientation: How it lies.
        blended: Whether the pictures before and after it may have a part in it.
    """

    frame: av.VideoFrame
    time_s: Fraction
    end_s: Fraction
    width_px: int
    height_px: int
    orientation: Orientation
    blended: bool

    @property
    def upright_px(self) -> tuple[int, int]:
        """Width and height of what `rgb` gives."""
        if self.orientation.transposed:
            return self.height_px, self.width_px
        return self.width_px, self.height_px

    def rgb(self) -> Pixels:
        """Upright, with square pixels."""
        pixels = pixels_of(self.frame, width_px=self.width_px, height_px=self.height_px)
        return self.orientation.upright(pixels)


def decoded(container: InputContainer) -> Iterator[Picture]:
    """Pictures of an open file from where it stands on, in the order in which they are shown.

    One with a time stamp that does not rise, as MPEG files have them, follows the one before it.

    Raises:
        MediaError: No pictures in it, without times, with a clock that starts again on the way, too
            large, HDR, at a slant, or with a shape of pixels that cannot be.
    """
    stream, name, last = moving_pictures(container), file_name(container), None
    for shown in progressive(_frames(container, stream)):
        # once and where it changes: a frame that was asked for its matrix is in a circle of
        # references in PyAV, so that each would stay in memory until the garbage is collected
        if last is None or shown.frame.rotation != last.frame.rotation:
            orientation = orientation_of(shown.frame, name)
        else:
            orientation = last.orientation
        picture = _picture(shown, stream, orientation)
        if last is not None and picture.time_s < last.time_s - RESTART_S:
            raise MediaError(
                f"{name} holds several videos: its clock goes back from {float(last.time_s):.2f} s "
                f"to {float(picture.time_s):.2f} s; part it, or write it anew with ffmpeg"
            )
        if last is not None and picture.time_s <= last.time_s:
            length_s = picture.end_s - picture.time_s
            picture = picture._replace(time_s=last.end_s, end_s=last.end_s + length_s)
        yield (last := picture)


def pictures_from(path: AnyPath, time_s: Fraction) -> Iterator[Picture]:
    """Pictures of a file from one on that is shown at ``time_s`` or before; errors of `decoded`.

    Streams have no index, and the pictures before the key frame of an open group need the group
    before. So a seek counts only from a key frame on, and if that comes too late the next one aims
    further back; the last resort is the start of the file.
    """
    for back_s in FURTHER_BACK_S:
        if time_s - back_s <= SEEK_S:
            break
        with open_media(path, "video") as container:
            stream = moving_pictures(container)
            if not _can_seek(container, stream):
                break
            pictures = decoded(container)
            first = None
            with suppress(FFmpegError, MediaError):  # not every file can seek
                container.seek(
                    int((time_s - back_s + start_s(stream)) / tick_s(stream)), stream=stream
                )
                first = next((picture for picture in pictures if picture.frame.key_frame), None)
                if first is not None and first.blended:  # with one that was not decoded
                    first = next(pictures, None)
            if first is not None and first.time_s <= time_s:
                yield from chain([first], pictures)
                return
    with open_media(path, "video") as container:
        yield from decoded(container)


def moving_pictures(container: InputContainer) -> VideoStream:
    """The stream of moving pictures; none, or one of too many pixels, is a MediaError."""
    stream = picture_stream(container)
    if stream is None:
        raise MediaError(f"{file_name(container)} has no pictures; give a video")
    _check_size(stream.width, stream.height, file_name(container))
    return stream


def _check_size(width_px: int, height_px: int, name: str) -> None:
    if width_px * height_px > MOST_PX:
        raise MediaError(
            f"{name} has pictures of {width_px} x {height_px} px, over {MOST_PX} in all; "
            "shrink it with ffmpeg first"
        )


def _frames(container: InputContainer, stream: VideoStream) -> Iterator[av.VideoFrame]:
    """What the decoder gives, in the order in which it is shown, with time stamps."""
    stamped, slots = has_time_stamps(container), deque[int]()
    for packet in container.demux(stream):
        if not stamped and packet.size and packet.dts is not None:
            slots.append(packet.dts)
        for frame in packet.decode():
            if slots:  # stored in another order, but one picture for one place in time
                frame.pts = slots.popleft()
            check_colours(frame, file_name(container))
            yield frame


def _can_seek(container: InputContainer, stream: VideoStream) -> bool:
    """Whether the times of pictures behind a seek are those of pictures from the start on.

    In MPEG program streams (mpg, vob) few pictures have a time stamp, and in AVI none, so that the
    place of one stored in another order is known by counting only.
    """
    counted = not has_time_stamps(container) and stream.codec_context.has_b_frames
    return container.format.name != "mpeg" and not counted


def _picture(shown: Shown, stream: VideoStream, orientation: Orientation) -> Picture:
    frame, name = shown.frame, file_name(stream.container)
    if frame.pts is None:
        raise MediaError(f"{name} has no time stamps; wrap it as mp4 or mkv with ffmpeg first")
    time_s = frame.pts * tick_s(stream) - start_s(stream)
    usual_s = 1 / (stream.average_rate or FPS)
    aspect = stream.sample_aspect_ratio or Fraction(1)
    if not 1 <= max(aspect, 1 / aspect) <= WIDEST_PIXEL:
        raise MediaError(
            f"{name} says that its pixels are {float(aspect):.3g} times as wide as high; "
            "write the right shape into it with ffmpeg first"
        )
    # the shorter side of a pixel grows, so that no detail is lost
    width_px, height_px = round(frame.width * max(aspect, 1)), round(frame.height / min(aspect, 1))
    _check_size(width_px, height_px, name)
    end_s = time_s + (frame.duration * tick_s(stream) or usual_s)
    return Picture(frame, time_s, end_s, width_px, height_px, orientation, shown.blended)
