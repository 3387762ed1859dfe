"""Any picture of a user to the square portrait that the model takes: by face, box or middle."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from math import isfinite
from os import PathLike
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from loopy.data.media.still import Portrait, decoding, opened, upright_srgb
from loopy.errors import ConfigurationError, FaceNotFoundError, MediaError
from loopy.faces.mesh import FaceMesh
from loopy.faces.networks import installed, models_folder
from loopy.faces.portraits import face_square, find_faces
from loopy.pixels import from_pixels
from loopy.typed_values import check_number

Box = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels of the upright picture."""
Crop = Literal["face", "center", "none"]
"""How the square of a picture is found, see `frame_portrait`."""
SMALLEST_PX = 16
LOPSIDED = 1.25
"""Of a picture whose sides differ by more, the middle square may lack a part of the head."""


@dataclass(frozen=True, eq=False)
class FramedPortrait:
    """A picture, and the square of it that the model takes.

    Args:
        picture: Upright, in sRGB, without transparency.
        square: Left, top, right, bottom in its pixels.
    """

    picture: Image.Image
    square: Box

    @property
    def is_middle(self) -> bool:
        """Whether the square is the largest one in the middle."""
        return self.square == square_in(self.picture.size, None, "the picture")

    def pixels(self) -> UInt8[Tensor, "h w 3"]:
        """The whole picture."""
        return torch.from_numpy(np.array(self.picture))

    def cut(self, size_px: int) -> Float[Tensor, "3 H W"]:
        """The square in [-1, 1], antialiased (Lanczos over every source pixel)."""
        size = (size_px, size_px)
        pixels = self.picture.resize(size, Image.Resampling.LANCZOS, box=self.square)
        return from_pixels(torch.from_numpy(np.array(pixels)).permute(2, 0, 1))


def frame_portrait(
    image: Portrait,
    *,
    box: Box | None = None,
    crop: Crop = "face",
    face: int = 0,
    drawn: bool = False,
) -> FramedPortrait:
    """Finds the square of a picture that shows a face as the shots of training show it.

    Args:
        image: A file of one of the `PICTURE_FORMATS`, a picture of Pillow, or uint8 pixels
            (`of_pixels`). Of an animation, the first picture. See `upright_srgb` for orientation,
            colours and transparency.
        box: A place that is named goes before all else: a square to cut out, see `square_in`.
        crop: "face": around a face, where ``loopy faces install`` was run, else the middle;
            "center": the largest square in the middle; "none": the picture, which is square.
        face: Which face; 0 is the largest, `loopy faces show` lists them.
        drawn: Faces may be drawn ones, that estimators of faces do not know: where no face can be
            used the middle is taken, with a warning unless the picture is nearly square.

    Raises:
        ConfigurationError: Another word for the crop, or a face is asked for where none is looked
            for.
        MediaError: No such file, a folder, empty, not a picture or of another format or type,
            damaged, larger than Pillow's limit, smaller than 16 px, of floating point pixels, a
            box outside the picture, or one that is not square with ``crop="none"``.
        FaceNotFoundError: No face that can be used, with "face".
    """
    if crop not in get_args(Crop):
        raise ConfigurationError(f"crop is {crop!r:.80}, expected one of {get_args(Crop)}")
    check_number("face", face, least=0)
    if face and (box is not None or crop != "face" or not installed()):
        raise ConfigurationError(
            f"face {face} is asked for, and no face is looked for: run loopy faces install, and "
            "give neither a box nor another crop"
        )
    name = f"picture {image}" if isinstance(image, str | PathLike) else "picture"
    loaded = opened(image, name)
    with decoding(name):
        upright = upright_srgb(loaded)
    (width, height), side = upright.size, min(upright.size)
    if side < SMALLEST_PX:
        raise MediaError(f"{name} is {width} x {height} px; give at least 16 px on each side")
    if crop == "none" and box is None and width != height:
        raise MediaError(f"{name} is {width} x {height} px, not square; cut it, or give a box")
    middle = FramedPortrait(upright, square_in(upright.size, box, name))
    if box is not None or crop != "face":
        return middle
    if not installed():
        if max(width, height) > LOPSIDED * side:
            warnings.warn(
                f"{name} is {width} x {height} px: its middle square is used, "
                f"{' '.join(f'{edge:g}' for edge in middle.square)}; run `loopy faces install` to "
                f"find the face, or give another square, as in --box '0 0 {side} {side}'",
                stacklevel=3,
            )
        return middle
    faces = find_faces(middle.pixels(), _mesh())
    try:
        return FramedPortrait(upright, face_square(upright.size, faces, name=name, face=face))
    except FaceNotFoundError as error:
        if face or not drawn:
            raise
        if faces or max(width, height) > LOPSIDED * side:
            warnings.warn(f"{error}; its middle square is used", stacklevel=3)
        return middle


def read_portrait(
    image: Portrait, *, size_px: int, box: Box | None = None
) -> Float[Tensor, "3 H W"]:
    """Loads a portrait, upright and square: a box of it, or the middle.

    Args:
        image: See `frame_portrait`.
        size_px: Side of the result.
        box: Square to cut out, see `square_in`; None takes the largest centred one.

    Returns:
        RGB in [-1, 1], height and width ``size_px``.

    Raises:
        ConfigurationError: ``size_px`` is no side of a picture.
        MediaError: See `frame_portrait`.
    """
    check_number("size_px", size_px, least=1, most=8192)
    return frame_portrait(image, box=box, crop="center").cut(size_px)


@cache
def _mesh() -> FaceMesh:
    return FaceMesh(models_folder(), iris=False)


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
