"""DWPose (arXiv 2307.15880): its two ONNX files, read by rtmlib or by the package `dwpose`."""

import warnings
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from functools import cache
from importlib.util import find_spec
from io import StringIO
from os import PathLike
from pathlib import Path
from runpy import run_path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from loopy.errors import ConfigurationError, DependencyError, MediaError, ModelError
from loopy.motion.sequence import POINTS
from loopy.preprocess.landmarks.types import FaceLandmarks
from loopy.typed_values import check_number

NETWORKS = {"detector": ("YOLOX", (640, 640)), "pose": ("RTMPose", (288, 384))}
"""rtmlib's tool for each file, and width and height of what it takes."""
FACE = slice(23, 91)  # among the 133 points of COCO-WholeBody
WHOLE_BODY = 133
DETECTOR_COLUMNS = 85  # box, objectness, 80 classes of COCO
PERSON = 0  # among these classes

Picture = UInt8[np.ndarray, "h w 3"]
Boxes = Float[np.ndarray, "n 4"]
Points = Float[np.ndarray, "n 68 2"]
Scores = Float[np.ndarray, "n 68"]


def dwpose_by_rtmlib(
    *,
    detector: str | PathLike[str],
    pose: str | PathLike[str],
    device: str = "cpu",
    batch: int = 16,
    box_score: float = 0.3,
    every: int = 5,
    min_score: float = 0.3,
) -> "TopDown":
    """DWPose by rtmlib and onnxruntime.

    Args:
        detector: ``yolox_l.onnx``.
        pose: ``dw-ll_ucoco_384.onnx``.
        device: "cpu", "cuda" or "cuda:1": where onnxruntime computes.
        batch: Crops in one run of the pose net; rtmlib itself runs them one by one.
        box_score: Minimum score of a person's box.
        every: Frames from one search for people to the next; see `TopDown`.
        min_score: Minimum score of a point; under it the point is missing.

    Raises:
        ModelError: A path that is no file, or a file that is not one of these models.
        DependencyError: rtmlib or onnxruntime is missing, or onnxruntime has no CUDA.
        ConfigurationError: An option out of range.
    """
    check_number("batch", batch, least=1)
    # the default mode would take chairs for people
    yolox = _load("detector", detector, device, det_mode="multiclass", score_thr=box_score)
    rtmpose = _load("pose", pose, device)
    taken = rtmpose.session.get_inputs()[0]
    most = 1 if taken.shape[0] == 1 else batch  # a name where it is free, as in DWPose's file

    def find_people(picture: Picture) -> Boxes:
        padded, ratio = yolox.preprocess(np.ascontiguousarray(picture[..., ::-1]))
        raw = yolox.inference(padded)[0]
        if raw.shape[-1] != DETECTOR_COLUMNS:
            raise ModelError(
                f"detector {detector} gives {raw.shape[-1]} columns, not {DETECTOR_COLUMNS}; "
                "use DWPose's yolox_l.onnx (80 classes, no NMS inside)"
            )
        boxes, labels = yolox.postprocess(raw, ratio)
        return boxes.reshape(-1, 4)[labels == PERSON]

    def find_points(pictures: Sequence[Picture], boxes: Boxes) -> tuple[Points, Scores]:
        found = list[Any]()
        for start in range(0, len(pictures), most):
            crops = map(rtmpose.preprocess, pictures[start : start + most], boxes[start:])
            images, centres, scales = zip(*crops, strict=True)
            images = np.stack(images).transpose(0, 3, 1, 2).astype(np.float32)
            maps = rtmpose.session.run(None, {taken.name: images})
            if maps[0].shape[1] != WHOLE_BODY:
                raise ModelError(
                    f"pose model {pose} gives {maps[0].shape[1]} points, not {WHOLE_BODY}; "
                    "use DWPose's dw-ll_ucoco_384.onnx"
                )
            for i, place in enumerate(zip(centres, scales, strict=True)):
                found.append(rtmpose.postprocess([each[i : i + 1] for each in maps], *place))
        return _faces(found)

    return TopDown(find_people, find_points, every=every, min_score=min_score)


