"""Paints the features of a toon face: mouth, nose, eyes, brows and glasses."""

import torch
from torch import Tensor

from loopy.synthetic.anatomy import CONTROLS, Anatomy, brow_curve, lids
from loopy.synthetic.identity import Identity
from loopy.synthetic.paint import Canvas, column, ellipse, head_part

THROAT = (0.22, 0.03, 0.05)
TONGUE = (0.83, 0.33, 0.36)
TEETH = (0.98, 0.97, 0.94)


def paint_mouth(canvas: Canvas, identity: Identity, anatomy: Anatomy, controls: Tensor) -> None:
    """Lips, the dark opening, teeth and tongue between the same curves as the landmarks."""
    patch, mouth = anatomy.mouth_patch, anatomy.mouth
    part, u, v = head_part(canvas, anatomy, patch.x, patch.y + 0.07, 0.32, 0.22)
    x, y = patch.local(u, v)

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

    lips, _, _ = between(mouth.outer_half_width, mouth.outer_rise, mouth.outer_fall)
    part.lay(lips, identity.lips)
    inside, below, above = between(mouth.half_width, mouth.rise, mouth.fall)
    part.lay(lips * part.cover(y, 0.01) * 0.25, identity.lips * 0.5)
    throat, pink, white = (identity.lips.new_tensor([rgb]) for rgb in (THROAT, TONGUE, TEETH))
    part.lay(inside, throat)
    fall = column(mouth.fall)
    tongue = ellipse(x, y - 1.05 * fall, column(0.62 * mouth.half_width), 0.5 * fall + 0.001)
    part.lay(inside * part.cover(tongue), pink)
    teeth = column(controls[:, CONTROLS.index("teeth")])
    part.lay(inside * part.cover(below - 0.052 * teeth) * (teeth * 4).clamp(0, 1), white)
    part.lay(
        inside * part.cover(above - 0.022 * (teeth - 0.4)) * ((teeth - 0.4) * 4).clamp(0, 1),
        white * 0.93,
    )


def paint_nose(canvas: Canvas, identity: Identity, anatomy: Anatomy, shadow: Tensor) -> None:
    """A soft bridge, a round tip lit from above, two nostrils."""
    tip, nostrils = anatomy.tip, anatomy.nostrils
    part, u, v = head_part(canvas, anatomy, tip.x, tip.y - 0.05, 0.2, 0.2)
    half_width = column(identity.nose[:, 0])
    along = ((column(tip.y) - v) / column(tip.y - anatomy.bridge.y).clamp(min=0.05)).clamp(0, 1)
    ridge = (
        u - torch.lerp(column(tip.x), column(anatomy.bridge.x), along) - 0.3 * half_width
    ) / half_width
    part.lay(((1 - (ridge * 1.5).square()).clamp(min=0)) * (along * (1 - along)) * 2.2, shadow)
    x, y = tip.local(u, v)
    part.lay(
        part.cover(ellipse(x, y - 0.012, half_width, half_width * 0.78), 0.02) * 0.9, shadow * 0.94
    )
    part.lay(
        part.cover(ellipse(x, y + 0.008, half_width * 0.86, half_width * 0.75), 0.035) * 0.9,
        identity.skin,
    )
    light = ellipse(x + 0.012, y + 0.018, half_width * 0.30, half_width * 0.24)
    part.lay(part.cover(light, 0.03) * 0.35, torch.ones_like(identity.skin))
    x, y = nostrils.local(u, v)
    hole = ellipse(x.abs() - 0.5 * half_width, y + 0.005, half_width * 0.22, half_width * 0.15)
    part.lay(part.cover(hole) * 0.7, shadow * 0.5)


def paint_eyes(
    canvas: Canvas, identity: Identity, anatomy: Anatomy, controls: Tensor, shadow: Tensor
) -> None:
    """Both eyes in one go: the left half of the face is folded onto the right one."""
    left, right = anatomy.left_eye, anatomy.right_eye
    part, u, v = head_part(canvas, anatomy, (left.x + right.x) / 2, left.y - 0.03, 0.75, 0.25)
    is_left = u < column((left.x + right.x) / 2)
    x = torch.where(is_left, left.local(u, v)[0], right.local(u, v)[0])
    y = left.local(u, v)[1]
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
    pupil_x = x - 0.42 * half_width * gaze_x
    pupil_y = y - 0.35 * half_height * gaze_y + 0.08 * half_height
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
    stroke = (height.square() + past.square()).sqrt() - thickness
    part.lay(part.cover(stroke), identity.hair_colour * 0.7)


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
