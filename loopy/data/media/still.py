"""The still pictures of users: one list of formats, typed errors, upright sRGB on white."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from os import PathLike
from pathlib import Path

import numpy as np
from jaxtyping import Shaped
from PIL import Image, ImageCms, UnidentifiedImageError
from torch import Tensor

from loopy.data.media.container import existing_file
from loopy.errors import MediaError
from loopy.paths import AnyPath

PICTURE_FORMATS = (
    *("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM", "ICO"),
    "TGA",  # the last: it has no mark at its start, and is guessed
)
"""What a file may be, by Pillow's names: nothing that starts a program, and no rarities.

JPEG stands for MPO too, which is several of them."""
STARTS_A_PROGRAM = ("EPS", "WMF")
"""Pillow hands them to Ghostscript, or to Windows."""
HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
"""Of the file type box, ISO/IEC 23008-12 annex B and 10.2."""

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

Portrait = AnyPath | Image.Image | Shaped[np.ndarray, "..."] | Shaped[Tensor, "..."]
"""A still picture in any form: a file, a picture of Pillow, or uint8 pixels as gradio, OpenCV (its
blue and red exchanged first) and torchvision give them: `of_pixels`."""
ACCEPTED = (
    "a file, a picture of Pillow, or pixels of 0 to 255 in uint8 as a numpy array or torch tensor: "
    "(h, w, 3), (h, w, 4), (3, h, w), (4, h, w) or (h, w)"
)


def opened(portrait: Portrait, name: str) -> Image.Image:
    """A still picture of any form, with all its pixels in memory; `name` is for messages.

    No such file, another format, type or shape, a damaged one, or one larger than Pillow's limit is
    a MediaError.
    """
    if isinstance(portrait, str | PathLike):
        return _read(existing_file(portrait, "picture"), name)
    if isinstance(portrait, np.ndarray | Tensor):
        return of_pixels(portrait, name)
    if not isinstance(portrait, Image.Image):
        raise MediaError(f"{name} is of type {type(portrait).__name__}; give {ACCEPTED}")
    if portrait.format in STARTS_A_PROGRAM:
        raise MediaError(
            f"{name} is {portrait.format}, for which a program would start; save it as PNG or JPEG"
        )
    return portrait


def of_pixels(pixels: Shaped[np.ndarray, "..."] | Shaped[Tensor, "..."], name: str) -> Image.Image:
    """A picture of an array in memory; another type or shape is a MediaError.

    It holds uint8 of 0 to 255: red, green, blue and perhaps opacity, last or first, or grey alone.
    No side of a portrait is that short, so that the shape says which.
    """
    shape, dtype = tuple(pixels.shape), str(pixels.dtype).removeprefix("torch.")
    colours = [place for place in (2, 0) if len(shape) == 3 and shape[place] in (1, 3, 4)]
    if dtype != "uint8" or 0 in shape or not (colours or len(shape) == 2):
        raise MediaError(f"{name} is {dtype} of shape {shape}; give {ACCEPTED}")
    array = pixels.detach().cpu().numpy() if isinstance(pixels, Tensor) else pixels
    array = np.moveaxis(array, colours[0], 2) if colours else array[..., None]
    return Image.fromarray(np.ascontiguousarray(array.squeeze(2) if array.shape[2] == 1 else array))


def _read(path: Path, name: str) -> Image.Image:
    Image.init()
    formats = [each for each in PICTURE_FORMATS if each in Image.OPEN]
    with decoding(name):
        try:
            with Image.open(path, formats=formats) as file:
                bits = file.tile[0].args if file.tile else None
                file.load()
        except UnidentifiedImageError as error:
            with path.open("rb") as raw:
                start = raw.read(12)
            if start[4:8] == b"ftyp" and start[8:] in HEIC_BRANDS:
                raise ValueError("it is HEIC, which is not read here") from error
            known = f"{', '.join(PICTURE_FORMATS[:-1])} nor {PICTURE_FORMATS[-1]}"
            raise ValueError(f"it is damaged, or neither {known}") from error
        _scale_transparency(file, bits)
        return file


@contextmanager
def decoding(name: str) -> Iterator[None]:
    """Turns whatever Pillow makes of a damaged picture into a MediaError."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of Pillow, about odd metadata
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            yield
        except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
            raise MediaError(
                f"{name} has more pixels than the safe limit of Pillow "
                f"({Image.MAX_IMAGE_PIXELS}); shrink it first"
            ) from error
        except Exception as error:  # decoders of damaged files fail in any way
            reason = " ".join(str(error).split()) or type(error).__name__
            raise MediaError(f"{name} cannot be used ({reason}); save it as PNG or JPEG") from error


def _scale_transparency(image: Image.Image, bits: object) -> None:
    """Brings the transparent colour of a PNG (its tRNS, 11.3.2.1) to the 8 bits of its pixels.

    Pillow scales pixels of 2, 4 and three times 16 bits alone, so that none is transparent.
    """
    clear = image.info.get("transparency")
    if isinstance(clear, int) and bits in ("L;2", "L;4"):
        image.info["transparency"] = clear * (85 if bits == "L;2" else 17)
    elif isinstance(clear, tuple) and bits == "RGB;16B":
        image.info["transparency"] = tuple(value >> 8 for value in clear)


def upright_srgb(image: Image.Image) -> Image.Image:
    """Turns a picture upright, converts it by its own profile, and lays it on white.

    A profile or an EXIF block that is damaged, or of another kind of picture, counts as none. In
    grey of 16 bits the range of values is that of the type. Floating point is a ValueError.
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
