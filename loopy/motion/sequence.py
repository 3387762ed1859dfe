"""MotionSequence: a named face track over time."""

from dataclasses import dataclass
from fractions import Fraction

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from loopy.errors import LoopyError
from loopy.timing import FPS

NOSE_TIP = 30
POINTS = 68


@dataclass(frozen=True)
class MotionSequence:
    """How a face moves: 68 points, head pose, and which points can be trusted.

    Args:
        points: iBUG-68 order, in pixels of a square crop (x right, y down).
        pose: Yaw, pitch, roll of the head in radians.
        valid: False where a point was not found; its coordinates then mean nothing.
        size_px: Side of the crop that ``points`` are measured in.
        fps: Frames a second.

    Raises:
        LoopyError: Fields that disagree in length or shape.
    """

    points: Float[Tensor, "f 68 2"]
    pose: Float[Tensor, "f 3"]
    valid: Bool[Tensor, "f 68"]
    size_px: int
    fps: Fraction = FPS

    def __post_init__(self) -> None:
        """Refuse fields that disagree."""
        for name in ("points", "pose", "valid"):
            if not isinstance(getattr(self, name), Tensor):
                raise LoopyError(f"{name} is a {type(getattr(self, name)).__name__}, not a tensor")
        frames = len(self.points) if self.points.ndim else 0
        expected = {"points": (frames, POINTS, 2), "pose": (frames, 3), "valid": (frames, POINTS)}
        for name, shape in expected.items():
            if tuple(getattr(self, name).shape) != shape:
                got = tuple(getattr(self, name).shape)
                raise LoopyError(f"{name} must have shape {shape}, got {got}")

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self.points)

    def __getitem__(self, frames: slice) -> "MotionSequence":
        """Cut out a range of frames."""
        return MotionSequence(
            self.points[frames], self.pose[frames], self.valid[frames], self.size_px, self.fps
        )

    def normalised(self) -> Float[Tensor, "f 204"]:
        """The form in which landmarks enter a network: point / crop size - 0.5, and validity.

        Invalid points are 0; the last 68 numbers of a frame are 1 where a point is valid.
        """
        points = (self.points / self.size_px - 0.5).masked_fill(~self.valid[..., None], 0.0)
        return torch.cat([points.flatten(1), self.valid.to(points)], 1)
