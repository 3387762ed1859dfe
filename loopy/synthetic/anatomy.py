"""Where the parts of a toon head are in a frame; the renderer and the 68 points both ask here.

The head frame has its origin in the middle of the head, x to the right of the picture, y down, in
half pictures. Face parts sit on a sphere that yaw and pitch turn; the outline of the head stays.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from loopy.synthetic.identity import Identity

CONTROLS = (
    "open", "wide", "round", "teeth", "smile", "blink", "gaze_x", "gaze_y", "brow",
    "yaw", "pitch", "roll", "shift_x", "shift_y",
)  # fmt: skip
HEAD_Y = -0.08
PIVOT_Y = 0.50
TURN = 0.85
PITCH_TURN = 0.7


@dataclass(frozen=True)
class Patch:
    """A flat part of the face after turning: its middle and its foreshortening."""

    x: Float[Tensor, "n"]
    y: Float[Tensor, "n"]
    x_scale: Float[Tensor, "n"]
    y_scale: Float[Tensor, "n"]

    def local(self, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Coordinates on the part of pixels given in the head frame."""
        return (
            (u - self.x[:, None, None]) / self.x_scale[:, None, None],
            (v - self.y[:, None, None]) / self.y_scale[:, None, None],
        )


@dataclass(frozen=True)
class Mouth:
    """Opening and lips; the curves run over t in [-1, 1] from the left corner to the right.

    Attributes:
        half_width: Half width of the opening.
        rise, fall: Reach of the opening above and below the mouth line.
        smile: -1 bends the corners down, 1 up.
        lip: Thickness of the lips.
    """

    half_width: Float[Tensor, "n"]
    rise: Float[Tensor, "n"]
    fall: Float[Tensor, "n"]
    smile: Float[Tensor, "n"]
    lip: Float[Tensor, "n"]

    @property
    def outer_half_width(self) -> Float[Tensor, "n"]:
        """Half width between the outer corners of the lips."""
        return self.half_width + 0.9 * self.lip

    @property
    def outer_rise(self) -> Float[Tensor, "n"]:
        """Height of the upper lip's outer edge above the mouth line."""
        return self.rise + 0.9 * self.lip

    @property
    def outer_fall(self) -> Float[Tensor, "n"]:
        """Depth of the lower lip's outer edge below the mouth line."""
        return self.fall + 1.2 * self.lip

    @staticmethod
    def arch(t: Tensor) -> Tensor:
        """1 in the middle, 0 in the corners, fuller than a parabola."""
        square = t.square()
        return (1 - square) * (1 + 0.35 * square)

    def middle(self, t: Tensor) -> Tensor:
        """Height of the mouth line, which a smile bends."""
        return self.smile.view(-1, *[1] * (t.ndim - 1)) * (0.02 - 0.06 * t.square())


