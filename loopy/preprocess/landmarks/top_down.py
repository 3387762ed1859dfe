"""Landmarks in two steps: find the people, then the points of the largest one."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from loopy.errors import ConfigurationError, MediaError
from loopy.motion.sequence import POINTS
from loopy.preprocess.landmarks.types import FaceLandmarks

Picture = UInt8[np.ndarray, "h w 3"]
Boxes = Float[np.ndarray, "n 4"]
Points = Float[np.ndarray, "n 68 2"]
Scores = Float[np.ndarray, "n 68"]


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
        if every < 1:
            raise ConfigurationError(f"every={every} frames; give 1 or more")
        if not 0 <= min_score <= 1:
            raise ConfigurationError(f"min_score={min_score}; give 0 to 1")
        self._find_people, self._find_points = find_people, find_points
        self.every, self.min_score = every, min_score

    def __call__(self, frames: UInt8[Tensor, "f h w 3"]) -> FaceLandmarks:
        """Points of consecutive RGB frames of one shot.

        Returns:
            Landmarks on the CPU; ``people`` of a frame without a search is that of its box.

        Raises:
            MediaError: Not uint8 frames with three channels in the last place.
        """
        if frames.dtype != torch.uint8 or frames.ndim != 4 or frames.shape[3] != 3:
            raise MediaError(
                f"landmarks need uint8 frames (f h w 3), got {frames.dtype} {tuple(frames.shape)}"
            )
        pictures = frames.cpu().numpy()
        count = len(pictures)
        boxes, people = np.empty((count, 4), np.float32), np.empty(count, np.int64)
        points = np.empty((count, POINTS, 2), np.float32)
        scores = np.empty((count, POINTS), np.float32)

        for start in range(0, count, self.every):
            same_box = slice(start, start + self.every)
            boxes[same_box], people[same_box] = self._largest(pictures[start])
        every_frame = np.arange(count)
        points[:], scores[:] = self._points(pictures, boxes, every_frame)

        lost = every_frame[(every_frame % self.every > 0) & (scores.mean(1) < self.min_score)]
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
