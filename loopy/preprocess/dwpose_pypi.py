"""DWPose's two ONNX files, run by the package `dwpose`, which is imported behind a guard."""

import os
import ssl
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from functools import cache
from io import StringIO
from os import PathLike
from types import ModuleType

import numpy as np
import torch

from loopy.errors import DependencyError, ModelError
from loopy.preprocess.top_down import (
    FACE_OF_133,
    POSE_SIZE,
    Boxes,
    Picture,
    Points,
    Scores,
    TopDown,
    onnx_file,
)


def dwpose_by_pypi(
    *,
    detector: str | PathLike[str],
    pose: str | PathLike[str],
    every: int = 5,
    min_score: float = 0.3,
) -> TopDown:
    """The package `dwpose` as an estimator: a second opinion on the same two files.

    It chooses its engine itself: onnxruntime where that knows a GPU, else OpenCV on the CPU. Its
    parts are called and not its `Wholebody`, which would give both networks the same order of
    colours, guess the size of crops from the name of the file, and print times.

    Args:
        detector: ``yolox_l.onnx``.
        pose: ``dw-ll_ucoco_384.onnx``.
        every: Frames from one search for people to the next; see `TopDown`.
        min_score: A point with a score under this is missing.

    Raises:
        ModelError: A path that is no file, or a file that cannot be loaded.
        DependencyError: dwpose, or something it needs and does not declare, is missing.
        ConfigurationError: An option out of range.
    """
    detector, pose = onnx_file(detector, "detector"), onnx_file(pose, "pose")
    wholebody = _import_wholebody()
    try:
        with redirect_stdout(StringIO()):
            networks = wholebody.Wholebody(detector, pose, torchscript_device="cpu")
    except Exception as error:  # of OpenCV or onnxruntime, which share no class
        raise ModelError(f"dwpose cannot load {detector} and {pose}: {error}") from error
    if networks.det is None:
        raise ModelError(f"dwpose cannot load {detector}; give DWPose's yolox_l.onnx")

    def find_people(picture: Picture) -> Boxes:
        bgr = np.ascontiguousarray(picture[..., ::-1])
        boxes = wholebody.inference_onnx_yolox(networks.det, bgr, detect_classes=[0])
        return np.empty((0, 4), np.float32) if boxes is None else boxes

    def find_points(pictures: Sequence[Picture], boxes: Boxes) -> tuple[Points, Scores]:
        one_by_one = [
            wholebody.inference_onnx_pose(networks.pose, box[None], picture, POSE_SIZE)
            for picture, box in zip(pictures, boxes, strict=True)
        ]
        points, scores = (np.concatenate(part) for part in zip(*one_by_one, strict=True))
        return points[:, FACE_OF_133], scores[:, FACE_OF_133]

    return TopDown(find_people, find_points, every=every, min_score=min_score)


@cache
def _import_wholebody() -> ModuleType:
    """`dwpose.wholebody`, imported once."""
    try:
        with _guarded_import():
            from dwpose import wholebody
    except ImportError as error:
        raise DependencyError(
            f"dwpose needs {error.name}; "
            "run: pip install dwpose scikit-image scipy matplotlib opencv-python"
        ) from error
    warnings.warn(
        "the package dwpose is under Apache-2.0, but headers in its sources say 'licensed by CMU "
        'for non-commercial use only\'; estimator("dwpose") runs the same models without it',
        stacklevel=3,
    )
    return wholebody


@contextmanager
def _guarded_import() -> Iterator[None]:
    """Keeps what `import dwpose` does to the whole process inside the import.

    It downloads a file "to test SSL", and where that fails switches off the check of certificates
    for every later connection; it evaluates one environment variable and sets another.
    """
    download, context = torch.hub.load_state_dict_from_url, ssl._create_default_https_context
    environment = dict(os.environ)
    torch.hub.load_state_dict_from_url = lambda *_, **__: {}
    os.environ["AUX_USE_SYMLINKS"] = "False"
    try:
        with redirect_stdout(StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.hub.load_state_dict_from_url = download
        ssl._create_default_https_context = context
        for name in os.environ.keys() - environment.keys():
            del os.environ[name]
        os.environ.update(environment)