@dataclass(frozen=True)
class Anatomy:
    """All parts of n heads in the head frame, and where that frame lies in the picture.

    Attributes:
        origin_x, origin_y: Where the pivot below the chin lies in the picture.
        turn, nod: Angles by which the face parts travel over the sphere.
        jaw: Lower end of the chin.
        lean: How far the chin leans into the turn.
        lid: 1 for open eyes, 0 for closed ones.
        brow_y: Height of the brows relative to the eyes.
    """

    origin_x: Float[Tensor, "n"]
    origin_y: Float[Tensor, "n"]
    roll: Float[Tensor, "n"]
    turn: Float[Tensor, "n"]
    nod: Float[Tensor, "n"]
    jaw: Float[Tensor, "n"]
    lean: Float[Tensor, "n"]
    left_eye: Patch
    right_eye: Patch
    lid: Float[Tensor, "n"]
    brow_y: Float[Tensor, "n"]
    bridge: Patch
    tip: Patch
    nostrils: Patch
    mouth_patch: Patch
    mouth: Mouth

    def to_head(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Picture coordinates of pixels to the head frame."""
        cos, sin = self.roll.cos()[:, None, None], self.roll.sin()[:, None, None]
        x = x - self.origin_x[:, None, None]
        y = y - self.origin_y[:, None, None]
        return cos * x + sin * y, cos * y - sin * x + PIVOT_Y

    def to_picture(self, points: Float[Tensor, "n k 2"]) -> Float[Tensor, "n k 2"]:
        """Points of the head frame to picture coordinates."""
        cos, sin = self.roll.cos()[:, None], self.roll.sin()[:, None]
        x, y = points[..., 0], points[..., 1] - PIVOT_Y
        return torch.stack(
            [
                cos * x - sin * y + self.origin_x[:, None],
                sin * x + cos * y + self.origin_y[:, None],
            ],
            -1,
        )


def place(identity: Identity, controls: Float[Tensor, "n 14"]) -> Anatomy:
    """Turns traits and controls into positions."""
    value = dict(zip(CONTROLS, controls.unbind(1), strict=True))
    half_width, half_height = identity.head[:, 0], identity.head[:, 1]
    turn, nod = TURN * value["yaw"], PITCH_TURN * value["pitch"]

    def patch(x: Tensor, y: Tensor, lift: float = 0.0) -> Patch:
        latitude = (y / half_height).clamp(-0.95, 0.95).asin()
        radius = half_width * latitude.cos()
        longitude = (x / radius).clamp(-0.95, 0.95).asin()
        return Patch(
            radius * (longitude + turn).sin() + lift * turn.sin(),
            half_height * (latitude + nod).sin() + lift * nod.sin(),
            ((longitude + turn).cos() / longitude.cos()).clamp(min=0.4),
            ((latitude + nod).cos() / latitude.cos()).clamp(min=0.5),
        )

    eye_x, eye_y = identity.eyes[:, 2], -identity.eyes[:, 3]
    nose_y = eye_y + identity.nose[:, 1]
    middle = torch.zeros_like(eye_x)
    rest, lip, mouth_y = identity.mouth.unbind(1)
    opening = value["open"] + 0.12 * value["teeth"] * (1 - value["open"])
    mouth = Mouth(
        half_width=(
            rest * (1 + 0.28 * value["wide"] - 0.45 * value["round"] + 0.10 * value["smile"])
        ).clamp(min=0.06),
        rise=0.004 + 0.030 * opening + 0.014 * value["round"],
        fall=0.007 + 0.180 * opening + 0.016 * value["round"],
        smile=value["smile"] - 0.2 * value["round"],
        lip=lip * (1 + 0.35 * value["round"] - 0.15 * value["wide"]),
    )
    return Anatomy(
        origin_x=2 * value["shift_x"],
        origin_y=2 * value["shift_y"] + HEAD_Y + PIVOT_Y,
        roll=value["roll"],
        turn=turn,
        nod=nod,
        jaw=half_height * (1 + 0.055 * value["open"]) + 0.06 * nod.sin(),
        lean=0.14 * turn.sin(),
        left_eye=patch(-eye_x, eye_y),
        right_eye=patch(eye_x, eye_y),
        lid=1 - value["blink"],
        brow_y=-identity.eyes[:, 1] - 0.055 - 0.035 * value["brow"],
        bridge=patch(middle, eye_y, lift=0.02),
        tip=patch(middle, nose_y, lift=0.09),
        nostrils=patch(middle, nose_y + 0.045, lift=0.05),
        mouth_patch=patch(middle, mouth_y, lift=0.03),
        mouth=mouth,
    )


def lids(identity: Identity, anatomy: Anatomy) -> tuple[Tensor, Tensor]:
    """Heights of the upper and of the lower lid above and below the eye's middle."""
    height = identity.eyes[:, 1]
    return height * (1.35 * anatomy.lid - 0.35), height * (0.75 - 0.4 * (1 - anatomy.lid))


def brow_curve(identity: Identity, out: Tensor) -> Tensor:
    """Height of the brow over its way out, from -1 (nose) to 1 (temple)."""
    shape = (-1, *[1] * (out.ndim - 1))
    arch, slant = identity.brows[:, 1].view(shape), identity.brows[:, 2].view(shape)
    return arch * (out.square() - 0.6) + slant * out
