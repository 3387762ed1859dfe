"""Pictures of nothing in particular: coloured noise, and leaves that lie over each other.

Both have statistics of photographs: spectra that fall with the frequency (Field 1987), and things
of all sizes that hide each other, the dead leaves of Lee, Mumford and Huang (2001).
"""

import torch
from jaxtyping import Float
from torch import Tensor


def uniform(n: int, low: float, high: float, draw: torch.Generator) -> Float[Tensor, "n 1 1"]:
    """One number per picture."""
    return low + (high - low) * torch.rand(n, 1, 1, generator=draw)


def pixels(side: int) -> tuple[Float[Tensor, "1 1 W"], Float[Tensor, "1 H 1"]]:
    """Centres of the pixels in half pictures: x to the right, y down."""
    centres = (torch.arange(side) + 0.5) * 2 / side - 1
    return centres[None, None, :], centres[None, :, None]


def fields(
    n: int, side: int, draw: torch.Generator, *, falls: tuple[float, float] = (0.0, 2.5)
) -> Float[Tensor, "n H W"]:
    """Noise of mean 0 and deviation 1 whose amplitude falls as a power of the frequency.

    Args:
        n: How many.
        side: Height and width.
        draw: The randomness.
        falls: Least and largest exponent.
    """
    spectrum = torch.fft.rfft2(torch.randn(n, side, side, generator=draw))
    down, across = torch.fft.fftfreq(side)[:, None], torch.fft.rfftfreq(side)
    stretch = torch.exp(uniform(n, -0.7, 0.7, draw))  # some run along an axis
    frequency = ((down * stretch).square() + (across / stretch).square()).sqrt()
    exponent = uniform(n, *falls, draw)
    spectrum = spectrum * frequency.clamp(min=1 / side) ** -exponent
    spectrum[:, 0, 0] = 0
    noise = torch.fft.irfft2(spectrum, s=(side, side))
    return noise / noise.std((1, 2), keepdim=True)


def coloured_fields(n: int, side: int, draw: torch.Generator) -> Float[Tensor, "n 3 H W"]:
    """Three fields mixed to colours in [0, 1]: from plain grounds to loud noise."""
    layers = fields(3 * n, side, draw).unflatten(0, (n, 3))
    mix = torch.randn(n, 3, 3, generator=draw) + 2 * torch.randn(n, 3, 1, generator=draw)
    strength = 0.2 * uniform(n, 0, 1, draw)[..., None] ** 2
    ground = torch.rand(n, 3, 1, 1, generator=draw)
    return (ground + strength * torch.einsum("nij,njhw->nihw", mix, layers)).clamp(0, 1)


def leaves(n: int, side: int, draw: torch.Generator) -> Float[Tensor, "n 3 H W"]:
    """Leaves of any size over each other, in [0, 1]: plain, shaded or textured, round or angular.

    All pictures of a call have the same number of leaves.
    """
    x, y = pixels(side)
    pictures = coloured_fields(n, side, draw)
    textures = fields(n, side, draw, falls=(0.0, 2.0))
    rough, shaded = (uniform(n, 0, 0.3, draw) * uniform(n, -1, 1, draw).clamp(0, 1) for _ in "12")
    palette = torch.rand(n, 4, 3, generator=draw)
    rows = torch.arange(n)
    for _ in range(int(torch.randint(5, 70, (), generator=draw))):
        radius = 0.05 / (0.05 + 0.95 * torch.rand(n, 1, 1, generator=draw))
        ratio, power = torch.exp(uniform(n, -0.8, 0.8, draw)), uniform(n, 1.0, 5.0, draw)
        angle = uniform(n, 0, 3.15, draw)
        across, down = x - uniform(n, -1.1, 1.1, draw), y - uniform(n, -1.1, 1.1, draw)
        u = (across * angle.cos() + down * angle.sin()) / (radius * ratio)
        v = (down * angle.cos() - across * angle.sin()) / (radius / ratio)
        distance = (u.abs() ** power + v.abs() ** power) ** (1 / power) - 1
        cover = (0.5 - distance * radius * side / 2).clamp(0, 1)
        colour = palette[rows, torch.randint(4, (n,), generator=draw)]
        colour = colour + 0.15 * torch.randn(n, 3, generator=draw)
        light = 1 + rough * textures + shaded * u.clamp(-2, 2)
        leaf = (colour[..., None, None] * light[:, None]).clamp(0, 1)
        pictures = torch.lerp(pictures, leaf, cover[:, None])
    return pictures
