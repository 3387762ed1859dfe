"""DWPose (arXiv 2307.15880): its two ONNX files, run by rtmlib or by the package `dwpose`."""

import os
import ssl
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from functools import cache
from io import StringIO
from os import PathLike
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from loopy.errors import ConfigurationError, DependencyError, ModelError
from loopy.preprocess.landmarks.top_down import Boxes, Picture, Points, Scores, TopDown

DETECTOR_SIZE = (640, 640)  # width and height of what the detector takes
POSE_SIZE = (288, 384)  # of a crop in DWPose's "384" models
FACE = slice(23, 91)  # among the 133 points of COCO-WholeBody
WHOLE_BODY = 133
DETECTOR_COLUMNS = 85  # box, objectness, 80 classes of COCO
PERSON = 0  # among these classes


def dwpose_by_rtmlib(
    *,
    detector: str | PathLike[str],
    pose: str | PathLike[str],
    device: str = "cpu",
    batch: int = 16,
    box_score: float = 0.3,
    every: int = 5,
    min_score: float = 0.3,
) -> TopDown:
    """DWPose by rtmlib and onnxruntime.

    Args:
        detector: ``yolox_l.onnx``.
        pose: ``dw-ll_ucoco_384.onnx``.
        device: "cpu", "cuda" or "cuda:1": where onnxruntime computes.
        batch: Crops in one run of the pose net.
        box_score: Minimum score of a person's box.
        every: Frames from one search for people to the next; see `TopDown`.
        min_score: Minimum score of a point; under it the point is missing.

    Raises:
        ModelError: A path that is no file, or a file that is not one of these models.
        DependencyError: rtmlib or onnxruntime is missing, or onnxruntime has no CUDA.
        ConfigurationError: An option out of range.
    """
    if batch < 1:
        raise ConfigurationError(f"batch={batch} crops; give 1 or more")
    detector, pose = _onnx_file(detector, "detector"), _onnx_file(pose, "pose")
    _check_device(device)
    return TopDown(
        _PersonDetector(detector, device=device, box_score=box_score),
        _PoseNet(pose, device=device, batch=batch),
        every=every,
        min_score=min_score,
    )


def dwpose_by_pypi(
    *,
    detector: str | PathLike[str],
    pose: str | PathLike[str],
    every: int = 5,
    min_score: float = 0.3,
) -> TopDown:
    """DWPose by the package `dwpose`: a second opinion on the same two files.

    It chooses its engine itself: onnxruntime where that has a GPU, else OpenCV on the CPU. Its
    parts are called and not its `Wholebody`, which would give both networks the same order of
    colours, guess the size of crops from the name of the file, and print times.

    Args:
        detector: ``yolox_l.onnx``.
        pose: ``dw-ll_ucoco_384.onnx``.
        every: Frames from one search for people to the next; see `TopDown`.
        min_score: Minimum score of a point; under it the point is missing.

    Raises:
        ModelError: A path that is no file, or a file that cannot be loaded.
        DependencyError: dwpose, or something it needs and does not declare, is missing.
        ConfigurationError: An option out of range.
    """
    detector, pose = _onnx_file(detector, "detector"), _onnx_file(pose, "pose")
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
        boxes = wholebody.inference_onnx_yolox(networks.det, bgr, detect_classes=[PERSON])
        return np.empty((0, 4), np.float32) if boxes is None else boxes

    def find_points(pictures: Sequence[Picture], boxes: Boxes) -> tuple[Points, Scores]:
        return _face_points(
            wholebody.inference_onnx_pose(networks.pose, box[None], picture, POSE_SIZE)
            for picture, box in zip(pictures, boxes, strict=True)
        )

    return TopDown(find_people, find_points, every=every, min_score=min_score)


class _PersonDetector:
    """YOLOX: boxes of class 0 only, which rtmlib's default mode would not select."""

    def __init__(self, path: str, *, device: str, box_score: float) -> None:
        self._path = path
        self._yolox = _load(
            "YOLOX", path, DETECTOR_SIZE, device, det_mode="multiclass", score_thr=box_score
        )

    def __call__(self, picture: Picture) -> Boxes:
        bgr = np.ascontiguousarray(picture[..., ::-1])
        padded, ratio = self._yolox.preprocess(bgr)
        raw = self._yolox.inference(padded)[0]
        if raw.shape[-1] != DETECTOR_COLUMNS:
            raise ModelError(
                f"detector {self._path} gives {raw.shape[-1]} columns, not {DETECTOR_COLUMNS}; "
                "use DWPose's yolox_l.onnx (80 classes, no NMS inside)"
            )
        boxes, labels = self._yolox.postprocess(raw, ratio)
        return boxes.reshape(-1, 4)[labels == PERSON]


