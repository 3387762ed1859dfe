"""MediaPipe's face mesh as a landmark estimator: the person of a shot, in each frame."""

from collections import Counter
from collections.abc import Iterable

import torch
from jaxtyping import UInt8
from torch import Tensor

from loopy.errors import MediaError
from loopy.faces.mesh import Face, FaceMesh
from loopy.faces.networks import models_folder
from loopy.motion.sequence import POINTS
from loopy.paths import AnyPath
from loopy.preprocess.landmarks.types import FaceLandmarks
from loopy.typed_values import check_number


class MediaPipe:
    """Points and pose of the largest face of a shot, by `loopy.faces.mesh.FaceMesh.follow`.

    Which face that is, is said by the sum of its areas over the frames; where it is lost, the
    largest face of the frame stands in.

    Args:
        models: The folder with the three files; where ``loopy faces install`` puts them if None.
        min_score: Minimum score of a face.
        every: Frames from one search for new faces to the next.
        threads: Of each network.

    Raises:
        ModelError: A file is missing or another one.
        DependencyError: ai-edge-litert is not installed.
    """

    def __init__(
        self,
        *,
        models: AnyPath | None = None,
        min_score: float = 0.5,
        every: int = 5,
        threads: int = 1,
    ) -> None:
        check_number("every", every, least=1)
        folder = models_folder() if models is None else models
        self._mesh = FaceMesh(folder, min_score=min_score, iris=False, threads=threads)
        self.every = every

    def __call__(self, frames: UInt8[Tensor, "f h w 3"]) -> FaceLandmarks:
        """Points of consecutive RGB frames; those of a whole shot in one call do not jump."""
        return self.follow([frames])

    def follow(self, parts: Iterable[UInt8[Tensor, "f h w 3"]]) -> FaceLandmarks:
        """Points of one shot, whose consecutive RGB frames come some at a time."""
        frames = (frame.cpu() for part in parts for frame in part)
        found = list(self._mesh.follow(frames, every=self.every))
        areas = Counter[int]()
        for faces in found:
            areas.update({number: int(face.area) for number, face in faces.items()})
        if not found:
            raise MediaError("a shot without frames has no landmarks; give frames")
        person = areas.most_common(1)[0][0] if areas else 0
        rows = [_row(faces, person) for faces in found]
        return FaceLandmarks(*(torch.stack(column) for column in zip(*rows, strict=True)))


def _row(faces: dict[int, Face], person: int) -> tuple[Tensor, ...]:
    """Points, scores, box, number of people and pose of a frame."""
    if not faces:
        missing = (torch.full(shape, torch.nan) for shape in ((POINTS, 2), (4,), (3,)))
        points, box, pose = missing
        return points, torch.zeros(POINTS), box, torch.tensor(0), pose
    face = faces.get(person) or max(faces.values(), key=lambda each: each.area)
    scores = torch.full((POINTS,), face.score)
    return face.points, scores, face.box, torch.tensor(len(faces)), face.pose
