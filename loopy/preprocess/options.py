"""What `loopy preprocess` can be told."""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from loopy.preprocess.crop import CropOptions
from loopy.preprocess.filters import FilterOptions
from loopy.preprocess.scenes import SceneOptions


@dataclass(frozen=True)
class PreprocessOptions:
    """How raw videos become clips. All of it is in the name of a clip, so a change makes others.

    Args:
        size_px: Side of the crops that are encoded (512).
        estimator: Who finds the 68 points: ``dwpose``, ``dwpose-pypi``, or ``precomputed``.
        estimator_options: Its options, for example the paths of its models.
        scenes: When a change of picture is a cut.
        crop: Room around the face.
        filters: Which clips are left out.
        longest_frames: A longer shot becomes several clips of equal length: what a clip takes of
            memory, and what a damaged file costs, has a bound (5 minutes).
        longest_gap: Frames of the longest gap in a track of points that is drawn over.
        identity: Who is seen, for the split: somebody else in each ``video``, one in a ``folder``
            of videos, a table (.csv), or what a regular expression finds in the path; see
            `loopy.preprocess.identity.identity_rule`.
        audio_rate_hz: 25, pairs of wav2vec2's vectors averaged; or 50, all of them.
        sync: Who judges lip sync: ``none``, or our own judge of ``toon`` talkers.
        log_variance: Keep the posterior's log-variance beside its mean.
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
    sync: Literal["none", "toon"] = "none"
    log_variance: bool = False
    mirrored: bool = False

    def as_json(self) -> dict[str, Any]:
        """Plain values, for store.json and the names of clips: of a model's file, its hash."""
        told = self.estimator_options.items()
        settled = {name: _plain(value) for name, value in sorted(told) if name not in AT_WORK}
        who = Path(self.identity).name if self.identity.endswith(".csv") else self.identity
        told_all = asdict(self) | {"estimator_options": settled, "identity": who}
        if self.sync == "none":  # clips keep the names they had before anybody judged sync
            del told_all["sync"]
        return told_all


AT_WORK = ("device", "batch")
"""Options of estimators that change how fast, not what, they find."""


def _plain(value: object) -> str:
    path = Path(str(value))
    if not path.is_file():
        return str(value)
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
