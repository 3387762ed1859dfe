"""Extractors that crop faces by their landmarks: SyncNet, recognition, expression coefficients."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor
from torch.nn import functional

from loopy.errors import MetricError
from loopy.evaluation.features.extract import Start, VideoFeatures, VideoInput
from loopy.evaluation.features.frames import FrameRows
from loopy.metrics.beat import speech_energy
from loopy.metrics.frechet import EXPRESSIONS
from loopy.metrics.sync_scores import sync_scores
from loopy.metrics.syncnet import FRAMES, SIZE_PX, SyncNet
from loopy.pixels import from_pixels
from loopy.timing import FPS, SAMPLE_RATE_HZ

AT_ONCE = 200
"""Frames that SyncNet takes at a time."""
EXPRESSION_PX = 224
MIN_FOUND = 0.5
"""Share of frames in which the face must have been found."""
ROOM, STEADY = 0.4, 13
"""SyncNet's authors leave 40 % of the face's half around it, and take medians over 13 frames."""

TEMPLATE = ((38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041))  # fmt: skip  # noqa: E501
"""Eyes, nose tip and corners of the mouth in a picture of 112 px, as ArcFace was trained."""
TEMPLATE_PX = 112
_EYES, _NOSE, _CORNERS = (slice(36, 42), slice(42, 48)), 30, (48, 54)
NEEDED = (_NOSE, *range(36, 48), *_CORNERS)
"""Points without which `align` does not know where a face is."""

FindPoints = Callable[[UInt8[Tensor, "n h w 3"]], Float[Tensor, "n 68 2"]]
"""Frames of one video, in order, to their landmarks in pixels; NaN where one is missing."""
Points = Callable[[Path | None], FindPoints]
"""What finds the landmarks of a video; None: of single pictures."""


def energy(video: VideoInput, features: VideoFeatures) -> Float[Tensor, "f"]:
    """Energy of the sound of each frame."""
    frames = int(features.get("size")[0])
    return speech_energy(video.sound_of(frames), frames=frames)


class SyncNetScores:
    """Sync-C, Sync-D and offset, of the boxes of the face in each frame and a sound as long."""

    def __init__(
        self,
        network: SyncNet,
        device: str,
        boxes: Float[Tensor, "f 4"],
        sound: Float[Tensor, " samples"],
        *,
        at_once: int = AT_ONCE,
    ) -> None:
        self._network, self._device, self._at_once = network, device, at_once
        self._boxes, self._sound, self._first = boxes, sound, 0
        self._start, self._waiting = 0, torch.zeros(0, SIZE_PX, SIZE_PX, 3).byte()
        self._pictures, self._sounds = list[Tensor](), list[Tensor]()

    def update(self, frames: UInt8[Tensor, "n h w 3"]) -> None:
        """Takes the next frames."""
        boxes = self._boxes[self._start : self._start + len(frames)]
        self._start += len(frames)
        self._waiting = torch.cat([self._waiting, crop(frames, boxes, size_px=SIZE_PX)])
        if len(self._waiting) >= self._at_once:
            self._embed()

    def compute(self) -> Float[Tensor, "3"]:
        """The three numbers.

        Raises:
            MetricError: Too few frames.
        """
        if not self._pictures or len(self._waiting) > FRAMES:
            self._embed()
        return torch.tensor(sync_scores(torch.cat(self._pictures), torch.cat(self._sounds)))

    @torch.no_grad()
    def _embed(self) -> None:
        """Windows of `FRAMES` frames; the last of them wait for the next frames."""
        samples_a_frame = SAMPLE_RATE_HZ // int(FPS)
        end = self._first + len(self._waiting) + FRAMES
        sound = self._sound[self._first * samples_a_frame : end * samples_a_frame]
        pictures, sounds = self._network(self._waiting.to(self._device), sound.to(self._device))
        self._pictures.append(pictures)
        self._sounds.append(sounds)
        done = len(self._waiting) - FRAMES
        self._first, self._waiting = self._first + done, self._waiting[done:]


def syncnet(network: Any, device: str) -> Start:
    """Sync-C, Sync-D and offset."""

    def start(video: VideoInput, features: VideoFeatures) -> SyncNetScores:
        boxes = sync_boxes(features.get("points"))
        return SyncNetScores(network, device, boxes, video.sound_of(len(boxes)))

    return start


def faces(network: Any, device: str) -> Start:
    """An embedding of the face in each frame."""

    @torch.no_grad()
    def rows(frames: Tensor, points: Tensor) -> Tensor:
        return network(align(frames, points).to(device))

    return lambda _, features: FrameRows(rows, steady_face(features.get("points")))


def portrait_face(
    network: Any, device: str, points: Points
) -> Callable[[VideoInput, VideoFeatures], Float[Tensor, "d"]]:
    """The embedding of the portrait's face."""

    @torch.no_grad()
    def row(video: VideoInput, _: VideoFeatures) -> Tensor:
        portrait = video.given_portrait()[None]
        face = align(portrait, steady_face(points(None)(portrait)))
        return network(face.to(device)).float().cpu()[0]

    return row


