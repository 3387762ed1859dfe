"""The tracker: a small network that reads mouth, lids and turn of a toon head from one picture.

It was trained on renders alone (`loopy.evaluation.train_tracker`) and never sees what it judges.
"""

import json
from pathlib import Path
from typing import Any, Self

import torch
from jaxtyping import Float, UInt8
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from loopy.errors import ModelError, OutputError
from loopy.models.weights import load_by_name
from loopy.pipeline import ASSETS

OUTPUTS = ("open", "wide", "round", "teeth", "blink", "yaw")
"""What it reads, in order: controls of `loopy.synthetic.face`, in their units."""

SIDE_PX = 128
FOLDER = ASSETS / "toon_tracker"
WEIGHTS, CARD = "tracker.safetensors", "tracker.json"


def read_card(folder: str | Path = FOLDER) -> dict[str, Any]:
    """How a tracker was made ("made_by") and how well it reads unseen faces ("accuracy").

    Raises:
        ModelError: The file is missing or damaged.
    """
    path = Path(folder) / CARD
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ModelError(f"the tracker's {path} cannot be read ({error}); copy it again") from error


class Tracker(nn.Module):
    """Five convolutions down to 8 x 8, then two linear maps that know places (0.14 M numbers)."""

    def __init__(self) -> None:
        super().__init__()
        widths = (16, 32, 48, 64, 64, 16)
        self.conv1 = nn.Conv2d(3, widths[0], 5, stride=2, padding=2, bias=False)
        self.norm1 = nn.BatchNorm2d(widths[0])
        self.conv2 = nn.Conv2d(widths[0], widths[1], 3, stride=2, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(widths[1])
        self.conv3 = nn.Conv2d(widths[1], widths[2], 3, stride=2, padding=1, bias=False)
        self.norm3 = nn.BatchNorm2d(widths[2])
        self.conv4 = nn.Conv2d(widths[2], widths[3], 3, stride=2, padding=1, bias=False)
        self.norm4 = nn.BatchNorm2d(widths[3])
        self.conv5 = nn.Conv2d(widths[3], widths[4], 3, padding=1, bias=False)
        self.norm5 = nn.BatchNorm2d(widths[4])
        self.narrow = nn.Conv2d(widths[4], widths[5], 1)
        self.hidden = nn.Linear(widths[5] * 8 * 8, 48)
        self.read = nn.Linear(48, len(OUTPUTS))

    def forward(self, pictures: Float[Tensor, "n 3 128 128"]) -> Float[Tensor, "n 6"]:
        """Read pictures in [-1, 1]; columns as in `OUTPUTS`."""
        x = self.norm1(self.conv1(pictures)).relu()
        x = self.norm2(self.conv2(x)).relu()
        x = self.norm3(self.conv3(x)).relu()
        x = self.norm4(self.conv4(x)).relu()
        x = self.norm5(self.conv5(x)).relu()
        x = self.hidden(self.narrow(x).relu().flatten(1)).relu()
        return self.read(x)

    @torch.no_grad()
    def track(self, frames: UInt8[Tensor, "f H W 3"]) -> Float[Tensor, "f 6"]:
        """Read the frames of a video of any size, each by itself, a few at a time."""
        parts = []
        for part in frames.split(32):
            pictures = part.permute(0, 3, 1, 2).float() / 127.5 - 1
            if pictures.shape[-2:] != (SIDE_PX, SIDE_PX):
                pictures = functional.interpolate(
                    pictures, (SIDE_PX, SIDE_PX), mode="bilinear", antialias=True
                )
            parts.append(self(pictures))
        return torch.cat(parts)

    @classmethod
    def from_pretrained(cls, folder: str | Path = FOLDER) -> Self:
        """Load the tracker of the package, or one from a folder.

        Raises:
            ModelError: The file is missing or damaged, or a tensor does not fit.
        """
        path = Path(folder) / WEIGHTS
        if not path.is_file():
            raise ModelError(
                f"the tracker lacks {path}; train it by python -m loopy.evaluation.train_tracker"
            )
        tracker = cls()
        try:
            load_by_name(tracker, load_file(path))
        except (SafetensorError, OSError) as error:
            raise ModelError(f"{path} cannot be read ({error}); copy it again") from error
        return tracker.eval()

    def save_pretrained(self, folder: str | Path, *, card: dict[str, Any]) -> None:
        """Write the weights, and beside them how they were made and how well they read.

        Raises:
            OutputError: It cannot be written there.
        """
        try:
            Path(folder).mkdir(parents=True, exist_ok=True)
            save_file(self.state_dict(), Path(folder) / WEIGHTS)
            (Path(folder) / CARD).write_text(json.dumps(card, indent=2) + "\n")
        except (OSError, SafetensorError) as error:
            raise OutputError(f"cannot write the tracker to {folder}: {error}") from error
