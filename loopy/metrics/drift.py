"""Does a video slowly change its colours or lose its sharpness? Slopes over its whole length."""

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from loopy.errors import MetricError
from loopy.metrics.colour import to_lab
from loopy.metrics.extractors import check_numbers
from loopy.timing import FPS

_GREY = (0.299, 0.587, 0.114)
_AT_ONCE = 16


def mean_colours(frames: UInt8[Tensor, "f h w 3"]) -> Float[Tensor, "f 3"]:
    """Mean L*a*b* of each frame; a head that turns changes it a little, and back again."""
    return torch.cat([to_lab(part.float() / 255).mean((1, 2)) for part in frames.split(_AT_ONCE)])


def colour_slope(colours: Float[Tensor, "f 3"], *, fps: float = float(FPS)) -> float:
    """Delta-E a second: length of the slope of the mean L*a*b* over time.

    A straight line through all frames, so that noise and a head that moves to and fro have almost
    none, while a tint that grows by one delta-E a second has 1.

    Args:
        colours: See `mean_colours`.
        fps: Frames a second.

    Raises:
        MetricError: Fewer frames than one second has, or NaN.
    """
    _check(colours, fps)
    return float(_slope(colours.double(), fps).norm())


def colour_drift(frames: UInt8[Tensor, "f h w 3"], *, fps: float = float(FPS)) -> float:
    """`colour_slope` of a video in memory."""
    return colour_slope(mean_colours(frames), fps=fps)


def sharpness(frames: UInt8[Tensor, "f h w 3"]) -> Float[Tensor, "f"]:
    """Variance of the Laplacian of the grey picture in 0 to 255 (Pech-Pacheco et al. 2000)."""
    return torch.cat([_laplacian_variance(part) for part in frames.split(_AT_ONCE)])


def sharpness_slope(variances: Float[Tensor, "f"], *, fps: float = float(FPS)) -> float:
    """Slope of the logarithm of sharpness, a second; -0.01: it loses about one per cent a second.

    Args:
        variances: See `sharpness`.
        fps: Frames a second.

    Raises:
        MetricError: Fewer frames than one second has, NaN, or a frame of one colour.
    """
    _check(variances, fps)
    if not bool((variances > 0).all()):
        flat = int((variances <= 0).sum())
        raise MetricError(f"{flat} of {len(variances)} frames are of one colour; without edges")
    return float(_slope(variances.double().log()[:, None], fps)[0])


def sharpness_drift(frames: UInt8[Tensor, "f h w 3"], *, fps: float = float(FPS)) -> float:
    """`sharpness_slope` of a video in memory."""
    return sharpness_slope(sharpness(frames), fps=fps)


def _laplacian_variance(frames: UInt8[Tensor, "n h w 3"]) -> Float[Tensor, "n"]:
    """Over pixels that have all four neighbours."""
    grey = frames.float() @ torch.tensor(_GREY, device=frames.device)
    middle = grey[:, 1:-1, 1:-1]
    around = grey[:, :-2, 1:-1] + grey[:, 2:, 1:-1] + grey[:, 1:-1, :-2] + grey[:, 1:-1, 2:]
    return (around - 4 * middle).flatten(1).var(1, correction=0)


def _slope(values: Float[Tensor, "f k"], fps: float) -> Float[Tensor, "k"]:
    """Of the least-squares line of each column, a second."""
    seconds = torch.arange(len(values), dtype=values.dtype, device=values.device) / fps
    centred = (seconds - seconds.mean())[:, None]
    return (centred * values).sum(0) / centred.square().sum()


def _check(curve: Tensor, fps: float) -> None:
    if len(curve) < max(2, fps):
        raise MetricError(f"drift needs a second, got {len(curve)} frames of {fps:g} a second")
    check_numbers(curve, name="the frames' figures")
