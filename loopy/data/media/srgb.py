"""A picture of any mode, depth, orientation and colour profile as upright sRGB on white."""

from io import BytesIO

import numpy as np
from PIL import Image, ImageCms

ROWS_AT_ONCE = 512
"""Converted at once: whole copies of the largest picture would take 1.4 GB."""
ORIENTATION = 0x0112
TRANSPOSES = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What undoes an orientation of EXIF (CIPA DC-008, 4.6.5.1.6)."""
SPACES = {"L": b"GRAY", "RGB": b"RGB ", "CMYK": b"CMYK", "LAB": b"Lab "}
"""Colour space of a profile that fits a mode: bytes 16 to 19 (ICC.1:2022, 7.2.8)."""


def upright_srgb(image: Image.Image) -> Image.Image:
    """Turns a picture upright, converts it by its own profile, and lays it on white.

    A profile or an EXIF block that is damaged, or of another kind of picture, counts as none. In
    grey of 16 bits the range of values is that of the type.

    Raises:
        ValueError: Its pixels are floating point.
    """
    if image.mode == "F":
        raise ValueError("its pixels are floating point, of unknown range")
    turn = TRANSPOSES.get(_orientation(image))
    upright = image if turn is None else image.transpose(turn)
    to_srgb, (width, height) = _transform(image), upright.size
    result = Image.new("RGB", upright.size)
    for top in range(0, height, ROWS_AT_ONCE):
        part = upright.crop((0, top, width, min(top + ROWS_AT_ONCE, height)))
        result.paste(_on_white(part, to_srgb), (0, top))
    return result


def _orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(ORIENTATION, 1)
    except Exception:  # of damaged EXIF, in any way: the picture is whole, and shown as it lies
        return 1


def _transform(image: Image.Image) -> ImageCms.ImageCmsTransform | None:
    """From the embedded profile to sRGB; None where there is nothing to convert by."""
    profile, mode = image.info.get("icc_profile"), _colour_mode(image)
    if not isinstance(profile, bytes) or profile[16:20] != SPACES[mode]:
        return None
    try:
        embedded = ImageCms.ImageCmsProfile(BytesIO(profile))
        return ImageCms.buildTransform(embedded, ImageCms.createProfile("sRGB"), mode, "RGB")
    except (ImageCms.PyCMSError, OSError):
        return None


def _colour_mode(image: Image.Image) -> str:
    """The mode of an image's colours, without transparency, 8 bits each."""
    if image.mode in ("CMYK", "LAB"):
        return image.mode
    return "L" if image.mode[0] in "1LI" else "RGB"


def _on_white(image: Image.Image, to_srgb: ImageCms.ImageCmsTransform | None) -> Image.Image:
    mode, alpha = _colour_mode(image), None
    if image.mode.startswith("I"):
        image, alpha = _eight_bits(image)
    elif image.has_transparency_data:
        image = image.convert("RGBA")  # of grey, all three colours are the same
        alpha = image.getchannel("A")
        image = image.getchannel("R") if mode == "L" else image
    colours = image.convert(mode)
    colours = colours.convert("RGB") if to_srgb is None else to_srgb.apply(colours)
    if alpha is None:
        return colours
    colours.putalpha(alpha)
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), colours).convert("RGB")


def _eight_bits(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """Grey and transparency of 16 bits, in whichever byte order or container."""
    deep = np.asarray(image).clip(0, 65535).astype(np.uint32)
    grey = Image.fromarray(((deep + 128) // 257).astype(np.uint8))
    clear = image.info.get("transparency")
    if not isinstance(clear, int):
        return grey, None
    return grey, Image.fromarray(np.where(deep == clear, 0, 255).astype(np.uint8))
