"""Independent reference: numpy's mean of grades given by a formula of the pixels."""

import importlib.util

import pytest
import torch

from loopy.errors import DependencyError, MetricError
from loopy.metrics.quality import graded_by, image_quality, q_align


def film(frames):
    return torch.randint(0, 256, (frames, 6, 8, 3), dtype=torch.uint8)


class Brightness(torch.nn.Module):
    """Grades one picture in [0, 1], as pyiqa's networks do; refuses two."""

    def forward(self, picture):
        assert picture.shape[:2] == (1, 3)
        return 1 + 4 * picture.mean((1, 2, 3)).reshape(1, 1)


@pytest.mark.parametrize("every", [1, 3])
def test_equals_the_mean_of_frames(every):
    """Reference: numpy."""
    video = film(10)
    expected = 1 + 4 * video.numpy()[::every].mean() / 255
    found = image_quality(video, graded_by(Brightness()), every=every)
    assert found == pytest.approx(expected, rel=1e-5)


def test_bad_input_is_named():
    with pytest.raises(MetricError, match="without frames"):
        image_quality(film(0), graded_by(Brightness()))
    with pytest.raises(MetricError, match=r"4 frames got grades of shape \(1,\)"):
        image_quality(film(4), lambda frames: torch.ones(1))
    with pytest.raises(MetricError, match="NaN or infinity in 4 of 4"):
        image_quality(film(4), lambda frames: torch.full((4,), torch.nan))


@pytest.mark.skipif(importlib.util.find_spec("pyiqa") is not None, reason="pyiqa is here")
def test_a_missing_scorer_says_what_it_is_and_its_licence():
    with pytest.raises(DependencyError, match=r"pip install pyiqa; licence: PolyForm"):
        q_align()
