"""Toon-Sync-C, Toon-Sync-D and the offset: lip sync of toon talkers, by a judge of our own.

Defined as SyncNet's columns are (`loopy.metrics.sync_scores`), but the unit is another: vectors of
length 1, so that distances lie between 0 and 2. Never compare them with SyncNet's. The judge has
seen toons alone; of other faces its figures mean nothing.
"""

from jaxtyping import Float, UInt8
from torch import Tensor

from loopy.errors import MetricError
from loopy.metrics.sync_scores import SyncScores
from loopy.models import AudioEncoder
from loopy.models.folder import ASSETS, load_part
from loopy.models.probe import AT_ONCE
from loopy.models.sync import LARGEST_OFFSET, WINDOW, SyncJudge, offset_distances

FEWEST_FRAMES = 2 * LARGEST_OFFSET + WINDOW
"""Below, the largest offset leaves less than half of the windows."""


def toon_sync(
    judge: SyncJudge,
    audio_encoder: AudioEncoder,
    frames: UInt8[Tensor, "f h w 3"],
    audio: Float[Tensor, " samples"],
) -> SyncScores:
    """How well a toon's mouth is in step with its sound.

    Args:
        judge: The package's, see `load_judge`.
        audio_encoder: The toon model's.
        frames: A video at 25 frames a second; the face fills the picture as toons' do.
        audio: Its sound at 16 kHz. What is longer, sound or video, is cut at its end.

    Raises:
        MetricError: Fewer than 35 frames.
        MediaError: Less sound than a frame.
    """
    heard, seen = audio_encoder.features(audio), frames
    shorter = min(len(heard), len(seen))
    if shorter < FEWEST_FRAMES:
        raise MetricError(
            f"{shorter} frames of picture and sound are too short for offsets of "
            f"{LARGEST_OFFSET} frames; give {FEWEST_FRAMES} or more"
        )
    return scores_of(
        judge.embed_sound(heard[:shorter]), judge.embed_frames(seen[:shorter].split(AT_ONCE))
    )


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
