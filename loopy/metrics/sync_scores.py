"""Sync-C, Sync-D and the offset: how well sound and pictures are in step (SyncNet, 2016).

What is seen is compared with what is heard at every shift within 15 frames. Sync-D is the smallest
mean distance, Sync-C the median over shifts less the smallest. Both reward a head that keeps still:
aim at the real video's figure.

Toons and people have judges of our own. Their vectors have length 1, so that distances lie between
0 and 2: never compare them with SyncNet's. Each has seen its own kind alone; of other faces its
figures mean nothing.
"""

from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from loopy.errors import MetricError
from loopy.metrics.extractors import check_numbers
from loopy.models import AudioEncoder
from loopy.models.folder import ASSETS, load_audio_encoder, load_part
from loopy.models.people_sync import PeopleSyncJudge
from loopy.models.sync import LARGEST_OFFSET, WINDOW, SyncJudge, offset_distances

REACH = 15
FEWEST_FRAMES = 2 * LARGEST_OFFSET + WINDOW
"""Of our own judges: below, the largest offset leaves less than half of the windows."""
PEOPLE_ENCODER = ASSETS / "people_audio_encoder"
"""The audio encoder of the package that has heard people."""


class SyncScores(NamedTuple):
    """How well a video is in step with its sound: Sync-C, Sync-D and the offset.

    The sound comes `offset` frames early (-k: k frames late). Confidence is 0 where sound and
    pictures have nothing to do with each other; distance is in the unit of the embeddings.
    """

    confidence: float
    distance: float
    offset: int


def sync_scores(pictures: Float[Tensor, "f d"], sound: Float[Tensor, "f d"]) -> SyncScores:
    """Scores of one video by SyncNet's embeddings; outside of the sound they are zero, as there.

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
    shifted = (padded[shift : shift + len(sound)] for shift in range(2 * REACH + 1))
    distances = [functional.pairwise_distance(pictures.double(), each) for each in shifted]
    return _scores(torch.stack(distances).mean(1), REACH)


def scores_of(sound: Float[Tensor, "g d"], mouth: Float[Tensor, "g d"]) -> SyncScores:
    """Scores by unit vectors of the same frames; windows without a partner do not count.

    Raises:
        MetricError: At some offset no window is left.
    """
    if len(mouth) <= LARGEST_OFFSET:
        raise MetricError(
            f"{len(mouth)} windows are too few for offsets of {LARGEST_OFFSET} frames; give more"
        )
    distances = offset_distances(sound, mouth).double()
    if not bool(distances.isfinite().all()):
        raise MetricError("at some offsets no window is whole; give a longer or a better track")
    return _scores(distances, LARGEST_OFFSET)


def load_judge() -> tuple[SyncJudge, AudioEncoder]:
    """The judge of toons, and the ears of the toon model that it was trained with.

    Raises:
        ModelError: A file is missing or damaged.
    """
    return SyncJudge.from_pretrained(), load_part(ASSETS / "toon", "audio_encoder").float()


def load_people_judge(
    folder: str | Path | None = None, *, audio_encoder: str | Path | None = None
) -> tuple[PeopleSyncJudge, AudioEncoder]:
    """The judge for people, and the ears that it was trained with.

    Args:
        folder: Of the judge; the package's own by default.
        audio_encoder: Folder of the encoder (config.json, model.safetensors); likewise.

    Raises:
        ModelError: A file is missing or damaged, or the judge was trained with another encoder.
    """
    judge = PeopleSyncJudge.from_pretrained(folder)
    encoder = load_audio_encoder(Path(audio_encoder or PEOPLE_ENCODER)).float()
    judge.check(encoder)
    return judge, encoder


def _scores(distances: Float[Tensor, "shifts"], reach: int) -> SyncScores:
    smallest, place = distances.min(0)
    return SyncScores(float(distances.median() - smallest), float(smallest), reach - int(place))
