"""What should be still: the background, and a silent face once the head's motion is undone."""

from dataclasses import replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from loopy.synthetic.face import CONTROLS, Identity, landmarks, render

ERODED = 1 / 16
"""How far the background keeps from everything else, as a part of the picture (8 px of 128)."""

_HEAD = [CONTROLS.index(name) for name in ("yaw", "pitch", "roll", "shift_x", "shift_y")]
_MARGIN = 0.25
_EVERY = 5


def always_background(
    identity: Identity, controls: Float[Tensor, "f 14"], *, size_px: int
) -> Bool[Tensor, "H W"]:
    """Pixels that show nothing but the background, wherever the head is, eroded.

    The talker is drawn before black and before white; what differs fully is background. It is
    drawn in every fifth state, and in all corners of the head's range widened by a quarter.
    """
    low, high = controls[:, _HEAD].amin(0), controls[:, _HEAD].amax(0)
    wider = _MARGIN * (high - low)
    corners = torch.cartesian_prod(*torch.stack([low - wider, high + wider], 1))
    extremes = controls.new_zeros(len(corners), controls.shape[1])
    extremes[:, _HEAD] = corners
    shown = torch.cat([controls[::_EVERY], extremes])
    covered = torch.zeros(1, size_px, size_px)
    for part in shown.split(16):
        pictures = [
            render(_before(identity, shade).expand(len(part)), part, size_px=size_px)
            for shade in (0.0, 1.0)
        ]
        hidden = (pictures[1] - pictures[0]).amin(1) < 2 * 0.99
        covered = torch.maximum(covered, hidden.any(0, keepdim=True).float())
    reach = max(1, round(ERODED * size_px))
    grown = functional.max_pool2d(covered[None], 2 * reach + 1, stride=1, padding=reach)
    return grown[0, 0] == 0


def face_box(
    identity: Identity, controls: Float[Tensor, "1 14"], *, size_px: int
) -> Bool[Tensor, "H W"]:
    """The box around the 68 points of a face."""
    points, _ = landmarks(identity, controls, size_px=size_px)
    low, high = points[0].amin(0), points[0].amax(0)
    place = torch.arange(size_px) + 0.5
    across, down = ((place >= low[i]) & (place <= high[i]) for i in (0, 1))
    return down[:, None] & across


def differences(
    before: Float[Tensor, "n 3 H W"], after: Float[Tensor, "n 3 H W"], where: Bool[Tensor, "H W"]
) -> Float[Tensor, "n"]:
    """Mean absolute difference of two pictures over some pixels; NaN where there are none."""
    return (before - after).abs().mean(1)[:, where].mean(1)


def rigid_differences(
    before: Float[Tensor, "n 3 H W"],
    after: Float[Tensor, "n 3 H W"],
    where: Bool[Tensor, "H W"],
    *,
    steps: int = 3,
) -> Float[Tensor, "n"]:
    """The same after shift and rotation are undone, or as it is where that is less.

    Gauss-Newton over the grey pictures, inverse compositional in spirit of Lucas and Kanade
    (1981): the second picture is warped, its residual is solved for three parameters.
    """
    size = before.shape[-1]
    place = (torch.arange(size) + 0.5) * 2 / size - 1
    y, x = torch.meshgrid(place, place, indexing="ij")
    goal, weight = before.mean(1), where.float()
    motion = before.new_zeros(len(before), 3)  # shift right and down in half pictures, angle
    for _ in range(steps):
        moved = _move(after, motion, x, y).mean(1)
        across, down = _slopes(moved)
        jacobian = torch.stack([across, down, down * x - across * y], -1)  # n H W 3
        weighted = jacobian * weight[..., None]
        normal = torch.einsum("nhwi,nhwj->nij", weighted, jacobian)
        wanted = torch.einsum("nhwi,nhw->ni", weighted, goal - moved)
        ridge = 1e-6 * torch.eye(3) * (1 + normal.diagonal(dim1=1, dim2=2).amax(1))[:, None, None]
        motion = motion + torch.linalg.solve(normal + ridge, wanted)
    aligned = differences(before, _move(after, motion, x, y), where)
    return torch.minimum(aligned, differences(before, after, where))


def _move(pictures: Tensor, motion: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Read pictures at places that are turned and shifted."""
    right, down, angle = (column[:, None, None] for column in motion.unbind(1))
    cos, sin = angle.cos(), angle.sin()
    grid = torch.stack([cos * x - sin * y + right, sin * x + cos * y + down], -1)
    return functional.grid_sample(
        pictures, grid, mode="bicubic", padding_mode="border", align_corners=False
    )


def _slopes(grey: Float[Tensor, "n H W"]) -> tuple[Tensor, Tensor]:
    """Slopes per half picture, to the right and down."""
    padded = functional.pad(grey[:, None], (1, 1, 1, 1), mode="replicate")[:, 0]
    scale = grey.shape[-1] / 4
    across = (padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2]) * scale
    down = (padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1]) * scale
    return across, down


def _before(identity: Identity, shade: float) -> Identity:
    """The same talker before a plain wall."""
    wall = torch.full_like(identity.near, shade)
    return replace(identity, backdrop=torch.zeros_like(identity.backdrop), near=wall, far=wall)
