"""Mean and deviation of the motion measures of a store, which audio-to-latents is given."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from loopy.data.store.index import TRAIN
from loopy.data.store.shot_store import ShotStore
from loopy.data.store.windows import draw_window
from loopy.motion import MotionSequence, expression_variance, head_motion_variance
from loopy.randomness import generator

MIN_DEVIATION = 1e-3


@dataclass(frozen=True)
class MotionScale:
    """What `loopy.models.AudioToLatents` takes as ``log_mean`` and ``log_std``.

    Attributes:
        log_mean: Mean of log(1 + head motion) and of log(1 + expression), px² at 512.
        log_std: Their standard deviations; 1 where nothing differs.
        windows: How many windows were measured.
        clip_frames: Frames of a window. A longer one moves more.
    """

    log_mean: tuple[float, float]
    log_std: tuple[float, float]
    windows: int
    clip_frames: int

    def __str__(self) -> str:
        """Two lines for a recipe."""
        (head, expression), (head_std, expression_std) = self.log_mean, self.log_std
        return (
            f"log_mean: [{head:.3f}, {expression:.3f}]  # of head motion and expression, over "
            f"{self.windows} windows of {self.clip_frames} frames to train on\n"
            f"log_std: [{head_std:.3f}, {expression_std:.3f}]"
        )


def motion_scale(
    store: ShotStore, *, clip_frames: int = 12, windows: int = 2048, seed: int = 0
) -> MotionScale | None:
    """Measures windows that begin anywhere in a shot, by their tracks alone.

    Training sees the same frames, later ones somewhat more often: before most of its windows lies a
    whole past.

    Args:
        store: Where from; a shot that is missing or damaged is a StoreError.
        clip_frames: Frames of a window; as in the model.
        windows: How many, spread evenly over the shots of the training split.
        seed: Of their places.

    Returns:
        None where no shot of the training split is longer than a window.
    """
    index = store.index
    rows = np.flatnonzero((index["split"] == TRAIN) & (index["frames"] > clip_frames))
    if not len(rows):
        return None
    chosen = rows[np.arange(windows) * len(rows) // windows]
    draw = generator(seed, "motion scale")
    found = [_measures(store, int(row), draw, clip_frames=clip_frames) for row in chosen]
    logs = torch.stack(found).double().log1p()
    mean, deviation = zip(*(_mean_and_deviation(column) for column in logs.T), strict=True)
    return MotionScale(mean, deviation, windows, clip_frames)


def _measures(
    store: ShotStore, row: int, draw: torch.Generator, *, clip_frames: int
) -> Float[Tensor, "2"]:
    frames = int(store.index["frames"][row])
    start = draw_window(frames, draw, clip_frames=clip_frames, history=0).start
    rows = slice(start, start + clip_frames)
    read = store.read(row, {"points": rows, "pose": rows, "valid": rows})
    size_px = store.description.size_px
    motion = MotionSequence(read["points"], read["pose"], read["valid"], size_px)
    return torch.stack([head_motion_variance(motion), expression_variance(motion)])


def _mean_and_deviation(logs: Float[Tensor, " windows"]) -> tuple[float, float]:
    """Of what is known; what is not is never shown to the network."""
    known = logs[~logs.isnan()]
    if not len(known):
        return 0.0, 1.0
    deviation = float(known.std(correction=0))
    return float(known.mean()), deviation if deviation > MIN_DEVIATION else 1.0
