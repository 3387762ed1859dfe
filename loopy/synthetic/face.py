"""Draws toon talking heads: identity and controls to pictures, back to front.

Every picture is a function of its own row. Shapes are painted only inside the rectangle that can
contain them, and a few rows at a time, so that memory stays flat.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from loopy.synthetic.anatomy import CONTROLS, Anatomy, Patch, brow_curve, lids, place
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
    _hair_behind(canvas, identity, anatomy)
    _body(canvas, identity, controls, shadow)
    _head(canvas, identity, anatomy, shadow)
    _mouth(canvas, identity, anatomy, controls)
    _nose(canvas, identity, anatomy, shadow)
    _eyes(canvas, identity, anatomy, controls, shadow)
    _hair(canvas, identity, anatomy)
    return canvas.pixels.mul_(2).sub_(1).clamp_(-1, 1)


def _backdrop(canvas: Canvas, identity: Identity) -> None:
    """Plain colour with at most one of gradient, disc and diagonal band; never moves."""
    gradient, disc, band = (column(opacity) for opacity in identity.backdrop.unbind(1))
    x, y = canvas.x, canvas.y
    canvas.pixels.copy_(identity.near[:, :, None, None].expand_as(canvas.pixels))
    round_cover = canvas.cover((x.square() + (y + 0.1).square()).sqrt() - 0.82)
    band_cover = canvas.cover((x + y + 0.15).abs() * 0.7 - 0.3)
    canvas.lay(gradient * (y + 1) / 2 + disc * round_cover + band * band_cover, identity.far)


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


def _local(patch: Patch, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    return (u - column(patch.x)) / column(patch.x_scale), (v - column(patch.y)) / column(
        patch.y_scale
    )


def _around_head(
    canvas: Canvas, anatomy: Anatomy, x: Tensor, y: Tensor, half_width: float, half_height: float
) -> tuple[Canvas, Tensor, Tensor]:
    """The rectangle around a point of the head frame, and its pixels in that frame."""
    middle = anatomy.to_picture(torch.stack([x, y], -1)[:, None])[:, 0]
    lean = 0.25
    part = canvas.around(
        middle[:, 0], middle[:, 1], half_width + lean * half_height, half_height + lean * half_width
    )
    return part, *anatomy.to_head(part.x, part.y)


def _hair_behind(canvas: Canvas, identity: Identity, anatomy: Anatomy) -> None:
    """Long hair and the bun; they move against the turn."""
    half_width, half_height = column(identity.head[:, 0]), column(identity.head[:, 1])
    middle = torch.zeros_like(anatomy.turn)
    part, u, v = _around_head(canvas, anatomy, middle, middle + 0.05, 0.75, 1.0)
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


def _head(canvas: Canvas, identity: Identity, anatomy: Anatomy, shadow: Tensor) -> None:
    """Ears, skull, light from one side, blush, freckles, beard."""
    half_width = identity.head[:, 0]
    middle = torch.zeros_like(half_width)
    part, u, v = _around_head(canvas, anatomy, middle, middle + 0.02, 0.62, 0.68)
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
    x, y = _local(anatomy.tip, u, v - 0.045)
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
    x, y = _local(anatomy.mouth_patch, u, v)
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
    part.lay(part.cover(lip, 0.01) * moustache, colour)


def _mouth(canvas: Canvas, identity: Identity, anatomy: Anatomy, controls: Tensor) -> None:
    """Lips, the dark opening, teeth and tongue between the same curves as the landmarks."""
    patch, mouth = anatomy.mouth_patch, anatomy.mouth
    part, u, v = _around_head(canvas, anatomy, patch.x, patch.y + 0.07, 0.32, 0.22)
    x, y = _local(patch, u, v)

    def between(half_width: Tensor, rise: Tensor, fall: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Cover, height below the upper edge and above the lower edge."""
        t = (x / column(half_width)).clamp(-1, 1)
        arch, middle = mouth.arch(t), mouth.middle(t)
        below = y - middle + column(rise) * arch
        above = middle + column(fall) * arch - y
        slope = t * (1.3 + 1.4 * t.square()) / column(half_width)
        steep_up = (1 + (slope * column(rise)).square()).sqrt()
        steep_low = (1 + (slope * column(fall)).square()).sqrt()
        edge = torch.maximum(-below / steep_up, -above / steep_low)
        return part.cover(torch.maximum(edge, x.abs() - column(half_width))), below, above

    lips, _, _ = between(
        mouth.outer_half_width, mouth.rise + 0.9 * mouth.lip, mouth.fall + 1.2 * mouth.lip
    )
    part.lay(lips, identity.lips)
    inside, below, above = between(mouth.half_width, mouth.rise, mouth.fall)
    part.lay(lips * part.cover(y, 0.01) * 0.25, identity.lips * 0.5)
    part.lay(inside, identity.lips.new_tensor([0.22, 0.03, 0.05]).expand_as(identity.lips))
    fall = column(mouth.fall)
    tongue = ellipse(x, y - 1.05 * fall, column(0.62 * mouth.half_width), 0.5 * fall + 0.001)
    part.lay(
        inside * part.cover(tongue),
        identity.lips.new_tensor([0.83, 0.33, 0.36]).expand_as(identity.lips),
    )
    white = identity.lips.new_tensor([0.98, 0.97, 0.94]).expand_as(identity.lips)
    teeth = column(controls[:, CONTROLS.index("teeth")])
    part.lay(inside * part.cover(below - 0.052 * teeth) * (teeth * 4).clamp(0, 1), white)
    part.lay(
        inside * part.cover(above - 0.022 * (teeth - 0.4)) * ((teeth - 0.4) * 4).clamp(0, 1),
        white * 0.93,
    )


