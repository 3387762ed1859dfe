"""The extractors of an evaluation: given networks, landmarks found or known, judges of toons."""

from collections.abc import Sequence
from pathlib import Path

from jaxtyping import Float, UInt8
from torch import Tensor

from loopy.data.media.finished import content_hash
from loopy.devices import usable
from loopy.errors import ConfigurationError, MetricError
from loopy.evaluation.features.extract import ExtractorSet
from loopy.evaluation.features.faces import Points
from loopy.evaluation.features.networks import EvaluationModels, build_extractors
from loopy.evaluation.features.toon import toon_extractors
from loopy.preprocess.landmarks import estimator
from loopy.preprocess.landmarks.precomputed import tracks_path
from loopy.preprocess.landmarks.types import LandmarkEstimator


def extractors_of(
    weights: EvaluationModels, *, toons: bool, device: str, tracks: Sequence[Path] | None = None
) -> ExtractorSet:
    """All extractors that the given files allow.

    Args:
        weights: Files of networks.
        toons: Whether the judges of the package are among them.
        device: Where networks compute.
        tracks: Videos with known tracks; None: DWPose finds them.

    Raises:
        LoopyError: A file is missing or does not fit.
    """
    found_by, points = "dwpose", _dwpose(weights, device)
    if tracks is not None:
        known = [tracks_path(video) for video in tracks if tracks_path(video).is_file()]
        found_by, points = " ".join(content_hash(path, "track") for path in known), KnownTrack
    own = build_extractors(weights, points=points, found_by=found_by, device=str(usable(device)))
    return own | toon_extractors() if toons else own


def _dwpose(weights: EvaluationModels, device: str) -> Points | None:
    """DWPose; None without its files.

    Raises:
        ConfigurationError: One of its two files.
    """
    if weights.detector is None and weights.pose is None:
        return None
    if weights.detector is None or weights.pose is None:
        raise ConfigurationError(
            "landmarks need both --weights.detector (yolox_l.onnx) and --weights.pose "
            "(dw-ll_ucoco_384.onnx)"
        )
    found = estimator("dwpose", detector=weights.detector, pose=weights.pose, device=device)
    return lambda _: lambda frames: found(frames).points


class KnownTrack:
    """The track in the file of a video, as a landmark estimator.

    Args:
        video: The video; None, a single picture, has no track.
    """

    def __init__(self, video: Path | None) -> None:
        self._video = video
        self._track: LandmarkEstimator | None = None

    def __call__(self, frames: UInt8[Tensor, "n h w 3"]) -> Float[Tensor, "n 68 2"]:
        """Points of the next frames.

        Raises:
            MetricError: A single picture.
            MediaError: The video has no track, or one that does not fit.
        """
        if self._video is None:
            raise MetricError("a portrait has no track; find landmarks by DWPose")
        if self._track is None:  # it goes on by itself from call to call
            self._track = estimator("precomputed", video=self._video)
        return self._track(frames).points
