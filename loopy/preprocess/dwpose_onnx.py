"""DWPose's two ONNX files, run by rtmlib."""

from collections.abc import Sequence
from contextlib import redirect_stdout
from io import StringIO
from os import PathLike

import numpy as np

from loopy.errors import ConfigurationError, DependencyError, ModelError
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

_PICTURE_SIZE = (640, 640)  # of the detector
_PERSON = 0  # among the 80 classes of COCO
_DETECTOR_COLUMNS = 85  # box, objectness, 80 classes
_WHOLE_BODY = 133


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
    """DWPose (arXiv 2307.15880) as an estimator.

    Args:
        detector: ``yolox_l.onnx``.
        pose: ``dw-ll_ucoco_384.onnx``.
        device: "cpu", "cuda" or "cuda:1": where onnxruntime computes.
        batch: Crops in one run of the pose net.
        box_score: A box with a score under this is nobody.
        every: Frames from one search for people to the next; see `TopDown`.
        min_score: A point with a score under this is missing.

    Raises:
        ModelError: A path that is no file, or a file that is not one of these models.
        DependencyError: rtmlib or onnxruntime is missing, or onnxruntime knows no CUDA.
        ConfigurationError: An option out of range.
    """
    if batch < 1:
        raise ConfigurationError(f"batch={batch} crops; give 1 or more")
    detector, pose = onnx_file(detector, "detector"), onnx_file(pose, "pose")
    _check_device(device)
    return TopDown(
        _People(detector, device=device, box_score=box_score),
        _FacePoints(pose, device=device, batch=batch),
        every=every,
        min_score=min_score,
    )


class _People:
    """YOLOX: boxes of class 0 only, which rtmlib's default mode would not select."""

    def __init__(self, path: str, *, device: str, box_score: float) -> None:
        self._path = path
        self._yolox = _load(
            "YOLOX", path, _PICTURE_SIZE, device, det_mode="multiclass", score_thr=box_score
        )

    def __call__(self, picture: Picture) -> Boxes:
        bgr = np.ascontiguousarray(picture[..., ::-1])
        padded, ratio = self._yolox.preprocess(bgr)
        raw = self._yolox.inference(padded)[0]
        if raw.shape[-1] != _DETECTOR_COLUMNS:
            raise ModelError(
                f"detector {self._path} gives {raw.shape[-1]} columns, not {_DETECTOR_COLUMNS}; "
                "use DWPose's yolox_l.onnx (80 classes, no NMS inside)"
            )
        boxes, labels = self._yolox.postprocess(raw, ratio)
        return boxes.reshape(-1, 4)[labels == _PERSON]


class _FacePoints:
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
        parts = [
            self._run(pictures[start : start + self._batch], boxes[start : start + self._batch])
            for start in range(0, len(pictures), self._batch)
        ]
        points, scores = zip(*parts, strict=True)
        return np.concatenate(points)[:, FACE_OF_133], np.concatenate(scores)[:, FACE_OF_133]

    def _run(self, pictures: Sequence[Picture], boxes: Boxes) -> tuple[np.ndarray, np.ndarray]:
        crops, centres, scales = zip(*map(self._rtmpose.preprocess, pictures, boxes), strict=True)
        images = np.stack(crops).transpose(0, 3, 1, 2).astype(np.float32)
        across, down = self._rtmpose.session.run(None, {self._input.name: images})
        if across.shape[1] != _WHOLE_BODY:
            raise ModelError(
                f"pose model {self._path} gives {across.shape[1]} points, not {_WHOLE_BODY}; "
                "use DWPose's dw-ll_ucoco_384.onnx"
            )
        one_by_one = [
            self._rtmpose.postprocess([across[i : i + 1], down[i : i + 1]], centre, scale)
            for i, (centre, scale) in enumerate(zip(centres, scales, strict=True))
        ]
        points, scores = zip(*one_by_one, strict=True)
        return np.concatenate(points), np.concatenate(scores)


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
            f"device={device!r}, but this onnxruntime knows no CUDA; "
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
