"""One row of features for a whole video, as FVD-R and FVD-I compare them; FVD's two backbones.

A video is cut into stretches of 16 frames, the last one filled up with its final frame; the
features of the stretches are averaged. Loopy does not say which networks it means. These are the
two of DisCo's metrics (arXiv 2307.00040), whose code Hallo's authors name; DisCo gives I3D the
whole video at once, here both see stretches. FVD does not compare between such choices.
"""

from collections.abc import Callable
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional

from loopy.errors import MetricError, ModelError
from loopy.metrics.extractors import I3D, RESNET_3D, SegmentFeatures
from loopy.metrics.resnet3d import ResNet3D
from loopy.models.weights import load_by_name

SEGMENT = 16
KINETICS_MEAN = (114.7748, 107.7354, 99.4750)
"""Mean colour that the 3D ResNet was trained to have subtracted, of 255."""


def segments(frames: UInt8[Tensor, "f h w 3"]) -> UInt8[Tensor, "s 16 h w 3"]:
    """Stretches of 16 frames, one behind the other; the last is filled with the last frame.

    Raises:
        MetricError: Fewer frames than one stretch: most of it would stand still.
    """
    if len(frames) < SEGMENT:
        raise MetricError(f"a video of {len(frames)} frames is shorter than a stretch of {SEGMENT}")
    missing = -len(frames) % SEGMENT
    whole = torch.cat([frames, frames[-1:].expand(missing, -1, -1, -1)])
    return whole.unflatten(0, (-1, SEGMENT))


def resnet_3d(path: str | Path | None, *, device: str | torch.device = "cpu") -> SegmentFeatures:
    """FVD-R's features: 3D ResNet-50, 112 x 112, the mean colour subtracted; 2048 numbers.

    Raises:
        ModelError: The file is missing, damaged, or not of this network.
    """
    content = RESNET_3D.read(path)
    inside = content.get("state_dict")
    state = inside if isinstance(inside, dict) else {}
    state = {str(name).removeprefix("module."): value for name, value in state.items()}
    network = ResNet3D()
    try:
        load_by_name(network, state, new=("num_batches_tracked",))
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error
    network = network.eval().to(device)
    mean = torch.tensor(KINETICS_MEAN, device=device)[:, None, None, None]
    return _seen(lambda pictures: network(pictures - mean), 112, device)


def i3d(path: str | Path | None, *, device: str | torch.device = "cpu") -> SegmentFeatures:
    """FVD-I's features: I3D, 224 x 224 in [-1, 1]; the 400 numbers before its softmax.

    The TorchScript is asked as StyleGAN-V does, to neither scale nor resize by itself.

    Raises:
        ModelError: The file is missing, or no TorchScript.
    """
    network = I3D.script(path).to(device)

    def look(pictures: Tensor) -> Tensor:
        return network(pictures / 127.5 - 1, rescale=False, resize=False, return_features=True)

    return _seen(look, 224, device)


def _seen(
    network: Callable[[Tensor], Tensor], size_px: int, device: str | torch.device
) -> SegmentFeatures:
    """Stretches of pictures, resized as DisCo does it, through a network that wants channels."""

    @torch.no_grad()
    def features(segments: UInt8[Tensor, "s t h w 3"]) -> Float[Tensor, "s d"]:
        pictures = segments.to(device).flatten(0, 1).permute(0, 3, 1, 2).float()
        size = (size_px, size_px)
        resized = functional.interpolate(pictures, size, mode="bicubic", antialias=True)
        moving = resized.unflatten(0, segments.shape[:2]).transpose(1, 2)  # s 3 t h w
        return network(moving).float().cpu()

    return features