def _nose(canvas: Canvas, identity: Identity, anatomy: Anatomy, shadow: Tensor) -> None:
    """A soft bridge, a round tip lit from above, two nostrils."""
    tip, nostrils = anatomy.tip, anatomy.nostrils
    part, u, v = _around_head(canvas, anatomy, tip.x, tip.y - 0.05, 0.2, 0.2)
    half_width = column(identity.nose[:, 0])
    along = ((column(tip.y) - v) / column(tip.y - anatomy.bridge.y).clamp(min=0.05)).clamp(0, 1)
    ridge = (
        u - torch.lerp(column(tip.x), column(anatomy.bridge.x), along) - 0.3 * half_width
    ) / half_width
    part.lay(((1 - (ridge * 1.5).square()).clamp(min=0)) * (along * (1 - along)) * 2.2, shadow)
    x, y = _local(tip, u, v)
    part.lay(
        part.cover(ellipse(x, y - 0.012, half_width, half_width * 0.78), 0.02) * 0.9, shadow * 0.94
    )
    part.lay(
        part.cover(ellipse(x, y + 0.008, half_width * 0.86, half_width * 0.75), 0.035) * 0.9,
        identity.skin,
    )
    light = ellipse(x + 0.012, y + 0.018, half_width * 0.30, half_width * 0.24)
    part.lay(part.cover(light, 0.03) * 0.35, torch.ones_like(identity.skin))
    x, y = _local(nostrils, u, v)
    hole = ellipse(x.abs() - 0.5 * half_width, y + 0.005, half_width * 0.22, half_width * 0.15)
    part.lay(part.cover(hole) * 0.7, shadow * 0.5)


