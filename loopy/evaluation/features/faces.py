"""Extractors that crop faces by their landmarks: SyncNet, recognition, expression coefficients."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from loopy.errors import MetricError
from loopy.evaluation.features.crops import (
    align,
    crop,
    fill_missing,
    has_eyes_nose_mouth,
    sync_boxes,
)
from loopy.evaluation.features.extract import Start, VideoFeatures, VideoInput
from loopy.evaluation.features.frames import FrameRows
from loopy.metrics.beat import speech_energy
from loopy.metrics.frechet import EXPRESSIONS
from loopy.metrics.sync_scores import sync_scores
from loopy.metrics.syncnet import FRAMES, SIZE_PX, SyncNet
from loopy.timing import FPS, SAMPLE_RATE_HZ

AT_ONCE = 200
"""Frames that SyncNet takes at a time."""
EXPRESSION_PX = 224

FindPoints = Callable[[UInt8[Tensor, "n h w 3"]], Float[Tensor, "n 68 2"]]
"""Frames of one video, in order, to their landmarks in pixels; NaN where one is missing."""
Points = Callable[[Path | None], FindPoints]
"""What finds the landmarks of a video; None: of single pictures."""


def energy(video: VideoInput, features: VideoFeatures) -> Float[Tensor, "f"]:
    """Energy of the sound of each frame."""
    frames = int(features.get("size")[0])
    return speech_energy(video.sound_of(frames), frames=frames)


class SyncNetScores:
    """Sync-C, Sync-D and offset.

    Args:
        network: SyncNet.
        device: Where it is.
        boxes: Of the face in each frame.
        sound: As long as the video.
        at_once: Frames that the network takes at a time.
    """

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
        embedded = self._network(self._waiting.to(self._device), sound.to(self._device))
        self._pictures.append(embedded[0])
        self._sounds.append(embedded[1])
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

    return lambda _, features: FrameRows(rows, _track(features.get("points")))


def portrait_face(
    network: Any, device: str, points: Points
) -> Callable[[VideoInput, VideoFeatures], Float[Tensor, "d"]]:
    """The embedding of the portrait's face."""

    @torch.no_grad()
    def row(video: VideoInput, _: VideoFeatures) -> Tensor:
        portrait = video.given_portrait()[None]
        face = align(portrait, _track(points(None)(portrait)))
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


def _track(points: Float[Tensor, "f 68 2"]) -> Float[Tensor, "f 68 2"]:
    return fill_missing(points, has_eyes_nose_mouth(points))
