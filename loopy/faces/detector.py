"""MediaPipe's short-range face detector (BlazeFace, arXiv 1907.05047): boxes and six points."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from loopy.faces.networks import Network
from loopy.faces.regions import Region, cut
from loopy.paths import AnyPath

INPUT_PX = 128
GRIDS = ((8, 2), (16, 6))
"""Stride in pixels, and anchors at each place: 16 x 16 x 2 and 8 x 8 x 6, 896 in all."""
OVERLAP = 0.3
"""Boxes that share more of their union are one face."""


@dataclass(frozen=True, eq=False)
class Detection:
    """A face that was found.

    Args:
        score: 0 to 1.
        box: Left, top, right, bottom in pixels of the picture; it may reach outside.
        points: Right eye and left eye of the person, nose, mouth, right and left ear, in pixels.
    """

    score: float
    box: Float[Tensor, "4"]
    points: Float[Tensor, "6 2"]


class FaceDetector:
    """Finds faces that fill about a tenth of the picture's side or more.

    Args:
        folder: Where `loopy.faces.networks.unpack_wheel` put the three files.
        min_score: Minimum score of a face.
        threads: Of the network.

    Raises:
        ModelError: The file is missing or another one.
        DependencyError: ai-edge-litert is not installed.
    """

    def __init__(self, folder: AnyPath, *, min_score: float = 0.5, threads: int = 1) -> None:
        self._network = Network(folder, "face_detection_short_range", threads=threads)
        self._anchors = anchors()
        self.min_score = min_score

    def __call__(self, frame: UInt8[Tensor, "h w 3"], *, room: float = 1.0) -> list[Detection]:
        """The faces of an RGB picture, best first; see `loopy.faces.mesh.FaceMesh` for ``room``."""
        height, width, _ = frame.shape
        square = Region(width / 2, height / 2, max(height, width) * room)
        picture = cut(frame, square, size_px=INPUT_PX, black=True) / 127.5 - 1
        regressors, logits = self._network(picture)
        scores = logits.reshape(-1).clamp(-100, 100).sigmoid()
        found = scores >= self.min_score
        coords = regressors.reshape(-1, 8, 2)[found] / INPUT_PX  # centre, size, six points
        anchor = self._anchors[found]
        centre, points = coords[:, 0] + anchor, coords[:, 2:] + anchor[:, None]
        boxes = torch.cat([centre - coords[:, 1] / 2, centre + coords[:, 1] / 2], 1)
        corner = torch.tensor([square.x, square.y]) - square.side / 2
        return [
            Detection(
                score,
                box * square.side + corner.repeat(2),
                points * square.side + corner,
            )
            for score, box, points in merged(scores[found], boxes, points)
        ]


def anchors() -> Float[Tensor, "896 2"]:
    """Middles of the places at which the network looks, in shares of its input."""
    places = []
    for stride, count in GRIDS:
        middle = (torch.arange(INPUT_PX // stride) + 0.5) * stride / INPUT_PX
        grid = torch.stack(torch.meshgrid(middle, middle, indexing="xy"), -1).reshape(-1, 2)
        places.append(grid.repeat_interleave(count, 0))
    return torch.cat(places)


def merged(
    scores: Float[Tensor, " n"], boxes: Float[Tensor, "n 4"], points: Float[Tensor, "n 6 2"]
) -> list[tuple[float, Tensor, Tensor]]:
    """Weighted suppression: boxes that overlap the best become their mean by score."""
    faces = []
    left = scores.argsort(descending=True)
    while len(left):
        near = torch.stack([overlap(boxes[left[0]], boxes[i]) > OVERLAP for i in left])
        near[0] = True
        group = left[near]
        weight = scores[group] / scores[group].sum()
        faces.append(
            (
                scores[left[0]].item(),
                (boxes[group] * weight[:, None]).sum(0),
                (points[group] * weight[:, None, None]).sum(0),
            )
        )
        left = left[~near]
    return faces


def overlap(box: Float[Tensor, "4"], other: Float[Tensor, "4"]) -> Float[Tensor, ""]:
    """Intersection over union of two boxes."""
    area, its_area = ((each[2:] - each[:2]).clamp(0).prod() for each in (box, other))
    shared = (torch.minimum(box[2:], other[2:]) - torch.maximum(box[:2], other[:2])).clamp(0).prod()
    return shared / (area + its_area - shared).clamp(min=1e-9)
