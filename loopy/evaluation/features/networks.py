"""The extractors of an evaluation: those without weights, and networks whose files are given.

Nothing is downloaded. What is missing is named, with what a user has to get.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from loopy.data.media.finished import content_hash
from loopy.evaluation.features.extract import Derive, ExtractorSet, Start
from loopy.evaluation.features.faces import (
    Points,
    energy,
    expressions,
    faces,
    portrait_face,
    syncnet,
)
from loopy.evaluation.features.frames import FrameRows, PartSmoothness, SegmentMean
from loopy.metrics.drift import mean_colours, sharpness
from loopy.metrics.extractors import AMT_S, I3D, INCEPTION, RESNET_3D, SYNCNET, WeightsFile
from loopy.metrics.inception import inception
from loopy.metrics.quality import NEEDS, q_align
from loopy.metrics.smoothness import amt, linear
from loopy.metrics.syncnet import load_syncnet
from loopy.metrics.video_features import i3d, resnet_3d

FEATURES = 1
"""Version of the code that extracts: raise it where features change, as they are cached."""

FACE = WeightsFile(
    "a TorchScript of your choice",
    "a recognition network, faces (n 3 112 112) in [-1, 1] to rows, ArcFace for example",
    "insightface on GitHub has networks",
    "ArcFace's public weights: no commercial use",
)
EXPRESSION = WeightsFile(
    "a TorchScript of your choice",
    "expression coefficients (Deng et al. 2019): faces (n 3 224 224) in [0, 1] to (n 64)",
    "Deep3DFaceRecon_pytorch on GitHub, exported by you",
    "built on the Basel face model: no commercial use",
)
LANDMARKS = (
    "DWPose (yolox_l.onnx and dw-ll_ucoco_384.onnx; its repository on GitHub says where; licence: "
    "Apache-2.0), by --weights.detector and --weights.pose; or tracks beside the videos, by loopy "
    "evaluate videos --landmarks precomputed"
)
_OF_FRAMES: dict[str, tuple[WeightsFile, Callable[..., Any], Callable[[Any], Any]]] = {
    "inception": (INCEPTION, inception, FrameRows),
    "resnet_3d": (RESNET_3D, resnet_3d, SegmentMean),
    "i3d": (I3D, i3d, SegmentMean),
    "amt": (AMT_S, amt, PartSmoothness),
}
_OF_FACES: dict[str, tuple[WeightsFile, Callable[..., Any], Callable[..., Start]]] = {
    "syncnet": (SYNCNET, load_syncnet, syncnet),
    "face": (FACE, FACE.script, faces),
    "expression": (EXPRESSION, EXPRESSION.script, expressions),
}


@dataclass(frozen=True)
class EvaluationModels:
    """Files of networks that others trained; without one its columns are not available.

    Args:
        inception: For FID: weights-inception-2015-12-05-6726825d.pth.
        resnet_3d: For FVD-R: resnet-50-kinetics.pth.
        i3d: For FVD-I: i3d_torchscript.pt.
        syncnet: For Sync-C, Sync-D and offset: syncnet_v2.model.
        amt: For smoothness: AMT-S as TorchScript.
        face: For identity: a recognition network as TorchScript.
        expression: For E-FID: a network of expression coefficients as TorchScript.
        detector: For all that needs landmarks: yolox_l.onnx.
        pose: Likewise: dw-ll_ucoco_384.onnx.
        q_align: For IQA: Q-Align by pyiqa, both installed by you.
    """

    inception: Path | None = None
    resnet_3d: Path | None = None
    i3d: Path | None = None
    syncnet: Path | None = None
    amt: Path | None = None
    face: Path | None = None
    expression: Path | None = None
    detector: Path | None = None
    pose: Path | None = None
    q_align: bool = False

    def record(self) -> dict[str, str]:
        """Which they are: hashes of the files, not their names.

        Raises:
            MediaError: A file is missing.
        """
        files = {name: value for name, value in asdict(self).items() if isinstance(value, Path)}
        hashes = {name: content_hash(path, "file of weights") for name, path in files.items()}
        return hashes | ({"q_align": "yes"} if self.q_align else {})


def build_extractors(
    models: EvaluationModels,
    *,
    points: Points | None = None,
    found_by: str = "",
    device: str = "cpu",
) -> ExtractorSet:
    """All extractors that the given files allow.

    Args:
        models: The files.
        points: Finds landmarks; None: nothing does.
        found_by: Whatever decides what `points` finds besides its files.
        device: Where the networks compute.

    Raises:
        LoopyError: A file is missing or does not fit, or a library that it needs is not installed.
    """
    record = models.record() | {"points": found_by if points else "", "looks": FEATURES}
    first: dict[str, Start] = {
        "colours": lambda *_: FrameRows(mean_colours),
        "sharpness": lambda *_: FrameRows(sharpness),
        "linear": lambda *_: PartSmoothness(linear),
    }
    second, derived = dict[str, Start](), dict[str, Derive]({"energy": energy})
    missing = {
        name: f"{weights.needs}, by --weights.{name}"
        for name, (weights, *_) in (_OF_FRAMES | _OF_FACES).items()
        if getattr(models, name) is None
    }
    for name, (_, load, kind) in _OF_FRAMES.items():
        if name not in missing:
            first[name] = _each(kind, load(getattr(models, name), device=device))
    if models.q_align:
        first["quality"] = _each(FrameRows, q_align(device=device))
    else:
        missing["quality"] = f"{NEEDS}, by --weights.q_align true"
    if points is None:
        missing = dict.fromkeys(("points", *_OF_FACES), LANDMARKS) | missing
        return ExtractorSet(first, second, derived, missing, record)
    first["points"] = lambda video, _: FrameRows(points(video.path))
    for name, (_, load, start) in _OF_FACES.items():
        if name not in missing:
            network = load(getattr(models, name)).to(device)
            second[name] = start(network, device)
            if name == "face":
                derived["portrait"] = portrait_face(network, device, points)
    return ExtractorSet(first, second, derived, missing, record)


def _each(kind: Callable[[Any], Any], network: Any) -> Start:
    """A new extractor for each video, all with one network."""
    return lambda *_: kind(network)
