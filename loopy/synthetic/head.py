"""Paints a toon head without its features: skull, ears, beard and hair."""

import torch
from torch import Tensor

from loopy.synthetic.anatomy import Anatomy
from loopy.synthetic.identity import Identity
from loopy.synthetic.paint import Canvas, column, ellipse, head_part


def _outline(identity: Identity, anatomy: Anatomy, u: Tensor, v: Tensor) -> Tensor:
    """Distance to the head: a squircle whose lower half tapers and leans into the turn."""
    half_width, half_height, taper, squareness = (
        column(trait) for trait in identity.head.unbind(1)
    )
    below = v.clamp(min=0) / column(anatomy.jaw)
    across = (u - column(anatomy.lean) * below) / (
        half_width * (1 - taper * below.square()).clamp(min=0.3)
    )
    across, along = across.square(), torch.where(v > 0, below, v / half_height).square()
    corner = squareness * across.clamp(max=1) * along.clamp(max=1)
    return ((across + along - corner).clamp(min=1e-6).sqrt() - 1) * half_width


def paint_hair_behind(canvas: Canvas, identity: Identity, anatomy: Anatomy) -> None:
    """Long hair and the bun; they move against the turn."""
    half_width, half_height = column(identity.head[:, 0]), column(identity.head[:, 1])
    middle = torch.zeros_like(anatomy.turn)
    part, u, v = head_part(canvas, anatomy, middle, middle + 0.05, 0.75, 1.0)
    u = u + column(0.12 * anatomy.turn.sin())
    width, low, bun = (column(trait) for trait in identity.hair[:, 6:].unbind(1))
    top, bottom = -1.02 * half_height, low * half_height
    corner = 0.37
    across = u.abs() - (width * half_width - corner)
    along = (v - (top + bottom) / 2).abs() - ((bottom - top) / 2 - corner)
    mass = (across.clamp(min=0).square() + along.clamp(min=0).square()).sqrt() - corner
    part.lay(part.cover(mass) * (width > 0.1), identity.hair_colour * 0.68)
    ball = (u.square() + (v + 1.16 * half_height).square()).sqrt() - bun * half_height
    part.lay(part.cover(ball) * (bun > 0.1), identity.hair_colour * 0.85)


def paint_head(canvas: Canvas, identity: Identity, anatomy: Anatomy, shadow: Tensor) -> None:
    """Ears, skull, light from one side, blush, freckles, beard."""
    half_width = identity.head[:, 0]
    middle = torch.zeros_like(half_width)
    part, u, v = head_part(canvas, anatomy, middle, middle + 0.02, 0.62, 0.68)
    turn = anatomy.turn.sin()
    ear_x = u + column(0.13 * turn)
    ear_x, ear_y = ear_x.abs() - column(half_width * 0.99), v + column(0.10 * anatomy.nod.sin())
    ear = ellipse(ear_x, ear_y - 0.03, column(0.8 * identity.ears), column(1.15 * identity.ears))
    bare = column(identity.hair[:, 6]) < 0.1
    part.lay(part.cover(ear) * bare, torch.lerp(identity.skin, shadow, 0.25))
    part.lay(part.cover(ear + 0.045, 0.02) * bare, torch.lerp(identity.skin, shadow, 0.9))
    outline = _outline(identity, anatomy, u, v)
    inside = part.cover(outline)
    part.lay(inside, identity.skin)
    side = (u - column(0.4 * half_width * turn)) / column(half_width) * 0.45 + 0.12 + 0.25 * v
    part.lay(inside * side.clamp(0, 0.6), shadow)
    _marks(part, identity, anatomy, u, v, inside)
    _beard(part, identity, anatomy, u, v, outline)


