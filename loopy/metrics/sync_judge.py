"""Toon-Sync-C, Toon-Sync-D and the offset: lip sync of toon talkers, by a judge of our own.

Defined as SyncNet's columns are (`loopy.metrics.sync_scores`), but the unit is another: vectors of
length 1, so that distances lie between 0 and 2. Never compare them with SyncNet's. The judge has
seen toons alone; of other faces its figures mean nothing.
"""

from jaxtyping import Float
from torch import Tensor

from loopy.errors import MetricError
from loopy.metrics.sync_scores import SyncScores
from loopy.models import AudioEncoder
from loopy.models.folder import ASSETS, load_part
from loopy.models.sync import LARGEST_OFFSET, WINDOW, SyncJudge, offset_distances

FEWEST_FRAMES = 2 * LARGEST_OFFSET + WINDOW
"""Below, the largest offset leaves less than half of the windows."""


def scores_of(sound: Float[Tensor, "g d"], mouth: Float[Tensor, "g d"]) -> SyncScores:
    """Scores of unit vectors that belong to the same frames, in any of the judge's forms.

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
    smallest, place = distances.min(0)
    confidence = float(distances.median() - smallest)
    return SyncScores(confidence, float(smallest), LARGEST_OFFSET - int(place))


def load_judge() -> tuple[SyncJudge, AudioEncoder]:
    """The judge of the package, and the ears of the toon model that it was trained with.

    Raises:
        ModelError: A file is missing or damaged.
    """
    return SyncJudge.from_pretrained(), load_part(ASSETS / "toon", "audio_encoder").float()
