"""Faces of `tools.judges.soft_portrait`: relief, light, and features of natural size."""

import torch
from jaxtyping import Float
from torch import Tensor

from tools.judges.scenery import uniform

Field = Float[Tensor, "n H W"]
Places = dict[str, Float[Tensor, "n 1 1"]]

SPANS = {
    "width": (0.34, 0.50), "height": (0.48, 0.66), "ear": (0.08, 0.14), "turn": (-0.09, 0.09),
    "eye_x": (0.13, 0.20), "eye_y": (-0.14, 0.02), "eye_w": (0.045, 0.085),
    "eye_h": (0.010, 0.042), "brow_y": (0.06, 0.13), "nose_y": (0.10, 0.22),
    "mouth_y": (0.27, 0.38), "mouth_w": (0.09, 0.19),
}  # fmt: skip
"""Half sizes and places of a face, in half pictures around its middle."""


def places(n: int, draw: torch.Generator) -> Places:
    """Where the parts of n faces are, and how large."""
    return {name: uniform(n, *span, draw) for name, span in SPANS.items()}


def soft(inside: Field) -> Field:
    """Shares out of distances: 0.5 at the edge."""
    return (0.5 + inside).clamp(0, 1)


def lay(
    picture: Float[Tensor, "n 3 H W"], cover: Field, colour: Float[Tensor, "n 3"],
    light: Tensor | None = None,
) -> Float[Tensor, "n 3 H W"]:  # fmt: skip
    """A colour under a light over the pixels, by the given share."""
    lit = 1.0 if light is None else light[:, None]
    paint = (colour[:, :, None, None] * lit).clamp(0, 1)
    return torch.lerp(picture, paint, cover.clamp(0, 1)[:, None])


def shading(x: Field, y: Field, at: Places, draw: torch.Generator) -> Field:
    """Lambert's law under a lamp and the sky; about 1 where the face looks at the lamp."""
    n, side = len(x), x.shape[-1]
    down, across = torch.gradient(_relief(x, y, at, draw) * side / 2, dim=(1, 2))
    length = (1 + down.square() + across.square()).sqrt()
    lamp_x, lamp_y = uniform(n, -1.0, 1.0, draw), uniform(n, -1.2, 0.3, draw)
    shade = (1 - across * lamp_x - down * lamp_y) / length / (1 + lamp_x**2 + lamp_y**2).sqrt()
    sky = uniform(n, 0.15, 0.6, draw)
    lit = sky + (1.15 - sky) * shade.clamp(min=0)
    lit = lit + uniform(n, 0, 0.3, draw) * shade.clamp(0, 1) ** 24
    return torch.lerp(torch.ones_like(lit), lit, uniform(n, 0.4, 1.0, draw))


def _relief(x: Field, y: Field, at: Places, draw: torch.Generator) -> Field:
    """Height of the face over the picture: an ellipsoid with nose, sockets, cheeks, lips, chin."""
    n, middle = len(x), x - at["turn"]
    side = middle.abs() - at["eye_x"]
    bowl = (1 - (x / at["width"]).square() - (y / at["height"]).square()).clamp(min=0.01).sqrt()
    relief = bowl * uniform(n, 0.3, 0.6, draw)
    ridge = middle * (1.6 - 1.5 * (y - at["eye_y"]).clamp(0, 0.3))
    lips = y - at["mouth_y"]
    bumps = (
        (ridge, 0.05, y - 0.6 * at["nose_y"], 0.14, (0.05, 0.14)),
        (middle, 0.06, y - at["nose_y"], 0.05, (0.02, 0.08)),
        (side, 0.08, y - at["eye_y"], 0.06, (-0.07, -0.02)),
        (side, 0.10, y - at["eye_y"] + at["brow_y"], 0.04, (0.0, 0.04)),
        (middle.abs() - 0.24, 0.09, y - 0.13, 0.09, (0.0, 0.05)),
        (middle.abs() - 0.15, 0.025, y - 0.25, 0.08, (-0.02, 0.0)),
        (middle, at["mouth_w"] * 0.7, lips, 0.05, (0.0, 0.04)),
        (middle, at["mouth_w"] * 0.7, lips, 0.012, (-0.03, 0.0)),
        (middle, 0.10, lips - 0.15, 0.06, (0.0, 0.05)),
    )
    for across, wide, down, tall, strength in bumps:
        relief = relief + uniform(n, *strength, draw) * _bell(across, wide) * _bell(down, tall)
    return relief