def _marks(
    part: Canvas, identity: Identity, anatomy: Anatomy, u: Tensor, v: Tensor, inside: Tensor
) -> None:
    blush, freckles, _ = (column(opacity) for opacity in identity.marks.unbind(1))
    x, y = anatomy.tip.local(u, v - 0.045)
    cheek = (((x.abs() - 0.255) / 0.12).square() + (y / 0.085).square()).neg().exp()
    rosy = identity.skin * identity.skin.new_tensor([1.0, 0.62, 0.60])
    part.lay(inside * cheek * blush, rosy)
    dots = ((x * 62).sin() * (y * 62 + x * 25).sin() - 0.55).clamp(0, 0.3) * 2.2
    part.lay(inside * dots * cheek.clamp(max=0.7) * freckles, identity.skin * 0.6)


def _beard(
    part: Canvas, identity: Identity, anatomy: Anatomy, u: Tensor, v: Tensor, outline: Tensor
) -> None:
    full, goatee, moustache = (column(opacity) for opacity in identity.beard.unbind(1))
    colour = identity.hair_colour * 0.85
    mouth = anatomy.mouth
    x, y = anatomy.mouth_patch.local(u, v)
    across = (u / column(identity.head[:, 0])).square()
    edge = column(anatomy.mouth_patch.y) - 0.01 - 0.36 * across - v
    part.lay(part.cover(torch.maximum(outline + 0.008, edge), 0.02) * full, colour)
    one = torch.ones_like(anatomy.turn)
    chin = ellipse(
        x, y - column(0.13 + 0.5 * mouth.fall), column(0.20 * one), column(0.15 + 0.5 * mouth.fall)
    )
    part.lay(part.cover(torch.maximum(outline + 0.008, chin), 0.02) * goatee, colour)
    above = y + column(mouth.rise + mouth.lip) + 0.028 - 0.9 * x.square()
    lip = ellipse(x, above, column(0.9 * mouth.outer_half_width), column(0.038 * one))
    part.lay(part.cover(torch.maximum(outline + 0.008, lip), 0.01) * moustache, colour)


def paint_hair(canvas: Canvas, identity: Identity, anatomy: Anatomy) -> None:
    """The hair over the forehead: a thicker skull, cut off at the hairline."""
    middle = torch.zeros_like(anatomy.turn)
    part, u, v = head_part(canvas, anatomy, middle, middle - 0.12, 0.70, 0.66)
    half_width, half_height = column(identity.head[:, 0]), column(identity.head[:, 1])
    line, drop, slant, zigzag, thick, spikes = (column(t) for t in identity.hair[:, :6].unbind(1))
    side = column(identity.hair_side)
    x = u / half_width - column(0.30 * anatomy.turn.sin())
    y = v / half_height
    temple = ((x.abs() - 0.40) / 0.60).clamp(0, 1).square()
    teeth = ((x * 3.2 + 0.2 * side) % 1 - 0.5).abs() * 2
    edge = (
        line
        + column(0.35 * anatomy.nod.sin())
        + drop * temple
        + slant * side * x
        + zigzag * (teeth - 0.5)
    )
    peaks = ((x * 2.3 - 0.3 * side * y) % 1 - 0.5).abs() * 2
    grown = (
        thick * (0.55 - 0.6 * y).clamp(0.25, 1) + spikes * peaks * (-0.25 - y).clamp(0, 1) * 1.4
    ) * half_width
    outline = _outline(identity, anatomy, u, v)
    inside, skull = part.cover(outline), outline - grown
    below = (y - edge) * half_height
    has_hair = (line > -1.2).float()
    part.lay(
        inside * part.cover(below - 0.035, 0.03) * 0.22 * has_hair,
        identity.skin * 0.35,
    )
    hair = part.cover(torch.maximum(skull, below)) * has_hair
    part.lay(hair, identity.hair_colour)
    part.lay(
        hair * (x * 0.35 + 0.15 + 0.3 * y.clamp(min=-0.6)).clamp(0, 0.5),
        identity.hair_colour * 0.45,
    )
    strands = (0.5 + 0.5 * (x * 17 + 2 * y * x).sin()).square()
    shine = part.cover((y + 0.78 - 0.30 * x.square()).abs() - 0.06, 0.24)
    part.lay(
        hair * shine * (0.12 + 0.3 * strands),
        torch.lerp(identity.hair_colour, torch.ones_like(identity.skin), 0.6),
    )
