"""Sync-C, Sync-D and the offset: how well sound and pictures are in step (SyncNet, 2016).

What is seen is compared with what is heard at every shift within `REACH` frames; outside the video
the sound's embeddings are zero. Sync-D is the smallest mean distance, Sync-C the median over
shifts less the smallest. Both reward a head that keeps still: aim at the real video's figure.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from loopy.errors import MetricError
from loopy.metrics.extractors import check_numbers

REACH = 15
"""Largest shift in frames, to either side."""


class SyncScores(NamedTuple):
    """How well a video is in step with its sound.

    Attributes:
        confidence: Sync-C; 0 where sound and pictures have nothing to do with each other.
        distance: Sync-D, in the unit of the embeddings.
        offset: Frames by which the sound comes early (-k: it comes k frames late).
    """

    confidence: float
    distance: float
    offset: int


def sync_scores(pictures: Float[Tensor, "f d"], sound: Float[Tensor, "f d"]) -> SyncScores:
    """Scores of one video.

    Args:
        pictures: Embeddings of what is seen, one a frame.
        sound: Embeddings of what is heard, in step with them.

    Raises:
        MetricError: Different lengths, NaN, or not more frames than `REACH`.
    """
    if pictures.shape != sound.shape:
        shapes = f"{tuple(pictures.shape)} and {tuple(sound.shape)}"
        raise MetricError(f"pictures and sound must have equal shapes, got {shapes}; cut one")
    if len(pictures) <= REACH:
        raise MetricError(
            f"a video of {len(pictures)} embeddings is too short for shifts of {REACH} frames; "
            f"give more than {REACH}"
        )
    check_numbers(pictures, name="the embeddings of pictures")
    check_numbers(sound, name="the embeddings of sound")
    padded = functional.pad(sound.double(), (0, 0, REACH, REACH))
    distances = torch.stack(
        [
            functional.pairwise_distance(pictures.double(), padded[shift : shift + len(sound)])
            for shift in range(2 * REACH + 1)
        ]
    ).mean(1)
    smallest, place = distances.min(0)
    confidence = distances.median() - smallest
    return SyncScores(float(confidence), float(smallest), REACH - int(place))