def dwpose_by_pypi(
    *,
    detector: str | PathLike[str],
    pose: str | PathLike[str],
    device: str = "cpu",
    every: int = 5,
    min_score: float = 0.3,
) -> "TopDown":
    """DWPose by the package `dwpose`: a second opinion on the same two files.

    Only what it does with pictures and with the outputs of the networks is called: its `Wholebody`
    would give both networks the same order of colours, guess the size of crops from the name of
    the file, and print times. Arguments and errors as of `dwpose_by_rtmlib`.
    """
    yolox, rtmpose = _load("detector", detector, device), _load("pose", pose, device)
    search = _of_package("cv_ox_det", "inference_detector")
    place = _of_package("cv_ox_pose", "inference_pose")

    def find_people(picture: Picture) -> Boxes:
        bgr = np.ascontiguousarray(picture[..., ::-1])
        boxes = search(yolox.session, bgr, detect_classes=[PERSON])
        return np.empty((0, 4), np.float32) if boxes is None else boxes

    def find_points(pictures: Sequence[Picture], boxes: Boxes) -> tuple[Points, Scores]:
        size = NETWORKS["pose"][1]
        both = zip(pictures, boxes, strict=True)
        return _faces([place(rtmpose.session, b[None], p, size) for p, b in both])

    return TopDown(find_people, find_points, every=every, min_score=min_score)


class TopDown:
    """Searches people in every n-th frame, and finds the points of the largest one in all frames.

    A frame that is not searched takes the box of the last one that was. If no face is found in
    that box, the frame is searched after all::

        frame      0  1  2  3  4  5  6      every=5
        searched   x              x
        box of     0  0  0  0  0  5  5
        lost             !                  its mean score fell under min_score
        box of     0  0  2  0  0  5  5

    So the result depends on ``every`` only, never on the size of batches.

    Args:
        find_people: An RGB picture to the boxes of its people, in its pixels.
        find_points: RGB pictures, each with one box, to points in pixels and scores.
        every: Frames from one search to the next.
        min_score: Minimum score of a point; under it the point is missing.

    Raises:
        ConfigurationError: ``every`` or ``min_score`` out of range.
    """

    def __init__(
        self,
        find_people: Callable[[Picture], Boxes],
        find_points: Callable[[Sequence[Picture], Boxes], tuple[Points, Scores]],
        *,
        every: int = 5,
        min_score: float = 0.3,
    ) -> None:
        check_number("every", every, least=1)
        check_number("min_score", min_score, float, least=0, most=1)
        self._find_people, self._find_points = find_people, find_points
        self.every, self.min_score = every, min_score

    def __call__(self, frames: UInt8[Tensor, "f h w 3"]) -> FaceLandmarks:
        """Points of consecutive uint8 RGB frames of one shot, on the CPU; others are a MediaError.

        ``people`` of a frame without a search is that of its box.
        """
        if frames.dtype != torch.uint8 or frames.ndim != 4 or frames.shape[3] != 3:
            raise MediaError(
                f"landmarks need uint8 frames (f h w 3), got {frames.dtype} {tuple(frames.shape)}"
            )
        pictures, numbers = frames.cpu().numpy(), np.arange(len(frames))
        boxes, people = np.empty((len(pictures), 4), np.float32), np.empty(len(pictures), np.int64)
        for start in numbers[:: self.every]:
            same_box = slice(start, start + self.every)
            boxes[same_box], people[same_box] = self._largest(pictures[start])
        points, scores = self._points(pictures, boxes, numbers)

        lost = numbers[(numbers % self.every > 0) & (scores.mean(1) < self.min_score)]
        for frame in lost:
            boxes[frame], people[frame] = self._largest(pictures[frame])
        points[lost], scores[lost] = self._points(pictures, boxes, lost)

        points[scores < self.min_score] = np.nan
        fields = (points, scores.clip(0, 1), boxes, people)
        return FaceLandmarks(*(torch.from_numpy(field) for field in fields))

    def _largest(self, picture: Picture) -> tuple[Float[np.ndarray, "4"], int]:
        return largest_person(self._find_people(picture), picture.shape[1], picture.shape[0])

    def _points(
        self, pictures: np.ndarray, boxes: Boxes, frames: np.ndarray
    ) -> tuple[Points, Scores]:
        """Points of these frames; NaN with score 0 where nobody was found."""
        points = np.full((len(frames), POINTS, 2), np.nan, np.float32)
        scores = np.zeros((len(frames), POINTS), np.float32)
        occupied = ~np.isnan(boxes[frames]).any(1)
        if occupied.any():
            chosen = frames[occupied]
            found = self._find_points([pictures[frame] for frame in chosen], boxes[chosen])
            points[occupied], scores[occupied] = found
        return points, scores


