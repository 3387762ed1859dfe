"""How different colours look: sRGB to Lab, and distances there (CIE 1976)."""

import torch
from jaxtyping import Float
from torch import Tensor

_TO_XYZ = ((0.4124, 0.3576, 0.1805), (0.2126, 0.7152, 0.0722), (0.0193, 0.1192, 0.9505))
"""Linear sRGB to XYZ under D65 (IEC 61966-2-1)."""


def to_lab(colours: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n 3"]:
    """Turns sRGB in [0, 1] to CIE L*a*b* under D65: L in [0, 100]."""
    linear = torch.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    matrix = colours.new_tensor(_TO_XYZ)
    ratio = linear @ (matrix / matrix.sum(1, keepdim=True)).T  # white is (1, 1, 1)
    edge = 6 / 29
    root = torch.where(ratio > edge**3, ratio.clamp(min=1e-9) ** (1 / 3), ratio / (3 * edge**2))
    x, y, z = (root + torch.where(ratio > edge**3, 0.0, 4 / 29)).unbind(-1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -1)


def palette_distance(
    first: Float[Tensor, "n 3"], second: Float[Tensor, "m 3"]
) -> Float[Tensor, ""]:
    """Distance of two pictures' sRGB colours in delta-E, wherever in the picture they are.

    The mean shift between equal ranks (Wasserstein-1) in each channel of Lab, and the length of
    the three: a tint that all colours take on has its own delta-E, a head that moves has little.
    """
    ranks = torch.linspace(0, 1, 101, dtype=first.dtype)
    one, other = (torch.quantile(to_lab(colours), ranks, dim=0) for colours in (first, second))
    return (one - other).abs().mean(0).norm()
