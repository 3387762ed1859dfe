"""Motion smoothness of VBench (Huang et al. 2023): can the frames between be guessed?

Every second frame is left out and made up from its two neighbours; the figure is 1 less the mean
difference, in parts of 255. It rewards stillness: aim at the real video's figure.
"""

from pathlib import Path

import torch
from jaxtyping import UInt8
from torch import Tensor
from torch.nn import functional

from loopy.errors import MetricError
from loopy.metrics.extractors import AMT_S, Interpolator

_MULTIPLE_PX = 16


def smoothness(
    frames: UInt8[Tensor, "f h w 3"], interpolator: Interpolator, *, at_once: int = 8
) -> float:
    """Smoothness of one video, in [0, 1].

    Args:
        frames: sRGB; of an even number the last frame has no right neighbour and is not seen.
        interpolator: AMT-S for the figure of VBench and of the paper; another one is another
            figure and must have another name.
        at_once: Frames made up together.

    Raises:
        MetricError: Fewer than 3 frames, or frames that are not uint8.
    """
    if frames.dtype != torch.uint8:
        raise MetricError(f"frames must be uint8 in 0 to 255, got {frames.dtype}")
    if len(frames) < 3:
        raise MetricError(f"smoothness needs 3 frames, got {len(frames)}")
    kept, left_out = frames[::2], frames[1:-1:2]
    total = 0.0
    for part in torch.arange(len(left_out)).split(at_once):
        guess = interpolator(kept[part], kept[part + 1])
        error = (guess.float() - left_out[part].to(guess.device).float()).abs()
        total += float(error.flatten(1).mean(1).sum())
    return 1 - total / len(left_out) / 255


def linear(
    before: UInt8[Tensor, "n h w 3"], after: UInt8[Tensor, "n h w 3"]
) -> UInt8[Tensor, "n h w 3"]:
    """The mean of both pictures, for "smoothness, linear": needs no weights, sees no motion."""
    return ((before.int() + after.int() + 1) // 2).to(torch.uint8)


def amt(path: str | Path | None, *, device: str | torch.device = "cpu") -> Interpolator:
    """AMT-S, out of a TorchScript file; pictures are padded to a multiple of 16, as VBench does.

    Raises:
        ModelError: The file is missing, or no TorchScript.
    """
    network = AMT_S.script(path).to(device)

    @torch.no_grad()
    def between(before: Tensor, after: Tensor) -> Tensor:
        height, width = before.shape[1:3]
        down, right = -height % _MULTIPLE_PX, -width % _MULTIPLE_PX
        margins = (right // 2, right - right // 2, down // 2, down - down // 2)
        pair = [
            functional.pad(p.to(device).permute(0, 3, 1, 2) / 255, margins, mode="replicate")
            for p in (before, after)
        ]
        middle = network(*pair)[..., margins[2] :, margins[0] :][..., :height, :width]
        return (middle * 255).clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)  # cut off, as there

    return between
