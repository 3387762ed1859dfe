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
from torch import Tensor, nn
from torch.nn import functional

from loopy.errors import MetricError, ModelError
from loopy.metrics.extractors import I3D, RESNET_3D, SegmentFeatures
from loopy.models.weights import load_by_name

SEGMENT = 16
KINETICS_MEAN = (114.7748, 107.7354, 99.4750)
"""Mean colour that the 3D ResNet was trained to have subtracted, of 255."""
_EXPANSION = 4
_STAGES = ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2))
"""Width, blocks and stride of the four stages of a ResNet-50."""


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


class _Bottleneck(nn.Module):
    """1 x 1 x 1, 3 x 3 x 3 and 1 x 1 x 1 convolutions beside a short cut."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        out = width * _EXPANSION
        self.conv1 = nn.Conv3d(channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm3d(width)
        self.conv2 = nn.Conv3d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm3d(width)
        self.conv3 = nn.Conv3d(width, out, 1, bias=False)
        self.bn3 = nn.BatchNorm3d(out)
        self.downsample = None
        if channels != out or stride != 1:
            short_cut = nn.Conv3d(channels, out, 1, stride, bias=False)
            self.downsample = nn.Sequential(short_cut, nn.BatchNorm3d(out))

    def forward(self, x: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b k u v w"]:
        """Features of the next block."""
        inner = functional.relu(self.bn1(self.conv1(x)))
        inner = functional.relu(self.bn2(self.conv2(inner)))
        inner = self.bn3(self.conv3(inner))
        return functional.relu(inner + (x if self.downsample is None else self.downsample(x)))


class ResNet3D(nn.Module):
    """3D ResNet-50 (Hara et al. 2018) of ``resnet-50-kinetics.pth``, with its authors' names.

    `fc`, its head over 400 actions, is held so that the file loads whole, and is not used.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(3, 64, 7, stride=(1, 2, 2), padding=3, bias=False)
        self.bn1 = nn.BatchNorm3d(64)
        self.maxpool = nn.MaxPool3d(3, stride=2, padding=1)
        channels, stages = 64, []
        for width, blocks, stride in _STAGES:
            stage = []
            for block in range(blocks):
                stage.append(_Bottleneck(channels, width, stride if block == 0 else 1))
                channels = width * _EXPANSION
            stages.append(nn.Sequential(*stage))
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.fc = nn.Linear(channels, 400)

    def forward(self, pictures: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "b 2048"]:
        """Mean over place and time of the last stage; 16 frames of 112 x 112 leave 1 x 4 x 4."""
        x = self.maxpool(functional.relu(self.bn1(self.conv1(pictures))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return x.mean((2, 3, 4))
