"""Does a video slowly change its colours or lose its sharpness? Slopes over its whole length."""

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from loopy.errors import MetricError
from loopy.metrics.extractors import check_numbers
from loopy.timing import FPS

_TO_XYZ = ((0.4124, 0.3576, 0.1805), (0.2126, 0.7152, 0.0722), (0.0193, 0.1192, 0.9505))
"""Linear sRGB to XYZ under D65 (IEC 61966-2-1)."""
_GREY = (0.299, 0.587, 0.114)
_AT_ONCE = 16


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
    """Distance of two pictures' sRGB colours in delta-E (CIE 1976), wherever in them they are.

    The mean shift between equal ranks (Wasserstein-1) in each channel of Lab, and the length of
    the three: a tint that all colours take on has its own delta-E, a head that moves has little.
    """
    ranks = torch.linspace(0, 1, 101, dtype=first.dtype)
    one, other = (torch.quantile(to_lab(colours), ranks, dim=0) for colours in (first, second))
    return (one - other).abs().mean(0).norm()


def mean_colours(frames: UInt8[Tensor, "f h w 3"]) -> Float[Tensor, "f 3"]:
    """Mean L*a*b* of each frame; a head that turns changes it a little, and back again."""
    return torch.cat([to_lab(part.float() / 255).mean((1, 2)) for part in frames.split(_AT_ONCE)])


def colour_slope(colours: Float[Tensor, "f 3"]) -> float:
    """Delta-E a second: length of the slope of the mean L*a*b* (`mean_colours`) over time.

    A straight line through all frames, so that noise and a head that moves to and fro have almost
    none, while a tint that grows by one delta-E a second has 1.

    Raises:
        MetricError: Fewer frames than one second has, or NaN.
    """
    _check(colours)
    return float(_slope(colours.double()).norm())


def sharpness(frames: UInt8[Tensor, "f h w 3"]) -> Float[Tensor, "f"]:
    """Variance of the Laplacian of the grey picture in 0 to 255 (Pech-Pacheco et al. 2000)."""
    return torch.cat([_laplacian_variance(part) for part in frames.split(_AT_ONCE)])


def sharpness_slope(variances: Float[Tensor, "f"]) -> float:
    """Slope of the logarithm of `sharpness`, a second; -0.01: it loses about one per cent a second.

    Raises:
        MetricError: Fewer frames than one second has, NaN, or a frame of one colour.
    """
    _check(variances)
    if not bool((variances > 0).all()):
        flat = int((variances <= 0).sum())
        raise MetricError(f"{flat} of {len(variances)} frames are of one colour; without edges")
    return float(_slope(variances.double().log()[:, None])[0])


def _laplacian_variance(frames: UInt8[Tensor, "n h w 3"]) -> Float[Tensor, "n"]:
    """Over pixels that have all four neighbours."""
    grey = frames.float() @ torch.tensor(_GREY, device=frames.device)
    middle = grey[:, 1:-1, 1:-1]
    around = grey[:, :-2, 1:-1] + grey[:, 2:, 1:-1] + grey[:, 1:-1, :-2] + grey[:, 1:-1, 2:]
    return (around - 4 * middle).flatten(1).var(1, correction=0)


def _slope(values: Float[Tensor, "f k"]) -> Float[Tensor, "k"]:
    """Of the least-squares line of each column, a second."""
    seconds = torch.arange(len(values), dtype=values.dtype, device=values.device) / int(FPS)
    centred = (seconds - seconds.mean())[:, None]
    return (centred * values).sum(0) / centred.square().sum()


def _check(curve: Tensor) -> None:
    if len(curve) < FPS:
        raise MetricError(f"drift needs a second, got {len(curve)} frames of {FPS} a second")
    check_numbers(curve, name="the frames' figures")