def largest_person(
    boxes: Boxes, width_px: int, height_px: int
) -> tuple[Float[np.ndarray, "4"], int]:
    """The largest box, cut off at the edge of the picture, and how many boxes are in the picture.

    Returns:
        NaN without one: a pose net without a box would take the whole picture.
    """
    inside = boxes.reshape(-1, 4).clip(0, [width_px, height_px, width_px, height_px])
    areas = (inside[:, 2:] - inside[:, :2]).clip(min=0).prod(1)
    if not (areas > 0).any():
        return np.full(4, np.nan, np.float32), 0
    return inside[areas.argmax()].astype(np.float32), int((areas > 0).sum())


def _faces(found: Sequence[tuple[Any, Any]]) -> tuple[Points, Scores]:
    """The face of whole bodies that were found one by one."""
    points, scores = (np.concatenate(part) for part in zip(*found, strict=True))
    return points[:, FACE], scores[:, FACE]


def _load(kind: str, path: str | PathLike[str], device: str, **options: object) -> Any:
    """Rtmlib's model of a file, without the line it prints; it would download what is no file."""
    if not Path(path).is_file() or Path(path).suffix != ".onnx":
        raise ModelError(
            f"{kind} model {path} is no .onnx file; put DWPose's two files on this disk and give "
            "their paths (docs/landmarks.md), nothing is downloaded"
        )
    where, _, index = device.partition(":")
    if where not in ("cpu", "cuda") or (index and not (where == "cuda" and index.isdecimal())):
        raise ConfigurationError(f'device={device!r}; give "cpu", "cuda" or "cuda:1"')
    try:
        import onnxruntime
        import rtmlib
    except ImportError as error:
        raise DependencyError(
            f"landmarks by DWPose need {error.name}; run: pip install loopy-portrait[preprocess]"
        ) from error
    # onnxruntime would fall back to the CPU with no more than a warning
    if where == "cuda" and "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        raise DependencyError(
            f"device={device!r}, but this onnxruntime has no CUDA; "
            "run: pip uninstall onnxruntime, then pip install onnxruntime-gpu"
        )
    tool, size = NETWORKS[kind]
    try:
        with redirect_stdout(StringIO()):
            model = getattr(rtmlib, tool)(
                str(path), model_input_size=size, backend="onnxruntime", device=device, **options
            )
    except Exception as error:  # onnxruntime's errors share no class of their own
        raise ModelError(f"model {path} cannot be loaded by onnxruntime: {error}") from error
    shape, wanted = model.session.get_inputs()[0].shape, (1, 3, size[1], size[0])
    if len(shape) != 4 or any(
        isinstance(got, int) and got != want for got, want in zip(shape, wanted, strict=True)
    ):
        raise ModelError(
            f"model {path} takes {shape}, not pictures {wanted}; give yolox_l.onnx as detector "
            "and dw-ll_ucoco_384.onnx as pose"
        )
    return model


@cache
def _of_package(name: str, function: str) -> Callable[..., Any]:
    """A function of a file of the package `dwpose`.

    The package itself is not imported: it would download a file, switch off the check of
    certificates for every later connection where that fails, evaluate one environment variable and
    set another. These files need no more of it.
    """
    if (package := find_spec("dwpose")) is None or package.origin is None:
        raise DependencyError("landmarks by the package dwpose: run: pip install dwpose")
    if name == "cv_ox_det":
        warnings.warn(
            "the package dwpose is under Apache-2.0, but headers in its sources say 'licensed by "
            'CMU for non-commercial use only\'; estimator("dwpose") runs the same models without '
            "it",
            stacklevel=3,
        )
    try:
        return run_path(str(Path(package.origin).parent / "dw_onnx" / f"{name}.py"))[function]
    except (OSError, ImportError, SyntaxError, KeyError) as error:
        raise DependencyError(
            f"this package dwpose is another than 1.0.1 ({error}); run: pip install dwpose==1.0.1"
        ) from error
