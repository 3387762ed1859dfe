"""Face tracks and the two measures of movement."""

from fractions import Fraction

import pytest
import torch

from loopy.errors import LoopyError
from loopy.motion import (
    NOSE_TIP,
    UPPER_FACE_37,
    MotionSequence,
    box_mask,
    expression_variance,
    head_motion_variance,
)

FRAMES = 12
MOUTH = list(range(48, 68))


@pytest.fixture
def face():
    return torch.rand(68, 2).mul(300).add(100).double()


def track(points, *, valid=None, size_px=512):
    frames = len(points)
    valid = torch.ones(frames, 68, dtype=torch.bool) if valid is None else valid
    return MotionSequence(points, torch.zeros(frames, 3), valid, size_px)


def swing(amplitude_px):
    """A movement of known variance: half the frames here, half there."""
    return amplitude_px * torch.tensor([1.0, -1.0]).double().repeat(FRAMES // 2)


def test_a_still_face(face):
    motion = track(face.expand(FRAMES, -1, -1))
    assert head_motion_variance(motion) == 0
    assert expression_variance(motion) == 0


def test_a_moving_head_is_no_expression(face):
    points = face.repeat(FRAMES, 1, 1)
    points += torch.stack([swing(3), swing(4)], 1)[:, None]
    motion = track(points)
    assert head_motion_variance(motion).item() == pytest.approx(9 + 16)
    assert expression_variance(motion).item() == pytest.approx(0, abs=1e-18)


def test_a_moving_mouth_is_neither(face):
    points = face.repeat(FRAMES, 1, 1)
    points[:, MOUTH, 1] += swing(20)[:, None]
    motion = track(points)
    assert head_motion_variance(motion) == 0
    assert expression_variance(motion) == 0


def test_moving_brows_are_expression(face):
    points = face.repeat(FRAMES, 1, 1)
    points[:, 17:27, 1] += swing(5)[:, None]
    motion = track(points)
    assert head_motion_variance(motion) == 0
    assert expression_variance(motion).item() == pytest.approx(10 * 25 / 37)


def test_the_upper_face():
    assert len(UPPER_FACE_37) == len(set(UPPER_FACE_37)) == 37
    assert not set(UPPER_FACE_37) & {*MOUTH, *range(3, 14)}
    assert NOSE_TIP in UPPER_FACE_37


def test_crops_of_any_size_agree(face):
    points = face.repeat(FRAMES, 1, 1) + torch.randn(FRAMES, 68, 2)
    for measure in (head_motion_variance, expression_variance):
        large, small = measure(track(points)), measure(track(points / 4, size_px=128))
        torch.testing.assert_close(large, small)


@pytest.mark.parametrize("measure", [head_motion_variance, expression_variance])
def test_blank_points_have_no_influence(face, measure):
    points = face.repeat(FRAMES, 1, 1) + torch.randn(FRAMES, 68, 2)
    valid = torch.ones(FRAMES, 68, dtype=torch.bool)
    valid[::4] = False
    kept = measure(track(points[valid[:, 0]]))
    for blank in (0.0, -1.0, float("nan")):
        filled = points.masked_fill(~valid[..., None], blank)
        torch.testing.assert_close(measure(track(filled, valid=valid)), kept)


def test_a_lost_nose_takes_its_frame_out_of_expression(face):
    points = face.repeat(FRAMES, 1, 1) + torch.randn(FRAMES, 68, 2)
    valid = torch.ones(FRAMES, 68, dtype=torch.bool)
    valid[3, NOSE_TIP] = False
    others = [i for i in range(FRAMES) if i != 3]
    expected = expression_variance(track(points[others]))
    torch.testing.assert_close(expression_variance(track(points, valid=valid)), expected)


def test_a_point_seen_once_has_no_variance(face):
    points = face.repeat(FRAMES, 1, 1)
    points[:, 17:27, 1] += swing(5)[:, None]
    valid = torch.ones(FRAMES, 68, dtype=torch.bool)
    valid[1:, 0] = False
    measured = expression_variance(track(points, valid=valid))
    assert measured.item() == pytest.approx(10 * 25 / 36)


@pytest.mark.parametrize("measure", [head_motion_variance, expression_variance])
def test_too_few_valid_points_give_nan(face, measure):
    points, valid = face.repeat(FRAMES, 1, 1), torch.ones(FRAMES, 68, dtype=torch.bool)
    valid[: FRAMES // 2] = False
    assert not measure(track(points, valid=valid)).isnan()  # exactly half is enough
    valid[FRAMES // 2] = False
    assert measure(track(points, valid=valid)).isnan()
    assert not measure(track(points, valid=valid), fewest=0.4).isnan()
    assert measure(track(points[:1])).isnan()
    once = torch.zeros(2, 68, dtype=torch.bool)
    once[0] = True
    assert measure(track(points[:2], valid=once)).isnan()


def test_normalised_layout(face):
    points = face.repeat(FRAMES, 1, 1)
    points[0, 5] = float("nan")
    valid = torch.ones(FRAMES, 68, dtype=torch.bool)
    valid[0, 5] = False
    row = track(points, valid=valid).normalised()
    assert row.shape == (FRAMES, 204)
    assert row[0, 10:12].tolist() == [0, 0]
    assert row[:, 136:].tolist() == valid.double().tolist()
    torch.testing.assert_close(row[1, :136].unflatten(0, (68, 2)), face / 512 - 0.5)
    whole = track(torch.tensor([[[256.0, 512.0]] * 68])).normalised()
    assert whole[0, :2].tolist() == [0, 0.5]


def test_slices_keep_everything_together(face):
    points = face.repeat(FRAMES, 1, 1) + torch.randn(FRAMES, 68, 2)
    whole = MotionSequence(
        points, torch.randn(FRAMES, 3), torch.rand(FRAMES, 68) > 0.5, 256, Fraction(30)
    )
    part = whole[2:7]
    assert len(part) == 5
    assert torch.equal(part.points, points[2:7])
    assert torch.equal(part.pose, whole.pose[2:7])
    assert torch.equal(part.valid, whole.valid[2:7])
    assert (part.size_px, part.fps) == (256, Fraction(30))


def test_fields_that_disagree_are_refused(face):
    points = face.repeat(FRAMES, 1, 1)
    with pytest.raises(LoopyError, match=r"pose must have shape \(12, 3\), got \(11, 3\)"):
        MotionSequence(points, torch.zeros(11, 3), torch.ones(FRAMES, 68).bool(), 512)
    with pytest.raises(LoopyError, match="points must have shape"):
        MotionSequence(points[:, :67], torch.zeros(12, 3), torch.ones(FRAMES, 68).bool(), 512)


def test_a_mask_is_the_box_around_its_points():
    points = torch.tensor([[[4.0, 6.0], [8.0, 7.0]]])
    mask = box_mask(points, size_px=16, margin_px=1)[0, 0]
    assert mask[5:8, 3:9].all()
    assert mask.sum() == 3 * 6


def test_a_mask_of_cells_has_those_whose_middle_is_inside():
    corners = torch.tensor([[[2.6, 5.1], [4.4, 5.9]]])
    cells = box_mask(corners, size_px=8, margin_px=0.5)[0, 0]
    assert cells.nonzero()[:, 0].unique().tolist() == [5]  # rows 4.6 to 6.4
    assert cells.nonzero()[:, 1].unique().tolist() == [2, 3, 4]