class _PoseNet:
    """The pose net on RGB crops, many at once: rtmlib itself runs them one by one."""

    def __init__(self, path: str, *, device: str, batch: int) -> None:
        self._path = path
        self._rtmpose = _load("RTMPose", path, POSE_SIZE, device)
        self._input = self._rtmpose.session.get_inputs()[0]
        fixed = self._input.shape[0]  # a name where the batch is free, as in DWPose's file
        self._batch = fixed if isinstance(fixed, int) else batch
        if isinstance(fixed, int) and fixed != 1:
            raise ModelError(f"pose model {path} takes {fixed} crops only; use DWPose's own file")

    def __call__(self, pictures: Sequence[Picture], boxes: Boxes) -> tuple[Points, Scores]:
        starts = range(0, len(pictures), self._batch)
        batches = (slice(start, start + self._batch) for start in starts)
        return _face_points(
            found for batch in batches for found in self._run(pictures[batch], boxes[batch])
        )

    def _run(self, pictures: Sequence[Picture], boxes: Boxes) -> Iterator[tuple[Any, Any]]:
        crops, centres, scales = zip(*map(self._rtmpose.preprocess, pictures, boxes), strict=True)
        images = np.stack(crops).transpose(0, 3, 1, 2).astype(np.float32)
        across, down = self._rtmpose.session.run(None, {self._input.name: images})
        if across.shape[1] != WHOLE_BODY:
            raise ModelError(
                f"pose model {self._path} gives {across.shape[1]} points, not {WHOLE_BODY}; "
                "use DWPose's dw-ll_ucoco_384.onnx"
            )
        for i, (centre, scale) in enumerate(zip(centres, scales, strict=True)):
            maps = [across[i : i + 1], down[i : i + 1]]
            yield self._rtmpose.postprocess(maps, centre, scale)


def _face_points(found: Iterator[tuple[Any, Any]]) -> tuple[Points, Scores]:
    """The face of whole bodies that were found one by one."""
    points, scores = (np.concatenate(part) for part in zip(*found, strict=True))
    return points[:, FACE], scores[:, FACE]


def _onnx_file(path: str | PathLike[str], kind: str) -> str:
    """The path of a model that is a file: libraries would download what is not."""
    if not Path(path).is_file() or Path(path).suffix != ".onnx":
        raise ModelError(
            f"{kind} model {path} is no .onnx file; put DWPose's two files on this disk and give "
            "their paths (docs/landmarks.md), nothing is downloaded"
        )
    return str(path)


def _check_device(device: str) -> None:
    kind, _, index = device.partition(":")
    if kind not in ("cpu", "cuda") or (index and not (kind == "cuda" and index.isdecimal())):
        raise ConfigurationError(f'device={device!r}; give "cpu", "cuda" or "cuda:1"')
    try:
        import onnxruntime
    except ImportError as error:
        raise _missing(error) from error
    # onnxruntime would fall back to the CPU with no more than a warning.
    if kind == "cuda" and "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        raise DependencyError(
            f"device={device!r}, but this onnxruntime has no CUDA; "
            "run: pip uninstall onnxruntime, then pip install onnxruntime-gpu"
        )


def _load(tool: str, path: str, size: tuple[int, int], device: str, **options: object):
    """One of rtmlib's models for pictures of a width and height, without the line it prints."""
    options |= {"model_input_size": size, "backend": "onnxruntime", "device": device}
    try:
        import rtmlib
    except ImportError as error:
        raise _missing(error) from error
    try:
        with redirect_stdout(StringIO()):
            model = getattr(rtmlib, tool)(path, **options)
    except Exception as error:  # onnxruntime's errors share no class of their own
        raise ModelError(f"model {path} cannot be loaded by onnxruntime: {error}") from error
    shape, wanted = model.session.get_inputs()[0].shape, (3, size[1], size[0])
    if len(shape) != 4 or any(
        isinstance(got, int) and got != want for got, want in zip(shape[1:], wanted, strict=True)
    ):
        raise ModelError(
            f"model {path} takes {shape}, not pictures {wanted}; give yolox_l.onnx as detector "
            "and dw-ll_ucoco_384.onnx as pose"
        )
    return model


def _missing(error: ImportError) -> DependencyError:
    return DependencyError(
        f"landmarks by DWPose need {error.name}; run: pip install loopy-portrait[preprocess]"
    )


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
