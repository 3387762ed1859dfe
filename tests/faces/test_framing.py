import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from loopy.errors import ConfigurationError
from loopy.faces.framing import CropOptions, crop_frames, crop_points, square_box

FACE = torch.rand(68, 2, generator=torch.Generator().manual_seed(0))
FACE = (FACE - FACE.amin(0)) / (FACE.amax(0) - FACE.amin(0))  # fills the unit square


def track(*, left, top, side, moves=((0, 0),)):
    return torch.stack([FACE * side + torch.tensor([left + x, top + y]) for x, y in moves])


@st.composite
def clips(draw):
    width, height = draw(st.integers(16, 400)), draw(st.integers(16, 400))
    side = draw(st.floats(2, 300))
    corner = st.floats(-100, 400)
    moves = draw(st.lists(st.tuples(st.floats(-80, 80), st.floats(-80, 80)), min_size=1))
    points = track(left=draw(corner), top=draw(corner), side=side, moves=moves)
    hidden = draw(st.lists(st.tuples(st.integers(0, len(moves) - 1), st.integers(0, 67))))
    for frame, point in hidden:
        points[frame, point] = torch.nan
    return points, width, height


@settings(deadline=None)
@given(clip=clips())
def test_a_box_is_a_square_in_the_picture_that_holds_the_face(clip):
    points, width, height = clip
    box = square_box(points, width_px=width, height_px=height)
    left, top, right, bottom = box
    assert all(isinstance(edge, int) for edge in box)
    assert right - left == bottom - top >= 1
    assert left >= 0
    assert top >= 0
    assert right <= width
    assert bottom <= height
    seen = points[~points.isnan().any(-1)]
    seen = torch.stack([seen[:, 0].clamp(0, width), seen[:, 1].clamp(0, height)], 1)
    low, high = seen.amin(0), seen.amax(0)
    for axis, (start, stop) in enumerate(((left, right), (top, bottom))):
        if high[axis].ceil() - low[axis].floor() <= right - left:
            assert start <= low[axis]
            assert high[axis] <= stop


def test_room_is_as_asked_for():
    points = track(left=500, top=400, side=100)
    assert square_box(points, width_px=2000, height_px=2000) == (430, 320, 670, 560)
    wide = CropOptions(above=0, below=0, beside=1)
    assert square_box(points, width_px=2000, height_px=2000, options=wide) == (400, 300, 700, 600)


def test_a_moving_head_has_one_box_and_no_wider_margins():
    points = track(left=500, top=400, side=100, moves=[(0, 0), (60, 0), (20, 0)])
    left, _, right, _ = square_box(points, width_px=2000, height_px=2000)
    assert (left, right) == (430, 730)  # 70 beside the leftmost and the rightmost face


def test_a_box_at_the_edge_is_shifted_and_a_large_one_shrinks():
    corner = track(left=0, top=0, side=100)
    assert square_box(corner, width_px=2000, height_px=2000) == (0, 0, 240, 240)
    low = track(left=100, top=149, side=50)
    left, top, right, bottom = square_box(low, width_px=400, height_px=200)
    assert (top, bottom, right - left) == (80, 200, 120)
    large = track(left=120, top=80, side=100)
    assert square_box(large, width_px=400, height_px=180) == (80, 0, 260, 180)


def test_missing_points_and_frames_do_not_count():
    points = track(left=500, top=400, side=100, moves=[(0, 0), (0, 0), (0, 0)])
    whole = square_box(points, width_px=2000, height_px=2000)
    points[1] = torch.nan
    points[2, 5] = torch.nan
    assert square_box(points, width_px=2000, height_px=2000) == whole
    assert square_box(points * torch.nan, width_px=200, height_px=200) is None


def test_margins_cannot_cut_the_face():
    for margins in ({"above": -0.1}, {"below": -1}, {"beside": float("nan")}):
        with pytest.raises(ConfigurationError, match="0 or more"):
            CropOptions(**margins)


def dot(x, y, *, width, height):
    """A soft white dot whose centre is at (x, y), where 0 is the outer edge of the first pixel."""
    rows, columns = np.mgrid[:height, :width] + 0.5
    bump = 255 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * 9))
    return torch.from_numpy(bump.round().astype(np.uint8))[None, ..., None].repeat(1, 1, 1, 3)


@settings(max_examples=30, deadline=None)
@given(
    x=st.floats(40, 70), y=st.floats(40, 60), side=st.integers(50, 90), size_px=st.integers(24, 160)
)
def test_a_dot_stays_under_its_point(x, y, side, size_px):
    box = (15, 12, 15 + side, 12 + side)
    points = torch.full((1, 68, 2), torch.nan)
    points[0, 7] = torch.tensor([x, y])
    moved = crop_points(points, box, size_px=size_px)
    scale = size_px / side
    if not bool(((moved[0, 7] > 10 * scale) & (moved[0, 7] < size_px - 10 * scale)).all()):
        return  # the dot is cut
    picture = crop_frames(dot(x, y, width=110, height=105), box, size_px=size_px)
    assert picture.shape == (1, size_px, size_px, 3)
    assert picture.dtype == torch.uint8
    bright = picture[0, ..., 0].double()
    middle = torch.arange(size_px) + 0.5
    centre = [(bright.sum(axis) * middle).sum() / bright.sum() for axis in (0, 1)]
    assert torch.tensor(centre) == pytest.approx(moved[0, 7], abs=0.15 * max(scale, 1))
    assert moved[0, 8].isnan().all()


def test_shrinking_averages_instead_of_skipping():
    stripes = torch.zeros(1, 120, 120, 3, dtype=torch.uint8)
    stripes[:, :, ::2] = 255
    small = crop_frames(stripes, (0, 0, 120, 120), size_px=20)
    assert small.float().std() < 12
    assert small.float().mean() == pytest.approx(127.5, abs=3)


def test_a_crop_of_the_same_size_is_the_pixels_themselves():
    frames = torch.randint(0, 256, (2, 40, 50, 3), dtype=torch.uint8)
    assert torch.equal(crop_frames(frames, (7, 3, 37, 33), size_px=30), frames[:, 3:33, 7:37])
