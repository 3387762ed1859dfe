"""Options of `loopy preprocess`."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from loopy.data.media.finished import content_hash
from loopy.faces.framing import CropOptions
from loopy.preprocess.filters import FilterOptions
from loopy.preprocess.scenes import SceneOptions


@dataclass(frozen=True)
class PreprocessOptions:
    """How raw videos become shots. All of it is in the name of a shot, so a change makes others.

    Args:
        size_px: Side of the crops that are encoded (512).
        estimator: What finds the 68 points: ``dwpose``, ``dwpose-pypi``, ``mediapipe``,
            ``precomputed``, or the path of a class.
        estimator_options: Its options, for example the paths of its models.
        scenes: When a change of picture is a cut.
        crop: Room around the face.
        filters: Which shots are left out.
        longest_frames: A longer shot becomes several of equal length: what one takes of
            memory, and what a damaged file costs, has a bound (5 minutes).
        longest_gap: Frames of the longest gap in a track of points that is drawn over.
        identity: Who is seen, for the split: another person in each ``video``, one in a ``folder``
            of videos, a table (.csv), or what a regular expression finds in the path; see
            `loopy.preprocess.identity.identity_rule`.
        audio_rate_hz: 25, pairs of wav2vec2's vectors averaged; or 50, all of them.
        sync: What scores lip sync: ``none``, or one of our own networks: that of ``toon`` talkers,
            or that of ``people``, which needs ``loopy faces install``.
        log_variance: Keep the posterior's log-variance too.
        mirrored: Keep the mirrored pictures' latents too.
    """

    size_px: int = 512
    estimator: str = "dwpose"
    estimator_options: Mapping[str, Any] = field(default_factory=dict)
    scenes: SceneOptions = SceneOptions()  # noqa: RUF009 (frozen)
    crop: CropOptions = CropOptions()  # noqa: RUF009 (frozen)
    filters: FilterOptions = FilterOptions()  # noqa: RUF009 (frozen)
    longest_frames: int = 7500
    longest_gap: int = 5
    identity: str = "video"
    audio_rate_hz: int = 25
    sync: Literal["none", "toon", "people"] = "none"
    log_variance: bool = False
    mirrored: bool = False

    def as_json(self) -> dict[str, Any]:
        """Plain values, for store.json and the names of shots: of a model's file, its hash."""
        options = sorted(self.estimator_options.items())
        shaping = {name: _plain(value) for name, value in options if name not in SPEED_OPTIONS}
        identity = self.identity
        if identity.endswith(".csv"):
            identity = Path(identity).name
        values = asdict(self) | {"estimator_options": shaping, "identity": identity}
        if self.sync == "none":  # shots keep the names they had before sync could be scored
            del values["sync"]
        return values


SPEED_OPTIONS = ("device", "batch", "threads", "models")
"""Options of estimators that do not change what they find: their speed, and MediaPipe's folder,
whose files are checked."""


def _plain(value: object) -> str:
    path = Path(str(value))
    return f"sha256:{content_hash(path, 'model')}" if path.is_file() else str(value)
