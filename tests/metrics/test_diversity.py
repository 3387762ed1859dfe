"""Independent reference: scipy.spatial.distance.pdist."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.distance import pdist

from loopy.errors import MetricError
from loopy.metrics.diversity import motion_diversity
from loopy.motion import MotionSequence


def track(points, *, size_px=512):
    frames = len(points)
    return MotionSequence(
        points, torch.zeros(frames, 3), torch.ones(frames, 68, dtype=torch.bool), size_px
    )


def test_equals_scipys_distances():
    """Reference: pdist of each point in each frame."""
    tracks = torch.rand(4, 7, 68, 2)
    rows = tracks.flatten(1, 2).numpy()
    expected = np.mean([pdist(rows[:, place]) for place in range(7 * 68)])
    assert motion_diversity([track(each) for each in tracks]) == pytest.approx(expected, rel=1e-5)


def test_equal_seeds_have_none_and_a_shift_has_its_length():
    points = torch.rand(9, 68, 2) * 100
    assert motion_diversity([track(points), track(points)]) == 0
    moved = points + torch.tensor([3.0, 4.0])
    assert motion_diversity([track(points), track(moved)]) == pytest.approx(5, rel=1e-5)
    small = [track(points, size_px=128), track(moved, size_px=128)]
    assert motion_diversity(small) == pytest.approx(20, rel=1e-5)


def test_points_that_one_track_lost_are_not_counted():
    points = torch.rand(9, 68, 2)
    other = track(points.clone())
    other.valid[:, 5] = False
    other.points[:, 5] = 1e6
    assert motion_diversity([track(points), other]) == 0
    blind = replace(other, valid=torch.zeros_like(other.valid))
    with pytest.raises(MetricError, match="no point is found"):
        motion_diversity([track(points), blind])


def test_bad_input_is_named():
    with pytest.raises(MetricError, match="NaN or infinity in 1 of 2"):
        motion_diversity([track(torch.rand(4, 68, 2) * k) for k in (1, torch.inf)])
    with pytest.raises(MetricError, match=r"different lengths \[4, 5\]"):
        motion_diversity([track(torch.rand(n, 68, 2)) for n in (4, 5)])
    with pytest.raises(MetricError, match="got 1"):
        motion_diversity([track(torch.rand(4, 68, 2))])
