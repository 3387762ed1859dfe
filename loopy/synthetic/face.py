"""Draws toon talking heads: identity and controls to pictures, back to front.

Every picture is a function of its own row. Shapes are painted only inside the rectangle that can
contain them, and a few rows at a time, so that memory stays flat.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from loopy.synthetic.anatomy import CONTROLS, place
from loopy.synthetic.features import paint_eyes, paint_mouth, paint_nose
from loopy.synthetic.head import paint_hair, paint_hair_behind, paint_head
from loopy.synthetic.identity import Identity, random_identities
from loopy.synthetic.landmarks import landmarks
from loopy.synthetic.paint import Canvas, column, ellipse

__all__ = ["CONTROLS", "Identity", "landmarks", "random_identities", "render"]

ROWS_AT_ONCE = 8


def render(
    identity: Identity, controls: Float[Tensor, "n 14"], *, size_px: int = 128
) -> Float[Tensor, "n 3 H W"]:
    """Draws one picture per row of identity and controls.

    Args:
        identity: Who; as many rows as `controls`.
        controls: Columns in the order of `CONTROLS`: open, wide, round, teeth, blink in [0, 1];
            smile, gaze and brow in [-1, 1]; yaw, pitch, roll in radians (positive turns to the
            right of the picture, down, clockwise); shift in fractions of the picture.
        size_px: Height and width.

    Returns:
        Pictures in [-1, 1].
    """
    pictures = [
        _paint(identity[rows], controls[rows], size_px=size_px)
        for rows in (slice(i, i + ROWS_AT_ONCE) for i in range(0, len(controls), ROWS_AT_ONCE))
    ]
    return torch.cat(pictures) if pictures else controls.new_zeros(0, 3, size_px, size_px)


def _paint(
    identity: Identity, controls: Float[Tensor, "n 14"], *, size_px: int
) -> Float[Tensor, "n 3 H W"]:
    anatomy = place(identity, controls)
    canvas = Canvas.blank(len(controls), size_px=size_px, like=controls)
    _backdrop(canvas, identity)
    shadow = identity.skin * identity.skin.new_tensor([0.80, 0.72, 0.70])
    paint_hair_behind(canvas, identity, anatomy)
    _body(canvas, identity, controls, shadow)
    paint_head(canvas, identity, anatomy, shadow)
    paint_mouth(canvas, identity, anatomy, controls)
    paint_nose(canvas, identity, anatomy, shadow)
    paint_eyes(canvas, identity, anatomy, controls, shadow)
    paint_hair(canvas, identity, anatomy)
    return canvas.pixels.mul_(2).sub_(1).clamp_(-1, 1)


def _backdrop(canvas: Canvas, identity: Identity) -> None:
    """Plain colour with at most one of gradient, disc and diagonal band; never moves."""
    gradient, disc, band = (column(opacity) for opacity in identity.backdrop.unbind(1))
    x, y = canvas.x, canvas.y
    canvas.pixels.copy_(identity.near[:, :, None, None].expand_as(canvas.pixels))
    round_cover = canvas.cover((x.square() + (y + 0.1).square()).sqrt() - 0.82)
    band_cover = canvas.cover((x + y + 0.15).abs() * 0.7 - 0.3)
    canvas.lay(gradient * (y + 1) / 2 + disc * round_cover + band * band_cover, identity.far)


def _body(canvas: Canvas, identity: Identity, controls: Tensor, shadow: Tensor) -> None:
    """Shoulders, neck and collar; they follow the head only a little."""
    still = torch.zeros_like(identity.shoulders)
    part = canvas.around(still, still + 0.7, 1.0, 0.6)
    sway = 2 * column(controls[:, CONTROLS.index("shift_x")])
    x, y = part.x - 0.3 * sway, part.y
    ring, vee, stripes = (column(opacity) for opacity in identity.collar.unbind(1))
    torso = part.cover(
        ((x / column(identity.shoulders)).square().square() + ((y - 1.3) / 0.60).square().square())
        .sqrt()
        .sqrt()
        .sub(1)
        * 0.6
    )
    part.lay(torso, identity.clothes)
    lines = part.cover(0.06 - ((y * 5.0) % 1 - 0.5).abs() * 0.2)
    part.lay(torso * lines * stripes, identity.trim)
    part.lay(torso * ((x.abs() - 0.3) * 0.5).clamp(0, 0.25), identity.clothes * 0.3)
    neckline = ellipse(x, y - 0.72, column(still + 0.235), column(still + 0.115))
    part.lay(part.cover(neckline - 0.035) * ring * (y > 0.66), identity.trim)
    part.lay(part.cover((x.abs() * 1.3 + y - 1.02) * 0.6) * vee * torso, identity.skin * 0.94)
    part.lay(part.cover(neckline), identity.skin * 0.94)
    neck = torch.maximum(
        (x - 0.4 * sway * (0.75 - y).clamp(0, 0.45) * 4).abs() - 0.165, (y - 0.5).abs() - 0.26
    )
    part.lay(part.cover(neck), identity.skin * 0.94)
    part.lay(part.cover(neck) * (1.35 - 1.7 * y).clamp(0, 0.8), shadow * 0.85)
