"""The square of a picture that shows one face as training showed faces, and its way back."""

from itertools import product
from math import degrees, radians
from typing import cast

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn.functional import interpolate

from loopy.errors import FaceNotFoundError
from loopy.faces.framing import Box, CropOptions, square_box
from loopy.faces.mesh import Face, FaceMesh

SMALLEST_PX = 32
"""Of a face, its longer side; smaller ones are a few brushes of colour."""
INSIDE = 0.7
"""Share of a face's points that are in the picture."""
MOST_ROLL = radians(50)
GAMMA = 0.45
"""Brightens a dark picture."""
SMALLEST_TILE_PX = 128
FEATHER = 0.08
"""Share of the square's side over which a pasted picture fades in."""

Picture = UInt8[Tensor, "h w 3"]


def find_faces(picture: Picture, mesh: FaceMesh) -> list[Face]:
    """The faces of a picture, largest first, also small, very large and dark ones.

    Tried in this order until a face is found: the picture; with a border around it, for a face
    that fills it; brightened; in overlapping tiles of a half to a sixteenth of its side,
    for small faces.
    """
    height, width, _ = picture.shape
    border = max(height, width) // 2
    padded = picture.new_zeros(height + 2 * border, width + 2 * border, 3)
    padded[border : border + height, border : border + width] = picture
    bright = ((picture / 255) ** GAMMA * 255).to(torch.uint8)
    levels = [max(height, width) >> halvings for halvings in (1, 2, 3, 4)]
    attempts = (
        [(picture, 0, 0)],
        [(padded, -border, -border)],
        [(bright, 0, 0)],
        *(_tiles(picture, side) for side in levels if side >= SMALLEST_TILE_PX),
    )
    for views in attempts:
        faces = list[Face]()
        for view, top, left in views:
            for face in mesh(view):
                moved = Face(face.score, face.mesh + face.mesh.new_tensor([left, top, 0]))
                if not any(moved.overlaps(other) for other in faces):
                    faces.append(moved)
        if faces:
            return sorted(faces, key=lambda face: -face.area)
    return []


def _tiles(picture: Picture, side: int) -> list[tuple[Picture, int, int]]:
    """Parts of a picture with their tops and lefts; neighbours share half."""
    spans = [
        sorted({*range(0, max(length - side, 0), side // 2), max(length - side, 0)})
        for length in picture.shape[:2]
    ]
    return [(picture[y : y + side, x : x + side], y, x) for y, x in product(*spans)]


def face_square(
    picture: Picture,
    mesh: FaceMesh,
    *,
    name: str = "the picture",
    face: int = 0,
    options: CropOptions = CropOptions(),  # noqa: B008 (frozen)
) -> Box:
    """The square around a face, by the rule by which shots of training are cropped.

    Args:
        picture: Upright RGB.
        mesh: What finds faces.
        name: For messages.
        face: Which one; 0 is the largest.
        options: Room around it.

    Raises:
        FaceNotFoundError: No face, none of that number, one that is too small or mostly outside.
    """
    height, width, _ = picture.shape
    faces = find_faces(picture, mesh)
    if not faces:
        raise FaceNotFoundError(
            f"no face was found in {name} of {width} x {height} px, in parts of it, or brightened; "
            "give a picture of one, name its place (--box), or take the middle (--crop center)"
        )
    if not 0 <= face < len(faces):
        raise FaceNotFoundError(
            f"{name} has {len(faces)} faces, numbered from 0, the largest, and none is number "
            f"{face}; loopy faces show lists them"
        )
    points, roll = faces[face].points, faces[face].pose[2].abs().item()
    if roll > MOST_ROLL:
        raise FaceNotFoundError(
            f"the head in {name} is turned by {degrees(roll):.0f} degrees; turn the picture until "
            "it is upright, or name its place (--box)"
        )
    size = (points.amax(0) - points.amin(0)).amax().item()
    if size < SMALLEST_PX:
        raise FaceNotFoundError(
            f"the face in {name} is {size:.0f} px large, which shows too little of it; give a "
            f"picture in which it has {SMALLEST_PX} px or more, or name its place (--box)"
        )
    inside = ((points >= 0) & (points < points.new_tensor([width, height]))).all(1).float().mean()
    if inside < INSIDE:
        raise FaceNotFoundError(
            f"{1 - inside.item():.0%} of the face in {name} lie outside of the picture; give one "
            "that shows it whole, or name a place (--box)"
        )
    square = square_box(points[None], width_px=width, height_px=height, options=options)
    return cast("Box", square)  # a face has points


class PasteBack:
    """Puts frames of a square back into the picture that it was cut from.

    Args:
        picture: The whole picture, RGB.
        box: The square, left, top, right, bottom in its pixels.
    """

    def __init__(self, picture: Picture, box: tuple[float, float, float, float]) -> None:
        height, width, _ = picture.shape
        self._picture = picture[: height - height % 2, : width - width % 2]  # as codecs want it
        left, top, right, bottom = (round(edge) for edge in box)
        self._place = (slice(top, bottom), slice(left, right))
        self._behind = picture[self._place].float()
        self._mask = feather_mask(bottom - top, right - left)[..., None]

    def __call__(self, frames: UInt8[Tensor, "f s s 3"]) -> UInt8[Tensor, "f h w 3"]:
        """Whole pictures with the frames in their place, fading into what is around them."""
        size = self._mask.shape[:2]
        small = frames.permute(0, 3, 1, 2).float()
        patch = interpolate(small, size=size, mode="bicubic", antialias=True).permute(0, 2, 3, 1)
        mixed = torch.lerp(self._behind, patch, self._mask).round().clamp(0, 255).to(torch.uint8)
        height, width, _ = self._picture.shape
        pasted = self._picture.expand(len(frames), -1, -1, -1).clone()
        rows, columns = self._place
        pasted[:, rows, columns] = mixed[:, : height - rows.start, : width - columns.start]
        return pasted


def feather_mask(height: int, width: int) -> Float[Tensor, "h w"]:
    """One in the middle, down to zero at the borders by half a cosine."""
    ramps = []
    for length in (height, width):
        near = torch.minimum(torch.arange(length) + 0.5, length - torch.arange(length) - 0.5)
        ramps.append(0.5 - 0.5 * torch.cos(torch.pi * (near / (FEATHER * length)).clamp(max=1)))
    return ramps[0][:, None] * ramps[1]
