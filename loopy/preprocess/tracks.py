"""The face track of a shot: found once, kept until the video is finished."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from loopy.data.media.video_reader import in_parts, iterate_frames
from loopy.errors import MediaError
from loopy.preprocess.measurements import estimate_angles
from loopy.preprocess.poses import PoseEstimator
from loopy.preprocess.precomputed import Precomputed
from loopy.preprocess.work import keep, kept

AT_ONCE = 30
"""Most frames in memory at a time; a multiple of how often DWPose searches for people."""
AT_ONCE_BYTES = 2**28
"""Most bytes of frames in memory at a time: 30 frames of 1920 x 1080, 10 of 4K, 2 of 8K."""


@dataclass(frozen=True, eq=False)
class Track:
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
        """Return the number of frames."""
        return len(self.points)


def chunks(
    source: Path, span: range, *, frames: int = AT_ONCE
) -> Iterator[UInt8[Tensor, "f h w 3"]]:
    """Frames of a span on the 25 fps grid, some at a time, each in memory once.

    Args:
        source: The video.
        span: Which frames.
        frames: Most at a time; fewer where they are large (`AT_ONCE_BYTES`), but one.

    Raises:
        MediaError: The video cannot be read.
    """
    shown = iterate_frames(source, span=span)
    yield from in_parts(shown, most=frames, most_bytes=AT_ONCE_BYTES)


def find_track(source: Path, span: range, find: PoseEstimator | None) -> Track:
    """Finds the 68 points in each frame of a shot.

    Args:
        source: The video.
        span: Frames of the shot, on the 25 fps grid.
        find: The landmark estimator; None takes the tracks that lie beside the video.

    Raises:
        MediaError: The video, or its precomputed tracks, cannot be read.
    """
    find = find or Precomputed(video=source, first=span.start)
    parts = [find(frames) for frames in chunks(source, span)]
    if not parts:
        raise MediaError(f"{source} has no frames {span.start} to {span.stop}; give an intact file")
    points = torch.cat([part.points for part in parts])
    people = torch.cat([part.people for part in parts])
    pose = find.pose if isinstance(find, Precomputed) else None
    if pose is None:
        return Track(points, people, estimate_pose(points))
    return Track(points, people, pose[span.start : span.start + len(points)].float())


def estimate_pose(points: Float[Tensor, "f 68 2"]) -> Float[Tensor, "f 3"]:
    """Yaw and roll of a head from its points; pitch, and what is not known, is 0."""
    yaw, roll = estimate_angles(points).unbind(1)
    return torch.stack([yaw, torch.zeros_like(yaw), roll], 1).nan_to_num()


def kept_track(path: Path, source: Path, span: range, find: PoseEstimator | None) -> Track:
    """The track in a file; where there is none yet, it is found and written there.

    Raises:
        MediaError: See `find_track`.
        OutputError: It cannot be written.
    """
    if (found := kept(path)) is not None:
        return Track(**found[0])
    track = find_track(source, span, find)
    keep(path, vars(track), spent_s={})
    return track