def expressions(network: Any, device: str) -> Start:
    """Coefficients of the expression in each frame."""

    @torch.no_grad()
    def rows(frames: Tensor, boxes: Tensor) -> Tensor:
        pictures = crop(frames, boxes, size_px=EXPRESSION_PX).permute(0, 3, 1, 2).float() / 255
        found = network(pictures.to(device))
        if found.shape[1:] != (EXPRESSIONS,):
            raise MetricError(
                f"E-FID is of {EXPRESSIONS} coefficients a frame, the network gives "
                f"{tuple(found.shape[1:])}"
            )
        return found

    return lambda _, features: FrameRows(rows, sync_boxes(features.get("points")))


def steady_face(points: Float[Tensor, "f 68 2"]) -> Float[Tensor, "f 68 2"]:
    """A track for `align`; frames without the points that it needs take those of the nearest.

    Raises:
        MetricError: The face is missing in more than half of the frames.
    """
    return _fill(points, ~points[:, list(NEEDED)].isnan().flatten(1).any(1))


def _fill(points: Float[Tensor, "f 68 2"], found: Bool[Tensor, "f"]) -> Float[Tensor, "f 68 2"]:
    """The same with the nearest earlier frame (at the start: later one) where none is found."""
    if found.float().mean() < MIN_FOUND:
        raise MetricError(f"a face is found in {int(found.sum())} of {len(found)} frames only")
    places = torch.where(found, torch.arange(len(found)), -1).cummax(0).values
    return points[places.where(places >= 0, found.nonzero()[0, 0])]


def sync_boxes(points: Float[Tensor, "f 68 2"]) -> Float[Tensor, "f 4"]:
    """Squares around faces as SyncNet's authors cut them, left-top-right-bottom in pixels.

    They find faces by S3FD; here the points bound the face, so that figures are near theirs and not
    the same. Frames with less than half of the points are filled as in `steady_face`.

    Raises:
        MetricError: The face is missing in more than half of the frames.
    """
    points = _fill(points, (~points.isnan().any(-1)).float().mean(1) >= 0.5)
    missing = points.isnan()
    least = points.masked_fill(missing, torch.inf).amin(1)
    corners = torch.stack([least, points.masked_fill(missing, -torch.inf).amax(1)])
    middle, half = corners.mean(0), (corners[1] - corners[0]).amax(1, keepdim=True) / 2
    steady = torch.cat([middle, half], 1).T[None]
    padded = functional.pad(steady, (STEADY // 2, STEADY // 2), mode="replicate")[0]
    x, y, half = padded.unfold(1, STEADY, 1).median(-1).values
    side = half * (1 + ROOM)
    return torch.stack([x - side, y - half, x + side, y - half + 2 * side], 1)


def crop(
    frames: UInt8[Tensor, "f h w 3"], boxes: Float[Tensor, "f 4"], *, size_px: int
) -> UInt8[Tensor, "f {size_px} {size_px} 3"]:
    """The square in each frame; what lies outside the picture is grey."""
    pieces = []
    for frame, (left, top, right, bottom) in zip(
        frames, boxes.round().long().tolist(), strict=True
    ):
        height, width = frame.shape[:2]
        rows = slice(max(top, 0), max(min(bottom, height), 0))
        columns = slice(max(left, 0), max(min(right, width), 0))
        side = max(bottom - top, right - left, 1)
        square = torch.full((side, side, 3), 110.0)
        inside = frame[rows, columns].float()
        down, over = rows.start - top, columns.start - left
        square[down : down + inside.shape[0], over : over + inside.shape[1]] = inside
        size, square = (size_px, size_px), square.permute(2, 0, 1)[None]
        pieces.append(functional.interpolate(square, size, mode="bilinear", antialias=True))
    return torch.cat(pieces).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)


def align(
    frames: UInt8[Tensor, "f h w 3"], points: Float[Tensor, "f 68 2"]
) -> Float[Tensor, "f 3 112 112"]:
    """Faces turned, moved and scaled so that eyes, nose and mouth lie where ArcFace expects them.

    Takes tracks without gaps (`steady_face`), in pixels of the pictures; gives pictures in [-1, 1].
    """
    target = points.new_tensor(TEMPLATE)
    left, right = (points[:, eye].mean(1) for eye in _EYES)
    five = [left, right, points[:, _NOSE], *(points[:, corner] for corner in _CORNERS)]
    turn, shift = _similarity(target, torch.stack(five, 1))
    places = torch.arange(TEMPLATE_PX) + 0.5
    grid = torch.stack(torch.meshgrid(places, places, indexing="xy"), -1)
    at = torch.einsum("nij,hwj->nhwi", turn, grid) + shift[:, None, None]
    size = points.new_tensor([frames.shape[2], frames.shape[1]])
    pictures = from_pixels(frames.permute(0, 3, 1, 2))
    return functional.grid_sample(pictures, at / size * 2 - 1, align_corners=False)


def _similarity(
    source: Float[Tensor, "p 2"], target: Float[Tensor, "n p 2"]
) -> tuple[Float[Tensor, "n 2 2"], Float[Tensor, "n 2"]]:
    """Turn, scale and shift that lead from points to others with least squares, never mirrored."""
    centre, centres = source.mean(0), target.mean(1)
    a, b = source - centre, target - centres[:, None]
    cos = (a * b).sum((1, 2)) / a.square().sum()
    sin = (a[:, 0] * b[..., 1] - a[:, 1] * b[..., 0]).sum(1) / a.square().sum()
    turn = torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], 1)
    return turn, centres - turn @ centre