def paint_features(
    picture: Float[Tensor, "n 3 H W"], x: Field, y: Field, at: Places, skin: Tensor, hair: Tensor,
    light: Field, strands: Field, draw: torch.Generator,
) -> Float[Tensor, "n 3 H W"]:  # fmt: skip
    """Beard, brows, eyes, nostrils, mouth and glasses, of those who have them."""
    n, middle = len(x), x - at["turn"]
    side, level = middle.abs() - at["eye_x"], y - at["eye_y"]

    def share(low: float, high: float) -> Tensor:
        return uniform(n, low, high, draw)

    chin = soft(8 * (y - 0.1)) * soft(8 * (0.42 - middle.abs())) * soft(10 * (0.6 - y))
    beard = chin * share(-2, 0.8).clamp(min=0) * (0.7 + 0.3 * strands).clamp(0, 1)
    picture = lay(picture, beard, hair, light)
    arch = level + at["brow_y"] + share(0.5, 4) * side.square() - share(-0.3, 0.3) * side
    brow = _bell(side, 0.09) * _bell(arch, share(0.010, 0.03)) * (0.8 + 0.4 * strands)
    picture = lay(picture, brow.clamp(0, 1) * share(0.2, 0.95), hair * 0.8, light)

    lid = 1 - (side / at["eye_w"]).square()
    slit = soft(60 * (at["eye_h"] * lid - level.abs())) * (lid > 0)
    white = torch.lerp(skin, torch.ones_like(skin), 0.7) * share(0.5, 0.95)[:, 0]
    picture = lay(picture, slit, white, light)
    gaze = ((side - share(-0.02, 0.02)).square() + level.square()).sqrt()
    iris = torch.rand(n, 3, generator=draw) * share(0, 0.4)[:, 0]
    picture = lay(picture, slit * soft(60 * (share(0.022, 0.04) - gaze)), iris)
    crease = _bell(level + at["eye_h"] * lid, 0.012) * (lid > -0.2)
    picture = lay(picture, crease * share(0.2, 0.9), skin * 0.25, light)

    wing = _bell(middle.abs() - share(0.03, 0.05), 0.014) * _bell(y - at["nose_y"] - 0.04, 0.012)
    picture = lay(picture, wing * share(0.2, 0.9), skin * 0.2, light)
    width = 1 - (middle / at["mouth_w"]).square()
    curve = y - at["mouth_y"] - share(-1.0, 1.5) * (middle.square() - at["mouth_w"].square())
    lips = soft(60 * (share(0.015, 0.05) * width - curve.abs())) * (width > 0)
    rosy = torch.lerp(skin, torch.tensor([0.65, 0.2, 0.22]), share(0.1, 0.8)[:, 0])
    picture = lay(picture, lips * share(0.3, 0.9), rosy * 0.85, light)
    gap = share(-0.03, 0.05).clamp(min=0.006) * width
    mouth = soft(60 * (gap - curve.abs())) * (width > 0)
    picture = lay(picture, mouth * 0.85, skin * share(0.05, 0.4)[:, 0])
    teeth = mouth * soft(60 * (share(-0.02, 0.02) - curve)) * (gap > 0.012)
    picture = lay(picture, teeth * (share(-1, 1) > 0), torch.full_like(skin, 0.8))

    ring = _bell(((side / 1.3).square() + level.square()).sqrt() - share(0.08, 0.11), 0.008)
    bridge = _bell(level + 0.02, 0.008) * (side < -0.08)
    frame = torch.maximum(ring, bridge) * (share(0, 1) < 0.2)
    return lay(picture, frame * 0.8, torch.rand(n, 3, generator=draw) * 0.4)


def _bell(distance: Field, width: Tensor | float) -> Field:
    return torch.exp(-0.5 * (distance / width).square())
