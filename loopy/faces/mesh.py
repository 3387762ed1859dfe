"""MediaPipe's face mesh (arXiv 1907.06724) and iris (arXiv 2006.11341): 478 points of a face."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import count

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from loopy.faces.detector import FaceDetector, overlap
from loopy.faces.networks import Network
from loopy.faces.regions import Region, around, cut, level, moved_back
from loopy.paths import AnyPath
from loopy.typed_values import check_number

MESH_PX, IRIS_PX = 192, 64
ROOM = 1.5
"""Side of the region that the mesh sees, in longer sides of the face's box."""
EYE_CORNERS = (33, 263)
EYES = ((33, 133), (362, 263))
"""Outer and inner corner of the person's right eye, inner and outer of the left one."""
EYE_ROOM = 2.3
LOOKS = 3
"""At a face of a single picture."""
SAME = 0.3
"""Two meshes whose boxes share more of their union are of one face."""

POINTS_68 = (
    *(162, 234, 93, 58, 172, 136, 149, 148, 152, 377, 378, 365, 397, 288, 323, 454, 389),  # jaw
    *(71, 63, 105, 66, 107, 336, 296, 334, 293, 301),  # brows
    *(168, 197, 5, 4, 75, 97, 2, 326, 305),  # nose
    *(33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380),  # eyes
    *(61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181),  # outer lips
    *(78, 82, 13, 312, 308, 317, 14, 87),  # inner lips
)
"""The mesh's points that stand for the iBUG-68 ones."""


@dataclass(frozen=True, eq=False)
class Face:
    """A face in a picture.

    Args:
        score: That it is a face at all, 0 to 1.
        mesh: 468 points of the mesh, five of the right iris and five of the left one; x, y and
            depth (smaller is nearer) in pixels of the picture.
    """

    score: float
    mesh: Float[Tensor, "478 3"]

    @property
    def points(self) -> Float[Tensor, "68 2"]:
        """The iBUG-68 points."""
        return self.mesh[list(POINTS_68), :2]

    @property
    def box(self) -> Float[Tensor, "4"]:
        """Left, top, right, bottom of the mesh in pixels."""
        return torch.cat([self.mesh[:468, :2].amin(0), self.mesh[:468, :2].amax(0)])

    @property
    def area(self) -> float:
        """Of the box, in pixels."""
        return (self.box[2:] - self.box[:2]).prod().item()

    @property
    def region(self) -> Region:
        """Where the mesh network looks for this face in the next frame."""
        turn = level(*self.mesh[list(EYE_CORNERS), :2])
        return around(self.box[:2], self.box[2:], scale=ROOM, angle=turn)

    def overlaps(self, other: "Face") -> bool:
        """Whether both are of one face."""
        return overlap(self.box, other.box).item() > SAME

    @property
    def pose(self) -> Float[Tensor, "3"]:
        """Yaw, pitch, roll in radians: positive to the right, down, and clockwise as seen.

        From the head's own axes: eye corner to eye corner, and forehead to chin made square to it.
        Zero pitch is where forehead and chin are equally near.
        """
        right = self.mesh[EYE_CORNERS[1]] - self.mesh[EYE_CORNERS[0]]
        right = right / right.norm()
        down = self.mesh[152] - self.mesh[10]
        down = down - (down @ right) * right
        down = down / down.norm()
        away = torch.linalg.cross(right, down)  # into the picture
        yaw = -torch.atan2(away[0], away[2])
        pitch = -torch.atan2(away[1], away[[0, 2]].norm())
        return torch.stack([yaw, pitch, torch.atan2(right[1], right[0])])


