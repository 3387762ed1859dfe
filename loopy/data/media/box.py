"""The square of a portrait: as users write it, and as it is cut out."""

from collections.abc import Sequence
from math import isfinite

from loopy.errors import ConfigurationError, MediaError

Box = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels of the upright picture."""
SMALLEST_PX = 16


def read_box(text: str) -> Box:
    """Reads a box as an option or a list has it.

    Args:
        text: Four numbers with spaces or commas between them, in brackets or not.

    Raises:
        ConfigurationError: Other words, NaN, infinite or negative numbers, or an empty box.
    """
    inner = text.strip()
    if inner[:1] + inner[-1:] in ("[]", "()"):
        inner = inner[1:-1]
    words = inner.split(",") if "," in inner else inner.split()
    try:
        left, top, right, bottom = (float(word) for word in words)
    except ValueError:
        left = top = right = bottom = 0.0
    if not (0 <= left < right and 0 <= top < bottom and isfinite(right) and isfinite(bottom)):
        raise ConfigurationError(
            f"box is {text!r}; give left top right bottom in pixels with left < right and top < "
            "bottom, as in '40 20 440 420'"
        )
    return left, top, right, bottom


def square_in(size: tuple[int, int], box: Sequence[float] | None, name: str) -> Box:
    """The square to cut out of a picture: around a box, or the middle.

    A box that is not square grows about its centre to its longer side, is moved inside the picture,
    and shrinks only if the picture itself is too small.

    Args:
        size: Width and height of the upright picture.
        box: Left, top, right, bottom in its pixels; None takes the largest centred square.
        name: The word for the picture in messages.

    Raises:
        MediaError: Not four numbers, outside the picture, or under 16 px.
    """
    width, height = size
    try:
        left, top, right, bottom = (float(edge) for edge in ((0, 0, *size) if box is None else box))
    except (TypeError, ValueError) as error:
        raise MediaError(
            f"box is {box!r:.80}; give left, top, right, bottom in pixels, as in (40, 20, 440, 420)"
        ) from error
    if not (0 <= left < right <= width and 0 <= top < bottom <= height):
        raise MediaError(
            f"box {box} is not inside {name} of {width} x {height} px; "
            "give left, top, right, bottom with left < right and top < bottom"
        )
    if min(right - left, bottom - top) < SMALLEST_PX:
        raise MediaError(f"box {box} of {name} is too small; give at least 16 px on each side")
    side = min(max(right - left, bottom - top), width, height)
    left = min(max((left + right - side) / 2, 0), width - side)
    top = min(max((top + bottom - side) / 2, 0), height - side)
    return left, top, left + side, top + side
