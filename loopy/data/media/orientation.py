"""Which side of a stored picture is up: the display matrix of a video, as EXIF is for photos."""

from math import hypot
from typing import Any, NamedTuple

import av
import numpy as np
from av.sidedata.sidedata import Type
from jaxtyping import UInt8

from loopy.errors import MediaError

SLANT = 0.02
"""Tangent of the angle (1 degree) that still counts as upright, as in FFmpeg."""


class Orientation(NamedTuple):
    """One of the eight ways in which a picture can lie.

    Attributes:
        transposed: Rows become columns, before all else.
        flipped_across: Then left and right change places.
        flipped_down: Then top and bottom do.
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
    """How a picture lies, by the signs of its display matrix.

    The matrix takes a stored place (x, y) to a shown one: x' = a x + c y, y' = b x + d y, rows
    (a b u), (c d v), (x y w); ISO/IEC 14496-12, section 6.2.2. A matrix of zeros says nothing.

    Raises:
        MediaError: It is turned by another angle than quarter turns.
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
    if lying > straight:
        return Orientation(True, c < 0, b < 0)
    return Orientation(False, a < 0, d < 0)
