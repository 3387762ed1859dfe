"""Random toon faces with their landmarks, for the autoencoder."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from loopy.motion import MotionSequence, box_mask
from loopy.synthetic.face import CONTROLS, landmarks, random_identities, render
from loopy.training.datamodule import SyntheticData

PARTS = {"eyes": slice(36, 48), "mouth": slice(48, 68)}
"""Points of a face that may weigh more."""
MARGIN_CELLS = 0.5


class Faces(NamedTuple):
    """A batch of pictures.

    Attributes:
        pictures: In [-1, 1].
        points: 68 landmarks in pixels, iBUG order.
        valid: Which of them are in the picture.
    """

    pictures: Float[Tensor, "n 3 H W"]
    points: Float[Tensor, "n 68 2"]
    valid: Bool[Tensor, "n 68"]


_MOUTH = ("open", "wide", "round", "teeth")
_SPREAD = {
    "smile": 0.4, "gaze_x": 0.5, "gaze_y": 0.4, "brow": 0.4,
    "yaw": 0.2, "pitch": 0.13, "roll": 0.1, "shift_x": 0.025, "shift_y": 0.025,
}  # fmt: skip
_LIMIT = {"yaw": 0.45, "pitch": 0.3, "roll": 0.25, "shift_x": 0.06, "shift_y": 0.06}


def random_controls(n: int, generator: torch.Generator) -> Float[Tensor, "n 14"]:
    """Controls of unrelated faces: every mouth shape, every third mouth shut, eyes mostly open."""

    def uniform() -> Tensor:
        return torch.rand(n, generator=generator)

    columns = {name: uniform() for name in _MOUTH}
    columns["open"] = columns["open"] * (uniform() > 1 / 3)
    columns["blink"] = uniform() * (uniform() < 0.2)
    for name, spread in _SPREAD.items():
        limit = _LIMIT.get(name, 1.0)
        columns[name] = (spread * torch.randn(n, generator=generator)).clamp(-limit, limit)
    return torch.stack([columns[name] for name in CONTROLS], 1)


class SyntheticFaces(SyntheticData):
    """Pictures of unrelated toon heads, each drawn once.

    Args:
        size_px: Height and width.
        batch_size: Samples in a batch, on each rank.
        validation_batches: Batches of the held-out set.
        seed: Of every sample.
        workers: Processes that make batches; 0 makes them in the training process.
    """

    def __init__(
        self,
        *,
        size_px: int = 128,
        batch_size: int = 8,
        validation_batches: int = 4,
        seed: int = 0,
        workers: int = 0,
    ) -> None:
        super().__init__(
            batch_size=batch_size,
            validation_batches=validation_batches,
            seed=seed,
            workers=workers,
        )
        self.size_px = size_px

    def make(self, generator: torch.Generator) -> Faces:
        """Draws one batch."""
        identity = random_identities(self.batch_size, generator)
        controls = random_controls(self.batch_size, generator)
        points, valid = landmarks(identity, controls, size_px=self.size_px)
        return Faces(render(identity, controls, size_px=self.size_px), points, valid)


def part_mask(motion: MotionSequence, part: str, *, cells: int) -> Float[Tensor, "f 1 h w"]:
    """One in the cells around a part of the face; nothing in frames that lack a point of it.

    Args:
        motion: Track of the frames.
        part: See `PARTS`.
        cells: Height and width of the latents.
    """
    points = motion.points[:, PARTS[part]] * (cells / motion.size_px)
    known = motion.valid[:, PARTS[part]].all(1)[:, None, None, None]
    return box_mask(points, size_px=cells, margin_px=MARGIN_CELLS) * known


def psnr(error: Float[Tensor, "..."]) -> Float[Tensor, ""]:
    """Peak signal to noise in dB of squared errors of pictures in [-1, 1]."""
    return 10 * (math.log10(4) - error.mean().log10())
