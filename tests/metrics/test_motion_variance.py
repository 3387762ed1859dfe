"""Independent references: numpy.var over windows of 12 frames, scipy.spatial.distance.pdist."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from scipy.spatial.distance import pdist

from loopy.errors import MetricError
from loopy.metrics.motion_variance import interocular_px, motion_diversity, motion_variances
from loopy.motion import UPPER_FACE_37, MotionSequence


def track(points, *, size_px=512):
    return MotionSequence(
        points, torch.zeros(len(points), 3), torch.ones(len(points), 68, dtype=torch.bool), size_px
    )


def anyone(frames, *, size_px=512):
    return track(torch.rand(frames, 68, 2, dtype=torch.float64) * size_px, size_px=size_px)


@pytest.mark.parametrize("size_px", [512, 128])
def test_equals_numpy(size_px):
    """Reference: numpy.var. 30 frames are two windows, and six that nobody sees."""
    motion = anyone(30, size_px=size_px)
    points = motion.points.numpy() * (512 / size_px)
    windows = points[:24].reshape(2, 12, 68, 2)
    upper = windows[:, :, list(UPPER_FACE_37)] - windows[:, :, 30:31]
    glo = windows[:, :, 30].var(1).sum(-1).mean()
    exp = upper.var(1).sum(-1).mean()
    eyes = np.linalg.norm(points[:, 36] - points[:, 45], axis=1).mean()
    found = motion_variances(motion)
    assert found.glo == pytest.approx(glo)
    assert found.exp == pytest.approx(exp)
    assert found.glo_interocular == pytest.approx(glo / eyes**2)
    assert found.exp_interocular == pytest.approx(exp / eyes**2)
    assert float(interocular_px(motion)) == pytest.approx(eyes)


def test_the_known_extremes():
    still = anyone(1).points.expand(24, -1, -1).clone()
    assert motion_variances(track(still)).glo == 0
    walk = torch.randn(24, 1, 2, dtype=torch.float64).cumsum(0)
    rigid = motion_variances(track(still + walk))
    assert rigid.glo > 0
    assert rigid.exp == pytest.approx(0, abs=1e-12)
    eyes = still.clone()
    eyes[::2, 37:39] += 3
    blinking = motion_variances(track(eyes))
    assert blinking.exp > 0
    assert blinking.glo == 0
    mouth = still.clone()
    mouth[::2, 48:] += 9
    assert motion_variances(track(mouth)).exp == pytest.approx(0, abs=1e-12)


def test_inter_ocular_figures_do_not_mind_how_near_the_camera_is():
    near = anyone(24)
    far = track(near.points * 0.5)
    one, other = motion_variances(near), motion_variances(far)
    assert one.exp_interocular == pytest.approx(other.exp_interocular)
    assert one.exp == pytest.approx(4 * other.exp)


def test_windows_without_a_face_are_not_seen():
    motion = anyone(36)
    valid = motion.valid.clone()
    valid[12:24] = False
    lost = replace(
        motion, valid=valid, points=motion.points.masked_fill(~valid[..., None], torch.nan)
    )
    kept = track(torch.cat([motion.points[:12], motion.points[24:]]))
    assert motion_variances(lost).glo == pytest.approx(motion_variances(kept).glo)
    with pytest.raises(MetricError, match="no window has a face"):
        motion_variances(replace(motion, valid=torch.zeros_like(valid)))


def test_bad_input_is_named():
    with pytest.raises(MetricError, match="11 frames is shorter than a window of 12"):
        motion_variances(anyone(11))
    with pytest.raises(MetricError, match="25 frames a second, got 30"):
        motion_variances(replace(anyone(24), fps=Fraction(30)))


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


def test_seeds_that_cannot_be_compared_are_named():
    with pytest.raises(MetricError, match="NaN or infinity in 1 of 2"):
        motion_diversity([track(torch.rand(4, 68, 2) * k) for k in (1, torch.inf)])
    with pytest.raises(MetricError, match=r"different lengths \[4, 5\]"):
        motion_diversity([track(torch.rand(n, 68, 2)) for n in (4, 5)])
    with pytest.raises(MetricError, match="got 1"):
        motion_diversity([track(torch.rand(4, 68, 2))])
