import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from loopy.metrics.colour import palette_distance, to_lab

unit = st.floats(0, 1, width=32)


@pytest.mark.parametrize(
    ("rgb", "lab"),
    [  # published values for D65
        ((0, 0, 0), (0, 0, 0)),
        ((255, 255, 255), (100, 0, 0)),
        ((255, 0, 0), (53.24, 80.09, 67.20)),
        ((0, 255, 0), (87.73, -86.18, 83.18)),
        ((0, 0, 255), (32.30, 79.19, -107.86)),
        ((119, 119, 119), (50.03, 0, 0)),
        ((8, 8, 8), (2.19, 0, 0)),  # on the straight pieces of both curves
    ],
)
def test_known_colours(rgb, lab):
    assert to_lab(torch.tensor(rgb) / 255).tolist() == pytest.approx(lab, abs=0.05)


@given(st.lists(st.tuples(unit, unit, unit), min_size=1), st.tuples(unit, unit, unit))
def test_a_distance_is_symmetric_and_never_negative(first, second):
    one, other = torch.tensor(first), torch.tensor([second])
    assert float(palette_distance(one, one)) == 0
    distance = float(palette_distance(one, other))
    assert distance == pytest.approx(float(palette_distance(other, one)), abs=1e-3)
    assert distance >= 0


def test_shape_is_kept():
    assert to_lab(torch.rand(2, 64, 3)).shape == (2, 64, 3)


def test_a_palette_takes_on_a_tint_and_does_not_mind_where_colours_are():
    colours = torch.rand(500, 3) * 0.5 + 0.2
    moved = colours[torch.randperm(500)]
    assert float(palette_distance(colours, moved)) == pytest.approx(0, abs=1e-4)
    grey = torch.full((40, 3), 0.5)
    tinted = grey + torch.tensor([0.05, 0, 0])
    distance = float((to_lab(grey[0]) - to_lab(tinted[0])).norm())
    assert float(palette_distance(grey, tinted[:7])) == pytest.approx(distance, rel=1e-4)
    # half of the picture gone dark shows, though the other half is as it was
    half = torch.cat([colours[:250] * 0.3, colours[250:]])
    assert float(palette_distance(colours, half)) > 5
