"""The 68 iBUG points of a drawn toon head, from the same curves as the drawing."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from loopy.synthetic.anatomy import Anatomy, Patch, brow_curve, lids, place
from loopy.synthetic.identity import Identity


def landmarks(
    identity: Identity, controls: Float[Tensor, "n 14"], *, size_px: int = 128
) -> tuple[Float[Tensor, "n 68 2"], Bool[Tensor, "n 68"]]:
    """Gives the true points of the picture that `render` draws.

    Returns:
        Points in pixels (x right, y down, 0 at the outer edge of the first pixel) in iBUG order,
        and whether each lies inside the picture.
    """
    anatomy = place(identity, controls)
    points = torch.cat(
        [
            _jaw(identity, anatomy),
            _brows(identity, anatomy),
            _nose(identity, anatomy),
            _eyes(identity, anatomy),
            _mouth(anatomy),
        ],
        1,
    )
    pixels = (anatomy.to_picture(points) + 1) / 2 * size_px
    return pixels, ((pixels >= 0) & (pixels < size_px)).all(-1)


def _on(patch: Patch, x: Float[Tensor, "n k"], y: Float[Tensor, "n k"]) -> Float[Tensor, "n k 2"]:
    x = patch.x[:, None] + patch.x_scale[:, None] * x
    y = patch.y[:, None] + patch.y_scale[:, None] * y
    return torch.stack([x, y], -1)


def _jaw(identity: Identity, anatomy: Anatomy) -> Float[Tensor, "n 17 2"]:
    """Points 0-16 on the outline, from ear to ear over the chin."""
    half_width, _, taper, squareness = (trait[:, None] for trait in identity.head.unbind(1))
    angle = torch.linspace(-1, 1, 17).to(taper) * (torch.pi / 2)
    below = angle.cos().expand(len(taper), -1)
    reach = ((1 - below.square()).clamp(min=0) / (1 - squareness * below.square())).sqrt()
    x = angle.sign() * half_width * (1 - taper * below.square()) * reach
    return torch.stack([x + anatomy.lean[:, None] * below, anatomy.jaw[:, None] * below], -1)


def _brows(identity: Identity, anatomy: Anatomy) -> Float[Tensor, "n 10 2"]:
    """Points 17-26: each brow from left to right."""
    way = torch.linspace(-1, 1, 5).to(identity.brows).expand(len(identity), -1)
    out = 0.01 + way * 1.15 * identity.eyes[:, :1]
    y = anatomy.brow_y[:, None] + brow_curve(identity, way)
    left = _on(anatomy.left_eye, -out.flip(1), y.flip(1))
    return torch.cat([left, _on(anatomy.right_eye, out, y)], 1)


def _nose(identity: Identity, anatomy: Anatomy) -> Float[Tensor, "n 9 2"]:
    """Points 27-30 from the bridge to the tip, 31-35 under it from left to right."""
    bridge, tip = (
        torch.stack([patch.x, patch.y], -1)[:, None] for patch in (anatomy.bridge, anatomy.tip)
    )
    ridge = torch.lerp(bridge, tip, torch.linspace(0, 1, 4).to(tip)[None, :, None])
    across = torch.linspace(-1, 1, 5).to(tip)
    half_width = identity.nose[:, :1]
    return torch.cat(
        [
            ridge,
            _on(anatomy.nostrils, across * half_width, (0.4 - across.abs()) * 0.2 * half_width),
        ],
        1,
    )


def _eyes(identity: Identity, anatomy: Anatomy) -> Float[Tensor, "n 12 2"]:
    """Points 36-47: each eye from its left corner over the upper lid and back below."""
    t = torch.tensor([-3, -1, 1, 3, 1, -1]).to(identity.eyes) / 3
    upper, lower = lids(identity, anatomy)
    height = torch.stack([-upper] * 4 + [lower] * 2, 1)
    x, y = t * identity.eyes[:, :1], height * (1 - t.square())
    return torch.cat([_on(anatomy.left_eye, x, y), _on(anatomy.right_eye, x, y)], 1)


def _mouth(anatomy: Anatomy) -> Float[Tensor, "n 20 2"]:
    """Points 48-59 around the lips, 60-67 around the opening, both from the left corner."""
    mouth = anatomy.mouth

    def ring(half_width: Tensor, rise: Tensor, fall: Tensor, steps: int) -> Float[Tensor, "n k 2"]:
        t = torch.linspace(-1, 1, steps + 1).to(rise)
        t = torch.cat([t, t[1:-1].flip(0)]).expand(len(rise), -1)
        height = torch.cat(
            [-rise[:, None].expand(-1, steps + 1), fall[:, None].expand(-1, steps - 1)], 1
        )
        y = mouth.middle(t) + height * mouth.arch(t)
        return _on(anatomy.mouth_patch, half_width[:, None] * t, y)

    outer = ring(mouth.outer_half_width, mouth.outer_rise, mouth.outer_fall, 6)
    return torch.cat([outer, ring(mouth.half_width, mouth.rise, mouth.fall, 4)], 1)
