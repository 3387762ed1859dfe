"""Who looks at videos: what needs no weights, the toon judges, and networks whose files are given.

Nothing is downloaded. Who is not there is named, with what a user has to get.
"""

import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from loopy.data.media.finished import content_hash
from loopy.evaluation.features.extract import (
    Between,
    EachFrame,
    Film,
    Later,
    Looker,
    Lookers,
    Stretches,
)
from loopy.evaluation.features.faces import (
    Points,
    energy,
    expressions,
    faces,
    portrait_face,
    synchrony,
)
from loopy.metrics.drift import mean_colours, sharpness
from loopy.metrics.extractors import AMT_S, I3D, INCEPTION, RESNET_3D, SYNCNET, WeightsFile
from loopy.metrics.inception import inception
from loopy.metrics.quality import NEEDS, q_align
from loopy.metrics.smoothness import amt, linear
from loopy.metrics.syncnet import load_syncnet
from loopy.metrics.video_features import i3d, resnet_3d

LOOKS = 1
"""Version of the code that looks: raise it where what is seen changes, as what was seen is kept."""

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


@dataclass(frozen=True, eq=False)
class Equipment:
    """Who looks.

    Attributes:
        lookers: During the first pass over a video, by what they see.
        later: Behind it.
        missing: What nobody can look at, with what is needed.
        record: All that decides what they see.
    """

    lookers: Lookers
    later: Later
    missing: dict[str, str]
    record: dict[str, Any] = field(default_factory=dict)

    def key(self) -> str:
        """A hash of the record."""
        return hashlib.sha256(repr(sorted(self.record.items())).encode()).hexdigest()

    def __or__(self, more: "Equipment") -> "Equipment":
        """Both together."""
        return Equipment(
            {**self.lookers, **more.lookers},
            {**self.later, **more.later},
            {**self.missing, **more.missing},
            {**self.record, **more.record},
        )


def equip(
    models: EvaluationModels,
    *,
    points: Points | None = None,
    found_by: str = "",
    device: str = "cpu",
) -> Equipment:
    """All who can look with the files that are given.

    Args:
        models: The files.
        points: Finds landmarks; None: nobody does.
        found_by: Whatever decides what `points` finds besides its files.
        device: Where the networks compute.

    Raises:
        ModelError: A file that is given is missing or does not fit.
        MediaError: Likewise.
        DependencyError: A library that a file needs is not installed.
    """
    record = models.record() | {"points": found_by if points else "", "looks": LOOKS}
    lookers: dict[str, Any] = {
        "colours": lambda _: EachFrame(mean_colours),
        "sharpness": lambda _: EachFrame(sharpness),
        "linear": lambda _: Between(linear),
    }
    later: dict[str, Any] = {"energy": energy}
    missing: dict[str, str] = {}
    for name, weights, load, kind in (
        ("inception", INCEPTION, inception, EachFrame),
        ("resnet_3d", RESNET_3D, resnet_3d, Stretches),
        ("i3d", I3D, i3d, Stretches),
        ("amt", AMT_S, amt, Between),
    ):
        if (path := getattr(models, name)) is None:
            missing[name] = f"{weights.needs}, by --weights.{name}"
        else:
            lookers[name] = _each(kind, load(path, device=device))
    if models.q_align:
        lookers["quality"] = _each(EachFrame, q_align(device=device))
    else:
        missing["quality"] = f"{NEEDS}, by --weights.q_align true"
    if points is None:
        missing["points"] = LANDMARKS
    else:
        lookers["points"] = lambda film: EachFrame(points(film.path))
    for name, weights, see in (
        ("syncnet", SYNCNET, synchrony),
        ("face", FACE, faces),
        ("expression", EXPRESSION, expressions),
    ):
        if (path := getattr(models, name)) is None:
            missing[name] = f"{weights.needs}, by --weights.{name}"
        elif points is None:
            missing[name] = LANDMARKS
        else:
            network = load_syncnet(path) if name == "syncnet" else weights.script(path)
            later[name] = partial(see, network.to(device), device)
            if name == "face":
                later["portrait"] = partial(portrait_face, network, device, points)
    return Equipment(lookers, later, missing, record)


def _each(kind: Callable[[Any], Looker], network: Any) -> Callable[[Film], Looker]:
    """A new looker for each video, all with one network."""
    return lambda _: kind(network)
