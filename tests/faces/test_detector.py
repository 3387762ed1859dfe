"""Where the detector looks, and how its boxes become faces."""

import pytest
import torch

from loopy.faces.detector import anchors, merged, overlap


def test_the_detector_looks_at_896_places():
    places = anchors()
    assert places.shape == (896, 2)
    assert places[:2].tolist() == [[1 / 32, 1 / 32]] * 2  # the first pixel of 16 x 16
    assert places[512:518].tolist() == [[1 / 16, 1 / 16]] * 6  # and of 8 x 8
    assert len(places.unique(dim=0)) == 16 * 16 + 8 * 8
    assert places[2].tolist() == [3 / 32, 1 / 32]  # along the row


def test_overlap_is_intersection_over_union():
    box = torch.tensor([0.0, 0.0, 2.0, 2.0])
    assert overlap(box, box) == 1
    assert overlap(box, torch.tensor([1.0, 0.0, 3.0, 2.0])) == pytest.approx(1 / 3)
    assert overlap(box, torch.tensor([2.0, 2.0, 3.0, 3.0])) == 0
    assert overlap(box, torch.tensor([1.0, 1.0, 1.0, 1.0])) == 0  # an empty one


def test_boxes_of_one_face_become_their_mean_by_score():
    scores = torch.tensor([0.3, 0.9, 0.8])
    boxes = torch.tensor([[0.1, 0.0, 1.1, 1.0], [0.0, 0.0, 1.0, 1.0], [5.0, 5.0, 6.0, 6.0]])
    points = boxes[:, None, :2].expand(3, 6, 2)
    (first, box, at), (second, other, _) = merged(scores, boxes, points)
    assert (first, second) == pytest.approx((0.9, 0.8))
    assert box.tolist() == pytest.approx([0.025, 0.0, 1.025, 1.0])
    assert at[0].tolist() == pytest.approx([0.025, 0.0])
    assert torch.equal(other, boxes[2])


def test_nothing_found_is_no_face():
    assert merged(torch.empty(0), torch.empty(0, 4), torch.empty(0, 6, 2)) == []
