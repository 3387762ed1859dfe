"""Face tracks that are known already: a small file next to the video."""

import os
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Bool, Float, UInt8
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from loopy.errors import MediaError, OutputError
from loopy.motion.sequence import POINTS
from loopy.paths import AnyPath, path_of
from loopy.preprocess.landmarks.types import FaceLandmarks
from loopy.tensor_file import save_tensors


@dataclass(frozen=True, eq=False)
class Tracks:
    """The face in every frame of a video, on the 25 fps grid that starts at its first picture.

    Args:
        points: iBUG-68 order, in pixels of the video's frames as shown (x right, y down).
        valid: False where a point is not known; its coordinates then mean nothing. None: all are.
        pose: Yaw, pitch, roll of the head in radians, where known.
    """

    points: Float[Tensor, "f 68 2"]
    valid: Bool[Tensor, "f 68"] | None = None
    pose: Float[Tensor, "f 3"] | None = None

    def fields(self) -> dict[str, Tensor]:
        """Those that are given, by name."""
        return {name: field for name, field in vars(self).items() if field is not None}

    def faults(self) -> str:
        """What is wrong with the fields, in words; empty if nothing is."""
        shapes = {"points": (POINTS, 2), "valid": (POINTS,), "pose": (3,)}
        for name, field in self.fields().items():
            expected = (len(self.points), *shapes[name])
            if tuple(field.shape) != expected:
                return f"{name} must have shape {expected}, got {tuple(field.shape)}"
            if (field.dtype == torch.bool) != (name == "valid"):
                return f"{name} has the type {field.dtype}"
        known = self.points if self.valid is None else self.points[self.valid]
        if not known.isfinite().all():
            return "points that are valid must be finite"
        posed = self.pose is None or self.pose.isfinite().all()
        return "" if posed else "pose must be finite; write 0 where there is no face"


def tracks_path(video: AnyPath) -> Path:
    """The file with the tracks of a video: ``a.mp4`` has ``a.mp4.tracks.safetensors``."""
    return Path(f"{Path(video)}.tracks.safetensors")


def save_tracks(video: AnyPath, tracks: Tracks) -> None:
    """Writes the tracks next to their video: a safetensors file with the names of the fields.

    Ill-formed ones, or a place that cannot be written, are an OutputError.
    """
    path = tracks_path(video)
    if faults := tracks.faults():
        raise OutputError(f"tracks for {path}: {faults}")
    save_tensors(path, tracks.fields())


def load_tracks(video: AnyPath) -> Tracks:
    """Reads what `save_tracks`, or another program, has put next to a video, or a MediaError."""
    path = tracks_path(path_of(video, MediaError))
    if not os.path.isfile(path):
        raise MediaError(
            f"video {video} has no tracks next to it; looked for {path}; "
            "write them with save_tracks, or take another landmark estimator"
        )
    try:
        tracks = Tracks(**load_file(path))
        faults = tracks.faults()
    except (OSError, SafetensorError, TypeError) as error:
        raise MediaError(f"{path} is not a file of tracks ({error}); write it again") from error
    if faults:
        raise MediaError(f"{path}: {faults}; write it again")
    return tracks


class Precomputed:
    """The tracks next to a video as an estimator; none, or ill-formed ones, are a MediaError.

    Args:
        video: The video; see `tracks_path`.
        first: Place on the 25 fps grid of the first frame that will be given.
    """

    def __init__(self, *, video: AnyPath, first: int = 0) -> None:
        self._path, self._first, self._tracks = tracks_path(video), first, load_tracks(video)

    def __call__(self, frames: UInt8[Tensor, "f h w 3"]) -> FaceLandmarks:
        """The frames from ``first`` on, and in the next call those after them.

        Scores are 1 or 0, boxes the bounds of the valid points; one person is wherever one is
        valid. Tracks that end before the frames do, or of larger pictures, are a MediaError.
        """
        span = slice(self._first, self._first + len(frames))
        self._first = span.stop
        points = self._tracks.points[span].float()
        if span.start < 0 or len(points) < len(frames):
            raise MediaError(
                f"{self._path} has {len(self._tracks.points)} frames, not {span.start} to "
                f"{span.stop}; write it for the whole video, at 25 frames a second"
            )
        valid = self._tracks.valid
        valid = torch.ones(points.shape[:2]).bool() if valid is None else valid[span]
        height, width = frames.shape[1:3]
        outside = (points < 0) | (points > torch.tensor([width, height]))
        if valid.any() and outside.any(-1)[valid].float().mean() > 0.5:
            raise MediaError(
                f"{self._path}: most points lie outside the frames of {width} x {height}; "
                "write them in pixels of the video's frames"
            )
        points = points.masked_fill(~valid[..., None], torch.nan)
        low, high = points.nan_to_num(torch.inf).amin(1), points.nan_to_num(-torch.inf).amax(1)
        boxes = torch.cat([low, high], 1)
        boxes = boxes.masked_fill(boxes.isinf(), torch.nan)
        pose = None if self._tracks.pose is None else self._tracks.pose[span].float()
        return FaceLandmarks(points, valid.float(), boxes, valid.any(1).long(), pose)
