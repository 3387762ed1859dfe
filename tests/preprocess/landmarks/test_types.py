import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from loopy.errors import LoopyError
from loopy.preprocess.landmarks.dwpose import largest_person
from loopy.preprocess.landmarks.types import FaceLandmarks

FIELDS = {
    "points": torch.zeros(3, 68, 2),
    "scores": torch.ones(3, 68),
    "boxes": torch.zeros(3, 4),
    "people": torch.ones(3, dtype=torch.int64),
}


def test_a_point_without_a_place_is_not_valid():
    points = FIELDS["points"].clone()
    points[1, 5] = torch.nan
    faces = FaceLandmarks(**FIELDS | {"points": points})
    assert len(faces) == 3
    assert faces.valid.sum() == 3 * 68 - 1
    assert not faces.valid[1, 5]


@pytest.mark.parametrize("field", FIELDS)
def test_fields_that_disagree_are_refused(field):
    with pytest.raises(LoopyError, match="must have shape"):
        FaceLandmarks(**FIELDS | {field: FIELDS[field][:2]})


boxes = arrays(
    np.float32, st.tuples(st.integers(0, 6), st.just(4)), elements=st.floats(-9, 29, width=32)
)


@given(boxes)
def test_the_largest_person_is_inside_and_none_is_larger(boxes):
    box, people = largest_person(boxes, 20, 10)
    areas = [
        max(0, min(right, 20) - max(left, 0)) * max(0, min(bottom, 10) - max(top, 0))
        for left, top, right, bottom in boxes.tolist()
    ]
    assert people == sum(area > 0 for area in areas)
    if not people:
        assert np.isnan(box).all()
        return
    left, top, right, bottom = box.tolist()
    assert 0 <= left < right <= 20
    assert 0 <= top < bottom <= 10
    assert (right - left) * (bottom - top) == pytest.approx(max(areas), rel=1e-3)
