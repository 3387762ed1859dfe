"""The tracker: a small network that reads mouth, lids, brows and pose of a toon head.

It was trained on renders alone (`tools.judges.train_tracker`).
"""

from itertools import pairwise
from typing import Any, ClassVar

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from loopy.models.probe import AT_ONCE, ToonProbe, to_pictures

OUTPUTS = (
    "open", "wide", "round", "teeth", "blink", "brow", "yaw", "pitch", "roll", "shift_x", "shift_y",
)  # fmt: skip
"""What it reads, in order: controls of `loopy.synthetic.face`, in their units."""

SPANS = (0.3, 0.3, 0.3, 0.3, 0.3, 0.5, 0.2, 0.1, 0.1, 0.03, 0.03)
"""A usual deviation of each output; the last layer counts in these."""

EYES = (slice(28, 76), slice(24, 104))
MOUTH = (slice(48, 108), slice(24, 104))
"""Rows and columns of a 128 px picture in which they stay, however the head turns."""


def unread(card: dict[str, Any], *, minimum: float = 0.5) -> set[str]:
    """Outputs that a tracker does not follow: median r within talks under a bound, or unknown."""
    talks = card.get("talks", {}).get("clean", {})
    return {name for name in OUTPUTS if not (talks.get(name, {}).get("median") or 0.0) >= minimum}


class ReadHead(nn.Module):
    """Four convolutions down to an eighth (or, in larger steps, a sixteenth) of the size."""

    def __init__(self, out: int, *, step: int = 1) -> None:
        super().__init__()
        widths = (3, 12, 24, 48, 64)
        strides = (step, 2, 2, 2)
        self.convs = nn.ModuleList(
            nn.Conv2d(a, b, 3 + 2 * (i == 0), stride=strides[i], padding=1 + (i == 0), bias=False)
            for i, (a, b) in enumerate(pairwise(widths))
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for width in widths[1:])
        self.narrow = nn.Conv2d(widths[-1], out, 1)

    def forward(self, x: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n d"]:
        """Features, flat."""
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = norm(conv(x)).relu()
        return self.narrow(x).relu().flatten(1)


class Tracker(ToonProbe):
    """One branch for the whole face, two for eyes and mouth at full size, and one head."""

    name: ClassVar[str] = "tracker"

    def __init__(self) -> None:
        super().__init__()
        self.face = ReadHead(16, step=2)
        self.eyes = ReadHead(16)
        self.mouth = ReadHead(24)
        self.hidden = nn.Linear(16 * 8 * 8 + 16 * 6 * 10 + 24 * 8 * 10, 96)
        self.read = nn.Linear(96, len(OUTPUTS))

    def forward(self, pictures: Float[Tensor, "n 3 128 128"]) -> Float[Tensor, "n 11"]:
        """Read pictures in [-1, 1]; columns as in `OUTPUTS`."""
        features = [self.face(pictures)]
        for branch, (rows, columns) in ((self.eyes, EYES), (self.mouth, MOUTH)):
            features.append(branch(pictures[:, :, rows, columns]))
        values = self.read(self.hidden(torch.cat(features, 1)).relu())
        return values.float() * values.new_tensor(SPANS, dtype=torch.float32)

    @torch.no_grad()
    def track(self, frames: UInt8[Tensor, "f H W 3"]) -> Float[Tensor, "f 11"]:
        """Read the frames of a video of any size, each by itself, a few at a time."""
        return torch.cat([self(to_pictures(part)) for part in frames.split(AT_ONCE)])
