"""3D ResNet-50 (Hara et al. 2018), with its authors' parameter names, up to its 2048 features."""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

EXPANSION = 4
STAGES = ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2))
"""Width, blocks and stride of the four stages of a ResNet-50."""


class Bottleneck(nn.Module):
    """1 x 1 x 1, 3 x 3 x 3 and 1 x 1 x 1 convolutions beside a short cut."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        out = width * EXPANSION
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
    """The network of ``resnet-50-kinetics.pth``.

    `fc`, its head over 400 actions, is held so that the file loads whole, and is not used.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(3, 64, 7, stride=(1, 2, 2), padding=3, bias=False)
        self.bn1 = nn.BatchNorm3d(64)
        self.maxpool = nn.MaxPool3d(3, stride=2, padding=1)
        channels, stages = 64, []
        for width, blocks, stride in STAGES:
            stage = []
            for block in range(blocks):
                stage.append(Bottleneck(channels, width, stride if block == 0 else 1))
                channels = width * EXPANSION
            stages.append(nn.Sequential(*stage))
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.fc = nn.Linear(channels, 400)

    def forward(self, pictures: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "b 2048"]:
        """Mean over place and time of the last stage; 16 frames of 112 x 112 leave 1 x 4 x 4."""
        x = self.maxpool(functional.relu(self.bn1(self.conv1(pictures))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return x.mean((2, 3, 4))
