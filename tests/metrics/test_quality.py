"""Independent reference: a formula of the pixels by numpy."""

import importlib.util

import pytest
import torch

from loopy.errors import DependencyError
from loopy.metrics.quality import graded_by, q_align


def film(frames):
    return torch.randint(0, 256, (frames, 6, 8, 3), dtype=torch.uint8)


class Brightness(torch.nn.Module):
    """Grades one picture in [0, 1], as pyiqa's networks do; refuses two."""

    def forward(self, picture):
        assert picture.shape[:2] == (1, 3)
        return 1 + 4 * picture.mean((1, 2, 3)).reshape(1, 1)


def test_each_frame_is_graded_by_itself():
    """Reference: numpy."""
    video = film(10)
    expected = 1 + 4 * video.numpy().mean((1, 2, 3)) / 255
    assert graded_by(Brightness())(video).numpy() == pytest.approx(expected, rel=1e-5)


@pytest.mark.skipif(importlib.util.find_spec("pyiqa") is not None, reason="pyiqa is here")
def test_a_missing_scorer_says_what_it_is_and_its_licence():
    with pytest.raises(DependencyError, match=r"pip install pyiqa; licence: PolyForm"):
        q_align()
