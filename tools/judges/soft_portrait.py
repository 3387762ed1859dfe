"""Portraits that are no toons of ours: heads with relief under a light, small eyes, rough hair.

They stand in for photographs where a network has to learn what a toon is not. Nobody would take
one for a photograph; they share with photographs what sets those apart from toons: shading,
texture, proportions.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from tools.judges.scenery import coloured_fields, fields, leaves, pixels, uniform
from tools.judges.soft_face import Field, Places, lay, paint_features, places, shading, soft


def soft_portraits(n: int, side: int, draw: torch.Generator) -> Float[Tensor, "n 3 H W"]:
    """Draws n portraits in [-1, 1]; each is of its own proportions, light and place.

    Args:
        n: How many.
        side: Height and width.
        draw: The randomness.
    """
    x, y = _placed(n, side, draw)
    hair, skin, clothes = _colours(n, draw)
    at = places(n, draw)
    flat = _some(n, 0.15, draw)  # neither light nor texture
    pores, strands = (fields(n, side, draw, falls=span) for span in ((0.3, 1.3), (0.5, 1.2)))
    combed = 1 + (1 - flat) * (
        uniform(n, 0, 0.35, draw) * strands + uniform(n, -0.4, 0.4, draw) * x
    )
    light = shading(x, y, at, draw) * (1 + uniform(n, 0, 0.07, draw) * pores)
    light = torch.lerp(light, torch.ones_like(light), flat)

    crown = _crown(x, y, at, pores, draw) * (1 - _some(n, 0.12, draw))
    picture = lay(_ground(n, side, draw), crown, hair, combed)
    picture = _body(picture, x, y, skin, clothes, flat, draw)
    jaw = 1 - uniform(n, 0, 0.3, draw) * (y / at["height"]).clamp(0, 1)
    inside = 1 - ((x / (at["width"] * jaw)).square() + (y / at["height"]).square()).sqrt()
    ears = _oval(x.abs() - at["width"], y - 0.02, uniform(n, 0.03, 0.09, draw), at["ear"])
    picture = lay(picture, ears * soft(1 - 20 * crown), skin * 0.85, light)
    picture = lay(picture, soft(6 * inside), skin, light)
    picture = paint_features(picture, x, y, at, skin, hair, light, strands, draw)
    line = uniform(n, 0.55, 0.8, draw) * at["height"] + uniform(n, 0, 0.06, draw) * pores
    line = line + uniform(n, -0.3, 0.3, draw) * x - uniform(n, 0, 0.6, draw) * x.square()
    picture = lay(picture, soft(8 * (-y - line)) * soft(8 * (crown - 0.5)), hair, combed)
    return _exposed(picture, draw)


def _placed(n: int, side: int, draw: torch.Generator) -> tuple[Field, Field]:
    """Coordinates of a head that is near or far, aside, tilted, and no perfect oval."""
    x, y = pixels(side)
    size = torch.exp(uniform(n, -0.55, 0.6, draw))
    x, y = x - uniform(n, -0.25, 0.25, draw), y - uniform(n, -0.35, 0.2, draw)
    tilt = uniform(n, -0.25, 0.25, draw)
    x, y = (x * tilt.cos() + y * tilt.sin()) / size, (y * tilt.cos() - x * tilt.sin()) / size
    bend = fields(2 * n, side, draw, falls=(1.8, 2.5)) * uniform(2 * n, 0, 0.035, draw)
    return x + bend[:n], y + bend[n:]


def _colours(n: int, draw: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Hair, skin and clothes in [0, 1], each (n 3): those of people, and for some any."""
    light, dark = torch.tensor([0.93, 0.74, 0.62]), torch.tensor([0.30, 0.18, 0.12])
    skin = torch.lerp(light, dark, torch.rand(n, 1, generator=draw))
    black, fair = torch.tensor([0.09, 0.07, 0.06]), torch.tensor([0.72, 0.60, 0.42])
    hair = torch.lerp(black, fair, torch.rand(n, 1, generator=draw).square())
    people = torch.stack([hair, skin]) + 0.05 * torch.randn(2, n, 3, generator=draw)
    anything = torch.rand(2, n, 3, generator=draw)
    hair, skin = torch.lerp(people, anything, _some(n, 0.3, draw)[..., 0]).clamp(0, 1)
    return hair, skin, torch.rand(n, 3, generator=draw) ** 1.5


