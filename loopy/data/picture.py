"""Any picture of a user to the square portrait the model sees."""

import struct
import warnings

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageOps
from torch import Tensor

from loopy.data.media import AnyPath, existing_file
from loopy.errors import MediaError

SMALLEST_PX = 16

Box = tuple[float, float, float, float]


def read_portrait(
    image: AnyPath | Image.Image, *, size_px: int, box: Box | None = None
) -> Float[Tensor, "3 H W"]:
    """Loads a portrait, upright and square, without ever stretching it.

    The EXIF orientation is applied first. Transparent parts become white. Reduction is antialiased
    (Lanczos over every source pixel).

    Args:
        image: A file that Pillow can open, or a picture already open. Of an animation, the first
            picture.
        size_px: Side of the result.
        box: Left, top, right, bottom in pixels of the upright picture. One that is not square grows
            about its centre to its longer side, is moved inside the picture, and shrinks only
            if the picture itself is too small. None takes the largest centred square.

    Returns:
        RGB in [-1, 1], height and width ``size_px``.

    Raises:
        MediaError: No such file, a folder, empty, not a picture, damaged, larger than Pillow's
            limit, smaller than 16 px, 32-bit floating point, or a box outside the picture.
    """
    if size_px < 1:
        raise MediaError(f"size_px is {size_px}; give a positive number of pixels")
    if isinstance(image, Image.Image):
        upright, name = _upright_rgb(image, "picture"), "picture"
    else:
        path, name = existing_file(image, "picture"), f"picture {image}"
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            try:
                with Image.open(path) as opened:
                    upright = _upright_rgb(opened, name)
            except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
                raise MediaError(
                    f"{name} has more pixels than the safe limit of Pillow "
                    f"({Image.MAX_IMAGE_PIXELS}); shrink it first"
                ) from error
            except OSError as error:
                raise MediaError(
                    f"{name} is not a picture Pillow can open; give png or jpg"
                ) from error
    square = _square(upright.size, box, name)
    pixels = np.array(upright.resize((size_px, size_px), Image.Resampling.LANCZOS, box=square))
    return torch.from_numpy(pixels).permute(2, 0, 1).float() / 127.5 - 1


def _upright_rgb(image: Image.Image, name: str) -> Image.Image:
    if min(image.size) < SMALLEST_PX:
        width, height = image.size
        raise MediaError(f"{name} is {width} x {height} px; give at least 16 px on each side")
    if image.mode == "F":
        raise MediaError(f"{name} has floating point pixels of unknown range; save 8 or 16 bit")
    try:
        image = ImageOps.exif_transpose(image)
        if image.mode.startswith("I"):  # 16 bits a pixel, whichever byte order or container
            deep = np.asarray(image, dtype=np.int64).clip(0, 65535)
            return Image.fromarray(((deep + 128) // 257).astype(np.uint8)).convert("RGB")
        if image.has_transparency_data:
            image = image.convert("RGBA")
            white = Image.new("RGBA", image.size, "white")
            return Image.alpha_composite(white, image).convert("RGB")
        return image.convert("RGB")
    except (OSError, SyntaxError, ValueError, IndexError, struct.error) as error:
        raise MediaError(f"{name} is damaged ({error}); save it again as png or jpg") from error


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