def _eyes(
    canvas: Canvas, identity: Identity, anatomy: Anatomy, controls: Tensor, shadow: Tensor
) -> None:
    """Both eyes in one go: the left half of the face is folded onto the right one."""
    left, right = anatomy.left_eye, anatomy.right_eye
    part, u, v = _around_head(canvas, anatomy, (left.x + right.x) / 2, left.y - 0.03, 0.75, 0.25)
    is_left = u < column((left.x + right.x) / 2)
    x = torch.where(is_left, _local(left, u, v)[0], _local(right, u, v)[0])
    y = _local(left, u, v)[1]
    out = torch.where(is_left, -x, x)
    half_width, half_height = column(identity.eyes[:, 0]), column(identity.eyes[:, 1])
    t = (x / half_width).clamp(-1, 1)
    arch = 1 - t.square()
    upper, lower = (column(height) for height in lids(identity, anatomy))
    above, below = -upper * arch - y, y - lower * arch
    steep = (1 + (2 * t * half_height / half_width).square()).sqrt()
    aside = x.abs() - half_width
    open_eye = part.cover(torch.maximum(torch.maximum(above, below) / steep, aside))
    socket = torch.maximum(torch.maximum(-1.15 * half_height * arch - y, below) / steep, aside)
    part.lay(part.cover(socket - 0.012, 0.02) * 0.5, shadow)
    ones = torch.ones_like(identity.iris)
    part.lay(open_eye, 0.98 * ones)
    gaze_x, gaze_y = (column(controls[:, CONTROLS.index(name)]) for name in ("gaze_x", "gaze_y"))
    pupil_x, pupil_y = (
        x - 0.42 * half_width * gaze_x,
        y - 0.35 * half_height * gaze_y + 0.08 * half_height,
    )
    distance = (pupil_x.square() + pupil_y.square()).sqrt()
    part.lay(open_eye * part.cover(distance - 0.66 * half_height), identity.iris * 0.75)
    part.lay(open_eye * part.cover(distance - 0.52 * half_height, 0.02), identity.iris)
    part.lay(open_eye * part.cover(distance - 0.33 * half_height), 0.05 * ones)
    glint = ((pupil_x + 0.018).square() + (pupil_y + 0.022).square()).sqrt() - 0.016
    part.lay(open_eye * part.cover(glint), ones)
    lid_steep = (1 + (2 * t * upper / half_width).square()).sqrt()
    line = (above / lid_steep).abs() - 0.009 - 0.006 * (out / half_width).clamp(0, 1)
    part.lay(part.cover(torch.maximum(line, aside - 0.008)), identity.hair_colour * 0.25)
    _brows(part, identity, anatomy, out, y)
    _glasses(part, identity, anatomy, x, y, u)


def _brows(part: Canvas, identity: Identity, anatomy: Anatomy, out: Tensor, y: Tensor) -> None:
    reach = column(identity.eyes[:, 0]) * 1.15
    way = ((out - 0.01) / reach).clamp(-1, 1)
    thickness = column(identity.brows[:, 0]) * (0.85 - 0.35 * way)
    height = y - column(anatomy.brow_y) - brow_curve(identity, way)
    past = ((out - 0.01).abs() - reach).clamp(min=0)
    part.shape((height.square() + past.square()).sqrt() - thickness, identity.hair_colour * 0.7)


def _glasses(
    part: Canvas, identity: Identity, anatomy: Anatomy, x: Tensor, y: Tensor, u: Tensor
) -> None:
    worn = column(identity.marks[:, 2])
    radius = column(identity.eyes[:, 2] - 0.035)
    distance = (x.square() + (y - 0.01).square()).sqrt() - radius
    part.lay(part.cover(distance) * 0.14 * worn, torch.ones_like(identity.skin))
    temple = torch.maximum((y + 0.02).abs() - 0.012, -distance)
    temple = torch.maximum(temple, u.abs() - column(identity.head[:, 0] * 0.97))
    rim = torch.minimum(distance.abs() - 0.014, temple)
    part.lay(part.cover(rim) * worn, identity.frames)


def _hair(canvas: Canvas, identity: Identity, anatomy: Anatomy) -> None:
    """The hair over the forehead: a thicker skull, cut off at the hairline."""
    middle = torch.zeros_like(anatomy.turn)
    part, u, v = _around_head(canvas, anatomy, middle, middle - 0.12, 0.70, 0.66)
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
