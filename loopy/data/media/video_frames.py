"""Frames of a video as players show them: one moment each, which side is up, in their own colours.

Codes of colours are those of ITU-T H.273 (coding-independent code points), which FFmpeg shares.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import chain, groupby, islice
from math import hypot
from typing import Any, NamedTuple, cast

import av
import numpy as np
from av.error import BlockingIOError, EOFError
from av.filter import Graph
from av.sidedata.sidedata import Type
from av.video.reformatter import Interpolation
from jaxtyping import UInt8

from loopy.errors import MediaError

SLANT = 0.02
"""Tangent of the angle (1 degree) that still counts as upright, as in FFmpeg."""
HDR = {16: "PQ", 18: "HLG"}
"""Transfer characteristics (H.273 table 3) in which white is far from the top of the scale."""
BT2020 = 9
BT2020_CONSTANT = 10
KNOWN_MATRICES = 1, 4, 5, 6, 7
"""H.273 table 4: BT.709, FCC, BT.601 (625 and 525 lines), SMPTE 240M."""
BT709, BT601 = 1, 5
SD_PX = 1279, 576
"""Widest and highest picture of which players think that it is BT.601, where a file is silent."""
EXACT = Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
"""Within a level of the standard; FFmpeg's shortcut is 3 off. 10 ms for 1920 x 1080."""


class Shown(NamedTuple):
    """A frame to show, and whether those before and after it may have a part in it."""

    frame: av.VideoFrame
    blended: bool


def progressive(frames: Iterable[av.VideoFrame]) -> Iterator[Shown]:
    """Frames without combs: those that say that they are interlaced pass FFmpeg's bwdif.

    As many as before, at the same times; one that does not say so is as it was. A frame that is
    interlaced depends on the one before and the one after it, wherever decoding began.
    """
    for _, alike in groupby(frames, lambda frame: (frame.width, frame.height, frame.format.name)):
        rest, before = iter(alike), list[av.VideoFrame]()
        for frame in rest:
            if frame.interlaced_frame:
                yield from islice(_unwoven(chain(before, [frame], rest)), len(before), None)
            else:
                yield Shown(frame, blended=False)
                before = [frame]


def _unwoven(frames: Iterator[av.VideoFrame]) -> Iterator[Shown]:
    """Frames of one form through bwdif, which gives as many as it is given, one late."""
    first, waiting, graph = next(frames), deque[av.VideoFrame](), Graph()
    source = graph.add_buffer(
        width=first.width, height=first.height, format=first.format, time_base=first.time_base
    )
    bwdif = graph.add("bwdif", "mode=send_frame:deint=interlaced")
    graph.link_nodes(source, bwdif, graph.add("buffersink")).configure()
    for frame in chain([first], frames, [None]):
        graph.push(frame)
        waiting += [] if frame is None else [frame]
        with suppress(BlockingIOError, EOFError):
            while True:
                made, given = cast(av.VideoFrame, graph.pull()), waiting.popleft()
                made.pts, made.time_base = given.pts, given.time_base
                made.duration = given.duration
                yield Shown(made, blended=True)


class Orientation(NamedTuple):
    """One of the eight ways in which a picture can lie: what undoes it, in this order.

    Attributes:
        transposed: Rows become columns.
        flipped_across: Left and right change places.
        flipped_down: Top and bottom do.
    """

    transposed: bool = False
    flipped_across: bool = False
    flipped_down: bool = False

    def upright(self, pixels: UInt8[np.ndarray, "h w c"]) -> UInt8[np.ndarray, "h2 w2 c"]:
        """Turns a picture as it is meant to be seen."""
        turned = pixels.swapaxes(0, 1) if self.transposed else pixels
        turned = turned[:, ::-1] if self.flipped_across else turned
        return np.ascontiguousarray(turned[::-1] if self.flipped_down else turned)


UPRIGHT = Orientation()


def orientation_of(frame: av.VideoFrame, name: str) -> Orientation:
    """How a picture lies, by the signs of its display matrix, as EXIF says it of photos.

    The matrix takes a stored place (x, y) to a shown one: x' = a x + c y, y' = b x + d y, rows
    (a b u), (c d v), (x y w); ISO/IEC 14496-12, section 6.2.2. A matrix of zeros says nothing.
    One that turns by another angle than quarter turns is a MediaError.
    """
    found: Any = frame.side_data  # PyAV's types know one key of it
    if Type.DISPLAYMATRIX not in found:
        return UPRIGHT
    a, b, _, c, d, *_ = np.frombuffer(bytes(found[Type.DISPLAYMATRIX]), np.int32).tolist()
    straight, lying = hypot(a, d), hypot(b, c)
    if min(straight, lying) > SLANT * max(straight, lying):
        raise MediaError(
            f"{name} is shown at a slant ({frame.rotation} degrees); turn it upright with ffmpeg"
        )
    return Orientation(True, c < 0, b < 0) if lying > straight else Orientation(False, a < 0, d < 0)


def check_colours(frame: av.VideoFrame, name: str) -> None:
    """Refuses, by a MediaError, colours that would come out wrong: HDR, BT.2020, others."""
    if (curve := HDR.get(frame.color_trc)) is not None:
        what = f"HDR ({curve})"
    elif BT2020 in (frame.color_primaries, frame.colorspace) or frame.colorspace == BT2020_CONSTANT:
        what = "of wide colours (BT.2020)"
    elif frame.colorspace > BT2020 or frame.colorspace == 8:
        what = f"of colours that are not read here (matrix {frame.colorspace} of H.273)"
    else:
        return
    raise MediaError(
        f"{name} is {what}; convert it to SDR with ffmpeg's zscale and tonemap first "
        "(docs/data.md), or film without HDR"
    )


def pixels_of(
    frame: av.VideoFrame, *, width_px: int, height_px: int, quick: bool = False
) -> UInt8[np.ndarray, "h w 3"]:
    """A picture as RGB, of any size, by its own matrix and range.

    Quick: for looking at, in the order of OpenCV (BGR), each pixel the mean of an area.
    """
    return frame.to_ndarray(
        format="bgr24" if quick else "rgb24",
        width=width_px,
        height=height_px,
        interpolation=Interpolation.AREA if quick else EXACT,
        src_colorspace=None if frame.format.is_rgb else matrix_of(frame),
    )


def guessed_bt709(frame: av.VideoFrame) -> bool:
    """Whether `matrix_of` is BT.709 though the file does not say so."""
    return frame.colorspace not in KNOWN_MATRICES and matrix_of(frame) == BT709


def matrix_of(frame: av.VideoFrame) -> int:
    """The matrix (H.273 table 4) of luma and chroma: what the file says, else what players guess.

    As mpv does: BT.709 from 1280 px wide or over 576 px high, BT.601 below.
    """
    if frame.colorspace in KNOWN_MATRICES:
        return frame.colorspace
    width, height = SD_PX
    return BT601 if frame.width <= width and frame.height <= height else BT709
