"""Embeddings of faces by dlib's ResNet (Davis King 2017, public domain), a network not of ours."""

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from loopy.errors import DependencyError, ModelError


class DlibFaces:
    """128 numbers of each face; those of one person have cosines near 1, of two about 0.8 to 0.9.

    Args:
        file: ``dlib_face_recognition_resnet_model_v1.dat``, which the package
            face_recognition_models holds.

    Raises:
        DependencyError: dlib is not installed.
        ModelError: No such file, or another one.
    """

    def __init__(self, file: Path) -> None:
        try:
            import dlib  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise DependencyError("identity needs dlib: pip install dlib-bin") from error
        self._dlib: Any = dlib  # written in C++, without types
        if not file.is_file():
            raise ModelError(f"no file {file}; give dlib_face_recognition_resnet_model_v1.dat")
        try:
            self._network = self._dlib.face_recognition_model_v1(str(file))
        except RuntimeError as error:
            raise ModelError(f"{file} is no network of dlib: {error}") from error

    def __call__(
        self, frames: UInt8[Tensor, "f H W 3"], points: Float[Tensor, "f 68 2"]
    ) -> Float[Tensor, "f 128"]:
        """Embeddings of the faces at iBUG-68 points in pixels."""
        chips = [self._chip(*each) for each in zip(frames, points, strict=True)]
        found = self._network.compute_face_descriptor(chips)
        return torch.tensor([list(each) for each in found])

    def _chip(self, frame: Tensor, points: Tensor) -> Any:
        dlib = self._dlib
        marks = dlib.points([dlib.point(*map(int, each)) for each in points.round().int()])
        low, high = points.amin(0).int(), points.amax(0).int()
        box = dlib.rectangle(*low.tolist(), *high.tolist())
        shape = dlib.full_object_detection(box, marks)
        return dlib.get_face_chip(frame.numpy(), shape, size=150, padding=0.25)
