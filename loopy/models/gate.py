"""The gate: a small network that says whether a picture is a toon portrait of our kind.

It was trained on renders and on drawn counterexamples (`tools.judges.train_gate`), and
has never seen a photograph.
"""

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from loopy.models.probe import SIDE_PX, ToonProbe


class Gate(ToonProbe):
    """Five convolutions down to 4 x 4, which keep where things are, and two linear maps."""

    name: ClassVar[str] = "gate"

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 5, stride=2, padding=2, bias=False)
        self.norm1 = nn.BatchNorm2d(16)
        self.conv2 = nn.Conv2d(16, 32, 3, stride=2, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(32)
        self.conv3 = nn.Conv2d(32, 48, 3, stride=2, padding=1, bias=False)
        self.norm3 = nn.BatchNorm2d(48)
        self.conv4 = nn.Conv2d(48, 72, 3, stride=2, padding=1, bias=False)
        self.norm4 = nn.BatchNorm2d(72)
        self.conv5 = nn.Conv2d(72, 72, 3, stride=2, padding=1, bias=False)
        self.norm5 = nn.BatchNorm2d(72)
        self.hidden = nn.Linear(72 * 4 * 4, 24)
        self.read = nn.Linear(24, 1)

    def forward(self, pictures: Float[Tensor, "n 3 128 128"]) -> Float[Tensor, " n"]:
        """Log odds that pictures in [-1, 1] are toon portraits."""
        x = self.norm1(self.conv1(pictures)).relu()
        x = self.norm2(self.conv2(x)).relu()
        x = self.norm3(self.conv3(x)).relu()
        x = self.norm4(self.conv4(x)).relu()
        x = self.norm5(self.conv5(x)).relu()
        return self.read(self.hidden(x.flatten(1)).relu())[:, 0]

    @torch.no_grad()
    def passes(self, picture: Float[Tensor, "3 H W"]) -> bool:
        """Whether a picture of any size, in [-1, 1], is more likely a toon portrait than not."""
        size = (SIDE_PX, SIDE_PX)
        shown = functional.interpolate(picture[None], size, mode="bilinear", antialias=True)
        return bool(self(shown)[0] > 0)
