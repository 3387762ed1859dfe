"""The recogniser: a small network that says whose toon face a picture shows.

It was trained on renders alone (`tools.judges.train_recogniser`), told apart only from faces
with the same background, clothes and skin, so that these do not count.
"""

from typing import ClassVar

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional

from loopy.models.probe import AT_ONCE, ToonProbe, to_pictures

CROP = (slice(8, 104), slice(16, 112))
"""Rows and columns of a 128 px picture that hold the face, however turned; little else."""


class Recogniser(ToonProbe):
    """Five convolutions down to 6 x 6, then two linear maps to a unit vector."""

    name: ClassVar[str] = "recogniser"
    width: ClassVar[int] = 64

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 5, stride=2, padding=2, bias=False)
        self.norm1 = nn.BatchNorm2d(16)
        self.conv2 = nn.Conv2d(16, 32, 3, stride=2, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(32)
        self.conv3 = nn.Conv2d(32, 64, 3, stride=2, padding=1, bias=False)
        self.norm3 = nn.BatchNorm2d(64)
        self.conv4 = nn.Conv2d(64, 96, 3, stride=2, padding=1, bias=False)
        self.norm4 = nn.BatchNorm2d(96)
        self.conv5 = nn.Conv2d(96, 96, 3, padding=1, bias=False)
        self.norm5 = nn.BatchNorm2d(96)
        self.narrow = nn.Conv2d(96, 32, 1)
        self.read = nn.Linear(32 * 6 * 6, self.width)

    def forward(self, pictures: Float[Tensor, "n 3 128 128"]) -> Float[Tensor, "n d"]:
        """Unit vectors of pictures in [-1, 1]; the cosine of two says how alike the faces are."""
        rows, columns = CROP
        x = self.norm1(self.conv1(pictures[:, :, rows, columns])).relu()
        x = self.norm2(self.conv2(x)).relu()
        x = self.norm3(self.conv3(x)).relu()
        x = self.norm4(self.conv4(x)).relu()
        x = self.norm5(self.conv5(x)).relu()
        return functional.normalize(self.read(self.narrow(x).relu().flatten(1)), dim=1)

    @torch.no_grad()
    def embed(self, frames: UInt8[Tensor, "f H W 3"]) -> Float[Tensor, "f d"]:
        """Unit vectors of the frames of a video of any size, each by itself, a few at a time."""
        return torch.cat([self(to_pictures(part)) for part in frames.split(AT_ONCE)])
