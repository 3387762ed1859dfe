"""The square of a picture that shows one face as training showed faces, and its way back."""

from collections.abc import Iterator, Sequence
from itertools import product
from math import degrees, radians
from typing import cast

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn.functional import interpolate

from loopy.errors import FaceNotFoundError, MediaError
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
    that fills it; brightened; in overlapping tiles of a half to a sixteenth of its side, for small
    faces. So where a large face is found, small ones beside it may not be.
    """
    for faces in _looks(picture, mesh):
        if faces:
            return sorted(faces, key=lambda face: -face.area)
    return []


def _looks(picture: Picture, mesh: FaceMesh) -> Iterator[list[Face]]:
    """The faces of each attempt."""
    yield mesh(picture)
    yield mesh(picture, room=2.0)
    table = ((torch.arange(256) / 255) ** GAMMA * 255).to(torch.uint8)
    yield mesh(table[picture.int()])
    for halvings in (1, 2, 3, 4):
        faces, side = list[Face](), max(picture.shape[:2]) >> halvings
        for view, top, left in _tiles(picture, side) if side >= SMALLEST_TILE_PX else []:
            for face in mesh(view):
                moved = Face(face.score, face.mesh + face.mesh.new_tensor([left, top, 0]))
                if not any(map(moved.overlaps, faces)):
                    faces.append(moved)
        yield faces


def _tiles(picture: Picture, side: int) -> list[tuple[Picture, int, int]]:
    """Parts of a picture with their tops and lefts; neighbours share half."""
    spans = [
        sorted({*range(0, max(length - side, 0), side // 2), max(length - side, 0)})
        for length in picture.shape[:2]
    ]
    return [(picture[y : y + side, x : x + side], y, x) for y, x in product(*spans)]


def face_square(
    size: tuple[int, int],
    faces: Sequence[Face],
    *,
    name: str = "the picture",
    face: int = 0,
    options: CropOptions = CropOptions(),  # noqa: B008 (frozen)
) -> Box:
    """The square around a face, by the rule by which shots of training are cropped.

    Args:
        size: Width and height of the upright picture.
        faces: From `find_faces`.
        name: For messages.
        face: Which one; 0 is the largest.
        options: Room around it.

    Raises:
        FaceNotFoundError: No face, none of that number, one that is too small, turned or mostly
            outside.
    """
    width, height = size
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
            "it is upright, give another, or name its place (--box)"
        )
    face_px = (points.amax(0) - points.amin(0)).amax().item()
    if face_px < SMALLEST_PX:
        raise FaceNotFoundError(
            f"the face in {name} is {face_px:.0f} px large, which shows too little of it; give a "
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
        picture: The whole picture, RGB. Of an odd side the last row or column is left out, as
            codecs want it.
        box: The square, left, top, right, bottom in its pixels.

    Raises:
        MediaError: The box is not inside the picture.
    """

    def __init__(self, picture: Picture, box: tuple[float, float, float, float]) -> None:
        height, width = (side - side % 2 for side in picture.shape[:2])
        left, top, side = round(box[0]), round(box[1]), round(box[2] - box[0])
        inside = 0 <= left < width and 0 <= top < height
        if side < 1 or not inside or left + side > width + 1 or top + side > height + 1:
            raise MediaError(f"box {box} is not inside the picture of {width} x {height} px")
        self._picture = picture[:height, :width]
        self._side = side
        self._place = slice(top, min(top + side, height)), slice(left, min(left + side, width))
        edges = [top == 0, top + side >= height, left == 0, left + side >= width]
        rows, columns = self._picture[self._place].shape[:2]
        self._mask = feather_mask(side, edges)[:rows, :columns, None]

    def __call__(self, frames: UInt8[Tensor, "f s s 3"]) -> UInt8[Tensor, "f h w 3"]:
        """Whole pictures with the frames in their place, fading into what is around them."""
        pasted = self._picture.expand(len(frames), -1, -1, -1).clone()
        behind = self._picture[self._place].float()
        rows, columns = self._mask.shape[:2]
        for frame, whole in zip(frames, pasted, strict=True):  # one patch in memory at a time
            small = frame.permute(2, 0, 1)[None].float()
            size = (self._side, self._side)
            patch = interpolate(small, size=size, mode="bicubic", antialias=True)[0]
            patch = patch.permute(1, 2, 0)[:rows, :columns]
            mixed = torch.lerp(behind, patch, self._mask)
            whole[self._place] = mixed.round().clamp(0, 255).to(torch.uint8)
        return pasted


def feather_mask(side: int, edges: Sequence[bool] = (False,) * 4) -> Float[Tensor, "h w"]:
    """One in the middle, down to zero at the borders by half a cosine.

    Args:
        side: Of the square, in pixels.
        edges: Whether its top, bottom, left and right are the picture's own: nothing is beyond them
            to fade into.
    """
    near = (torch.arange(side) + 0.5) / (FEATHER * side)
    fade = 0.5 - 0.5 * torch.cos(torch.pi * near.clamp(max=1))
    whole = torch.ones(side)
    top, bottom, left, right = (whole if edge else fade for edge in edges)
    return (top * bottom.flip(0))[:, None] * (left * right.flip(0))