def _ground(n: int, side: int, draw: torch.Generator) -> Float[Tensor, "n 3 H W"]:
    """Behind them: a plain wall under uneven light, or anything at all."""
    x, y = pixels(side)
    across, down = uniform(n, -0.3, 0.3, draw), uniform(n, -0.3, 0.3, draw)
    light = 1 + across * x + down * y - uniform(n, 0, 0.3, draw) * (x.square() + y.square())
    light = light + uniform(n, 0, 0.04, draw) * fields(n, side, draw)
    wall = torch.rand(n, 3, 1, 1, generator=draw) * light[:, None]
    other = (leaves, coloured_fields)[int(torch.randint(2, (), generator=draw))](n, side, draw)
    return torch.lerp(wall, other, _some(n, 0.35, draw)[..., None]).clamp(0, 1)


def _crown(x: Field, y: Field, at: Places, pores: Field, draw: torch.Generator) -> Field:
    """Hair around the head, for some down to the shoulders; its edge is ragged."""
    n = len(x)
    ragged, long = uniform(n, 0, 0.07, draw) * pores, _some(n, 0.4, draw)
    width = at["width"] + uniform(n, 0.03, 0.22, draw) + long * uniform(n, 0, 0.12, draw)
    height = at["height"] * uniform(n, 0.95, 1.2, draw)
    top = _oval(x, y + uniform(n, 0.02, 0.18, draw), width, height, ragged)
    falls = _oval(x, y - uniform(n, 0.1, 0.5, draw), width, uniform(n, 0.6, 1.1, draw), ragged)
    return torch.maximum(top, falls * long)


def _body(
    picture: Tensor, x: Field, y: Field, skin: Tensor, clothes: Tensor, flat: Tensor,
    draw: torch.Generator,
) -> Tensor:  # fmt: skip
    """Neck and shoulders."""
    n, side = len(x), picture.shape[-1]
    top, broad = uniform(n, 0.62, 0.95, draw), uniform(n, 0.7, 1.1, draw)
    round_x, round_y = (x / broad).abs(), ((y - top - 0.6) / 0.7).clamp(max=0).abs()
    shoulders = soft(20 * (1 - (round_x**3 + round_y**3) ** (1 / 3)))
    cloth = uniform(n, 0, 0.25, draw) * fields(n, side, draw, falls=(0.5, 2.0))
    slope = uniform(n, -0.5, 0.5, draw) * x - uniform(n, 0, 0.4, draw) * (y - 1)
    neck = soft(3 * (uniform(n, 0.17, 0.28, draw) - x.abs())) * soft(3 * (top + 0.12 - y))
    shade = skin * uniform(n, 0.5, 0.95, draw)[:, 0]
    picture = lay(picture, neck * soft(4 * y), shade, 1 + (1 - flat) * slope)
    return lay(picture, shoulders, clothes, 1 + (1 - flat) * (cloth + slope))


def _exposed(picture: Tensor, draw: torch.Generator) -> Tensor:
    """As a camera gives them: uneven light, gamma, a cast, some without colour; in [-1, 1]."""
    n, side = len(picture), picture.shape[-1]
    uneven = 1 + uniform(n, 0, 0.15, draw) * fields(n, side, draw, falls=(1.8, 2.5))
    picture = (picture * uneven[:, None]).clamp(1e-3, 1)
    picture = picture ** torch.exp(uniform(n, -0.35, 0.35, draw))[:, None]
    picture = picture * (1 + 0.1 * torch.randn(n, 3, 1, 1, generator=draw))
    grey = picture.mean(1, keepdim=True)
    picture = torch.lerp(picture, grey, _some(n, 0.1, draw)[..., None])
    return (2 * picture - 1).clamp(-1, 1)


def _some(n: int, share: float, draw: torch.Generator) -> Float[Tensor, "n 1 1"]:
    """1 for a share of the pictures, 0 for the others."""
    return (torch.rand(n, 1, 1, generator=draw) < share).float()


def _oval(x: Field, y: Field, width: Tensor, height: Tensor, ragged: Tensor | float = 0.0) -> Field:
    """Inside an ellipse whose edge a field moves."""
    return soft(8 * (1 - ((x / width).square() + (y / height).square()).sqrt() + ragged))
