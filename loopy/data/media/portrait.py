"""Any picture of a user to the square portrait the model sees."""

import warnings
from os import PathLike

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from loopy.data.media.box import SMALLEST_PX, Box, square_in
from loopy.data.media.srgb import upright_srgb
from loopy.data.media.still import Portrait, decoding, opened
from loopy.errors import MediaError
from loopy.pixels import from_pixels
from loopy.typed_values import check_number

LOPSIDED = 1.25
"""Of a picture whose sides differ by more, the middle square may lack a part of the head."""


def read_portrait(
    image: Portrait, *, size_px: int, box: Box | None = None, warn: bool = False
) -> Float[Tensor, "3 H W"]:
    """Loads a portrait, upright and square, without ever stretching it.

    The EXIF orientation is applied first. Colours are converted to sRGB by the picture's own
    profile (ICC). Transparent parts become white. Reduction is antialiased (Lanczos over every
    source pixel).

    Args:
        image: A file of one of `.still.FORMATS`, a picture of Pillow, or uint8 pixels
            (`loopy.data.media.still.of_pixels`). Of an animation, the first picture.
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
    if min(upright.size) < SMALLEST_PX:
        width, height = upright.size
        raise MediaError(f"{name} is {width} x {height} px; give at least 16 px on each side")
    square = square_in(upright.size, box, name)
    if warn and box is None and max(upright.size) > LOPSIDED * min(upright.size):
        (width, height), side = upright.size, min(upright.size)
        warnings.warn(
            f"{name} is {width} x {height} px and no box is given: its middle square is used, "
            f"{' '.join(f'{edge:g}' for edge in square)}; where that cuts the head give another, "
            f"as in --box '0 0 {side} {side}'",
            stacklevel=3,
        )
    pixels = np.array(upright.resize((size_px, size_px), Image.Resampling.LANCZOS, box=square))
    return from_pixels(torch.from_numpy(pixels).permute(2, 0, 1))
