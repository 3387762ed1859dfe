"""Squares that are cut out, and points that come back."""

from math import pi

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from loopy.faces.regions import Region, around, cut, level, moved_back

SIZE_PX = 48


@given(
    x=st.floats(30, 90),
    y=st.floats(30, 90),
    side=st.floats(24, 60),
    angle=st.floats(-pi, pi),
)
@settings(max_examples=30, deadline=None)
def test_what_is_seen_in_a_region_is_where_its_point_comes_back_to(x, y, side, angle):
    rows, columns = torch.meshgrid(torch.arange(121.0), torch.arange(121.0), indexing="ij")
    picture = torch.stack([columns, rows, 0 * rows], -1).to(torch.uint8)  # each pixel says where
    region = Region(x, y, side, angle)
    seen = cut(picture, region, size_px=SIZE_PX)[10:38, 10:38]
    steps = torch.arange(10, 38) / SIZE_PX
    places = torch.stack(torch.meshgrid(steps, steps, indexing="xy"), -1).reshape(-1, 2)
    back = moved_back(places, region).reshape(28, 28, 2)
    inside = ((back > 0) & (back < 120)).all(-1)
    assert torch.allclose(seen[inside][:, :2], back[inside], atol=0.01)


def test_outside_is_black_or_the_border_goes_on():
    picture = torch.full((20, 20, 3), 200, dtype=torch.uint8)
    corner = Region(0, 0, 20)
    assert cut(picture, corner, size_px=8, black=True)[0, 0].max() == 0
    assert cut(picture, corner, size_px=8)[0, 0].min() == 200
    far = Region(500, 500, 20)
    assert cut(picture, far, size_px=8).shape == (8, 8, 3)


def test_a_square_holds_its_box_with_room():
    region = around(torch.tensor([10.0, 20.0]), torch.tensor([30.0, 80.0]), scale=1.5)
    assert (region.x, region.y, region.side) == (20, 50, 90)


@pytest.mark.parametrize(("right", "degrees"), [((2, 1), 0), ((1, 2), 90), ((0, 1), 180)])
def test_the_angle_of_two_eyes(right, degrees):
    angle = level(torch.tensor([1.0, 1.0]), torch.tensor([float(v) for v in right]))
    assert abs(angle) * 180 / pi == pytest.approx(degrees)


def test_depth_is_scaled_alike():
    points = moved_back(torch.tensor([[0.5, 0.5, 0.25]]), Region(7, 9, 40, 0.3))
    assert torch.allclose(points, torch.tensor([[7.0, 9.0, 10.0]]))
