"""Any picture of a user to the square portrait that the model takes, by a box or the middle."""

import warnings
from collections.abc import Sequence
from math import isfinite
from os import PathLike

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from loopy.data.media.still import Portrait, decoding, opened, upright_srgb
from loopy.errors import ConfigurationError, MediaError
from loopy.pixels import from_pixels
from loopy.typed_values import check_number

Box = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels of the upright picture."""
SMALLEST_PX = 16
LOPSIDED = 1.25
"""Of a picture whose sides differ by more, the middle square may lack a part of the head."""


def read_portrait(
    image: Portrait, *, size_px: int, box: Box | None = None, warn: bool = False
) -> Float[Tensor, "3 H W"]:
    """Loads a portrait, upright and square, without ever stretching it.

    See `upright_srgb` for orientation, colours and transparency. Reduction is antialiased (Lanczos
    over every source pixel).

    Args:
        image: A file of one of the `PICTURE_FORMATS`, a picture of Pillow, or uint8 pixels
            (`of_pixels`). Of an animation, the first picture.
        size_px: Side of the result.
        box: Square to cut out, see `square_in`; None takes the largest centred one.
        warn: Warn where no box is given and the picture is far from square.

    Returns:
        RGB in [-1, 1], height and width ``size_px``.

    Raises:
        ConfigurationError: ``size_px`` is no side of a picture.
        MediaError: No such file, a folder, empty, not a picture or of another format or type,
            damaged, larger than Pillow's limit, smaller than 16 px, of floating point pixels, or a
            box outside the picture.
    """
    check_number("size_px", size_px, least=1, most=8192)
    name = f"picture {image}" if isinstance(image, str | PathLike) else "picture"
    loaded = opened(image, name)
    with decoding(name):
        upright = upright_srgb(loaded)
    (width, height), side = upright.size, min(upright.size)
    if side < SMALLEST_PX:
        raise MediaError(f"{name} is {width} x {height} px; give at least 16 px on each side")
    square = square_in(upright.size, box, name)
    if warn and box is None and max(width, height) > LOPSIDED * side:
        warnings.warn(
            f"{name} is {width} x {height} px and no box is given: its middle square is used, "
            f"{' '.join(f'{edge:g}' for edge in square)}; where that cuts the head give another, "
            f"as in --box '0 0 {side} {side}'",
            stacklevel=3,
        )
    pixels = np.array(upright.resize((size_px, size_px), Image.Resampling.LANCZOS, box=square))
    return from_pixels(torch.from_numpy(pixels).permute(2, 0, 1))


def read_box(text: str) -> Box:
    """Reads a box: four numbers with spaces or commas between them, in brackets or not.

    Other words, NaN, infinite or negative numbers, or an empty box are a ConfigurationError.
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

    A box that is not square grows about its centre to its longer side, is moved inside the picture
    (its size is width and height), and shrinks only if the picture itself is too small. One that is
    not four numbers, outside the picture, or under 16 px is a MediaError.
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
