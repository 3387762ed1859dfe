"""The mesh as an estimator: one person of a shot, through several parts."""

import pytest
import torch

from loopy.errors import ConfigurationError
from loopy.preprocess.landmarks import estimator
from loopy.preprocess.landmarks.types import FollowingEstimator


@pytest.fixture
def mediapipe(face_networks):
    return estimator("mediapipe", models=face_networks)


@pytest.fixture
def shot():
    """A face that moves to the left by 3 pixels a frame, and is gone in the fifth one."""
    data = pytest.importorskip("skimage.data")
    picture = torch.from_numpy(data.astronaut().copy())[:260, 90:350]
    frames = torch.stack([picture.roll(-3 * step, 1) for step in range(8)])
    frames[5] = 0
    return frames


def test_the_parts_of_a_shot_are_one_track(mediapipe, shot):
    assert isinstance(mediapipe, FollowingEstimator)
    whole, parts = mediapipe(shot), mediapipe.follow(shot.split(3))
    torch.testing.assert_close(whole.points, parts.points, equal_nan=True)
    assert len(parts) == 8


def test_points_pose_and_people(mediapipe, shot):
    found = mediapipe(shot)
    seen = torch.arange(8) != 5
    assert torch.equal(found.valid.all(1), seen)
    assert torch.equal(found.people, seen.long())
    assert found.boxes[5].isnan().all()
    assert found.scores[5].max() == 0
    assert found.pose.shape == (8, 3)
    moved = (found.points[4] - found.points[0]).mean(0)
    assert moved.tolist() == pytest.approx([-12, 0], abs=1)
    assert (found.pose[seen] - found.pose[0]).abs().max() < 0.05


@pytest.mark.parametrize("options", [{"threads": 0}, {"every": 0}, {"min_score": 2}])
def test_options_that_make_no_sense(face_networks, options):
    with pytest.raises(ConfigurationError):
        estimator("mediapipe", models=face_networks, **options)


def test_frames_without_a_face(mediapipe):
    found = mediapipe(torch.zeros(3, 64, 64, 3, dtype=torch.uint8))
    assert not found.valid.any()
    assert found.people.tolist() == [0, 0, 0]