class FaceMesh:
    """Finds faces and their points.

    A picture is looked at three times: in the detector's box, then in the box of the points that
    each look gave. In a video one look does, in the box of the last picture's points (`follow`), as
    MediaPipe itself does; the points then move without jitter.

    Args:
        folder: Where `loopy.faces.networks.unpack_wheel` put the files.
        min_score: Minimum score of a face, of the detector and of the mesh.
        iris: Also look at the eyes; without, the ten points of the irises are NaN.
        threads: Of each network.

    Raises:
        ModelError: A file is missing or another one.
        DependencyError: ai-edge-litert is not installed.
    """

    def __init__(
        self, folder: AnyPath, *, min_score: float = 0.5, iris: bool = True, threads: int = 1
    ) -> None:
        check_number("min_score", min_score, float, least=0, most=1)
        self._detector = FaceDetector(folder, min_score=min_score, threads=threads)
        self._mesh = Network(folder, "face_landmark", threads=threads)
        self._iris = Network(folder, "iris_landmark", threads=threads) if iris else None
        self.min_score = min_score

    def __call__(self, frame: UInt8[Tensor, "h w 3"], *, room: float = 1.0) -> list[Face]:
        """The faces of an RGB picture, largest first.

        Args:
            frame: The picture.
            room: Side of the square that the detector sees, in the picture's longer side; over 1
                there is black around it, and a face that fills the picture looks smaller.
        """
        found = self._found(frame, [], looks=LOOKS, room=room)
        return sorted(found, key=lambda face: -face.area)

    def follow(
        self, frames: Iterable[UInt8[Tensor, "h w 3"]], *, every: int = 5
    ) -> Iterator[dict[int, Face]]:
        """The faces of consecutive RGB frames of one shot, one frame at a time.

        Args:
            frames: In order.
            every: Frames from one search for new faces to the next; frames without a face are
                searched too.

        Yields:
            Faces of a frame by the number of their track: 0 is the first face that was found. A
            face that is lost and found again has a new number.
        """
        tracks, number = dict[int, Face](), count()
        for index, frame in enumerate(frames):
            looked = {key: self._look(frame, face.region) for key, face in tracks.items()}
            tracks = dict[int, Face]()
            for key, face in looked.items():  # two tracks that meet on one face are the older one
                if face is not None and not any(map(face.overlaps, tracks.values())):
                    tracks[key] = face
            if index % every == 0 or not tracks:
                new = self._found(frame, list(tracks.values()), looks=1)
                tracks |= {next(number): face for face in new}
            yield dict(tracks)

    def _found(
        self, frame: Tensor, known: list[Face], *, looks: int, room: float = 1.0
    ) -> list[Face]:
        """Faces that the detector sees, without those that are known."""
        faces = list(known)
        for detection in self._detector(frame, room=room):
            low, high = detection.box[:2], detection.box[2:]
            region = around(low, high, scale=ROOM, angle=level(*detection.points[:2]))
            face = self._look(frame, region)
            for _ in range(looks - 1):
                face = None if face is None else self._look(frame, face.region)
            if face is not None and not any(map(face.overlaps, faces)):
                faces.append(face)
        return faces[len(known) :]

    def _look(self, frame: Tensor, region: Region) -> Face | None:
        """The mesh of the face in a region; None where the network sees none."""
        raw, logit = self._mesh(cut(frame, region, size_px=MESH_PX) / 255)
        score = logit.sigmoid().item()
        if score < self.min_score:
            return None
        points = moved_back(raw.reshape(468, 3) / MESH_PX, region)
        return Face(score, torch.cat([points, *self._irises(frame, points)]))

    def _irises(self, frame: Tensor, points: Tensor) -> list[Float[Tensor, "5 3"]]:
        """Middle and edge of each iris."""
        if self._iris is None:
            return [torch.full((5, 3), torch.nan)] * 2
        irises = []
        for is_left, corners in enumerate(EYES):
            ends = points[list(corners), :2]
            turn = level(*points[list(EYE_CORNERS), :2])
            region = around(ends.amin(0), ends.amax(0), scale=EYE_ROOM, angle=turn)
            picture = cut(frame, region, size_px=IRIS_PX, black=True) / 255
            # the network knows left eyes only; the right eye is shown in a mirror
            _, iris = self._iris(picture if is_left else picture.flip(1))
            iris = iris.reshape(5, 3) / IRIS_PX
            if not is_left:
                iris = torch.cat([1 - iris[:, :1], iris[:, 1:]], 1)
            irises.append(moved_back(iris, region))
        return irises
