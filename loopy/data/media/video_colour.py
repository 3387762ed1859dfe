"""Colours of a video as players show them: each picture by its own matrix and range, HDR refused.

Codes are those of ITU-T H.273 (coding-independent code points), which FFmpeg shares.
"""

import av
import numpy as np
from av.video.reformatter import Interpolation
from jaxtyping import UInt8

from loopy.errors import MediaError

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


def rgb_of(frame: av.VideoFrame, *, width_px: int, height_px: int) -> UInt8[np.ndarray, "h w 3"]:
    """A picture as RGB, of any size."""
    return _converted(frame, "rgb24", width_px, height_px, EXACT)


def small_bgr_of(
    frame: av.VideoFrame, *, width_px: int, height_px: int
) -> UInt8[np.ndarray, "h w 3"]:
    """A picture shrunk quickly, each pixel the mean of an area, in the order of OpenCV."""
    return _converted(frame, "bgr24", width_px, height_px, Interpolation.AREA)


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


def _converted(
    frame: av.VideoFrame, form: str, width_px: int, height_px: int, interpolation: Interpolation
) -> UInt8[np.ndarray, "h w 3"]:
    return frame.to_ndarray(
        format=form,
        width=width_px,
        height=height_px,
        interpolation=interpolation,
        src_colorspace=None if frame.format.is_rgb else matrix_of(frame),
    )
