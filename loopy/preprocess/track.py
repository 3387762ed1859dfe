"""The face track of a shot, and how pictures of a video come a few at a time."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from loopy.data.media.video_reader import in_parts, iterate_frames
from loopy.errors import MediaError
from loopy.preprocess.landmarks.precomputed import Precomputed
from loopy.preprocess.landmarks.types import LandmarkEstimator
from loopy.preprocess.measurements import estimate_angles

AT_ONCE = 30
"""Most frames in memory at a time; a multiple of how often DWPose searches for people."""
AT_ONCE_BYTES = 2**28
"""Most bytes of frames in memory at a time: 30 frames of 1920 x 1080, 10 of 4K, 2 of 8K."""


@dataclass(frozen=True, eq=False)
class FaceTrack:
    """A face over a shot.

    Args:
        points: In pixels of the upright picture; NaN where a point is missing.
        people: How many were found in each frame.
        pose: Yaw, pitch, roll in radians; of points alone pitch is not known, and is 0.
    """

    points: Float[Tensor, "f 68 2"]
    people: Int[Tensor, " f"]
    pose: Float[Tensor, "f 3"]

    def __len__(self) -> int:
        """Number of frames."""
        return len(self.points)


def read_parts(
    video: Path, span: range, *, frames: int = AT_ONCE
) -> Iterator[UInt8[Tensor, "f h w 3"]]:
    """Frames of a span on the 25 fps grid, some at a time, each in memory once.

    Args:
        video: The video.
        span: Which frames.
        frames: Most at a time; fewer where they are large (`AT_ONCE_BYTES`), but one.

    Raises:
        MediaError: The video cannot be read.
    """
    yield from in_parts(iterate_frames(video, span=span), most=frames, most_bytes=AT_ONCE_BYTES)


def find_track(video: Path, span: range, estimator: LandmarkEstimator | None) -> FaceTrack:
    """Finds the 68 points in each frame of a shot.

    Args:
        video: The video.
        span: Frames of the shot, on the 25 fps grid.
        estimator: None takes the precomputed tracks next to the video.

    Raises:
        MediaError: The video, or its precomputed tracks, cannot be read.
    """
    estimator = estimator or Precomputed(video=video, first=span.start)
    parts = [estimator(frames) for frames in read_parts(video, span)]
    if not parts:
        raise MediaError(f"{video} has no frames {span.start} to {span.stop}; give an intact file")
    points = torch.cat([part.points for part in parts])
    people = torch.cat([part.people for part in parts])
    if isinstance(estimator, Precomputed) and estimator.pose is not None:
        pose = estimator.pose[span.start : span.start + len(points)].float()
    else:
        yaw, roll = estimate_angles(points).unbind(1)
        pose = torch.stack([yaw, torch.zeros_like(yaw), roll], 1).nan_to_num()
    return FaceTrack(points, people, pose)
