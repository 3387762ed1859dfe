"""Any picture of a user to the square portrait the model sees."""

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from loopy.data.media import AnyPath
from loopy.data.srgb import upright_srgb
from loopy.data.still import decoding, opened
from loopy.errors import MediaError

SMALLEST_PX = 16

Box = tuple[float, float, float, float]


def read_portrait(
    image: AnyPath | Image.Image, *, size_px: int, box: Box | None = None
) -> Float[Tensor, "3 H W"]:
    """Loads a portrait, upright and square, without ever stretching it.

    The EXIF orientation is applied first. Colours are converted to sRGB by the picture's own
    profile (ICC). Transparent parts become white. Reduction is antialiased (Lanczos over every
    source pixel).

    Args:
        image: A file of one of `loopy.data.still.FORMATS`, or a picture already open. Of an
            animation, the first picture.
        size_px: Side of the result.
        box: Left, top, right, bottom in pixels of the upright picture. One that is not square grows
            about its centre to its longer side, is moved inside the picture, and shrinks only
            if the picture itself is too small. None takes the largest centred square.

    Returns:
        RGB in [-1, 1], height and width ``size_px``.

    Raises:
        MediaError: No such file, a folder, empty, not a picture or of another format, damaged,
            larger than Pillow's limit, smaller than 16 px, of floating point pixels, or a box
            outside the picture.
    """
    if size_px < 1:
        raise MediaError(f"size_px is {size_px}; give a positive number of pixels")
    name = "picture" if isinstance(image, Image.Image) else f"picture {image}"
    loaded = opened(image, name)
    with decoding(name):
        upright = upright_srgb(loaded)
    if min(upright.size) < SMALLEST_PX:
        width, height = upright.size
        raise MediaError(f"{name} is {width} x {height} px; give at least 16 px on each side")
    square = _square(upright.size, box, name)
    pixels = np.array(upright.resize((size_px, size_px), Image.Resampling.LANCZOS, box=square))
    return torch.from_numpy(pixels).permute(2, 0, 1).float() / 127.5 - 1


def _square(size: tuple[int, int], box: Box | None, name: str) -> Box:
    """The square to take, inside the picture: left, top, right, bottom."""
    width, height = size
    left, top, right, bottom = (0, 0, width, height) if box is None else box
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
