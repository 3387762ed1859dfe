"""Independent references: numpy.polyfit, skimage's Lab, scipy.ndimage's Laplacian."""

import numpy as np
import pytest
import scipy.ndimage
import torch
from skimage.color import rgb2lab

from loopy.errors import MetricError
from loopy.metrics.drift import (
    colour_drift,
    colour_slope,
    mean_colours,
    sharpness,
    sharpness_drift,
)


def film(frames, *, high=256):
    return torch.randint(0, high, (frames, 12, 10, 3), dtype=torch.uint8)


def test_colour_drift_equals_the_slopes_of_skimages_lab():
    """References: skimage.color.rgb2lab, numpy.polyfit."""
    video = film(40)
    means = rgb2lab(video.numpy()).mean((1, 2))
    slopes = np.polyfit(np.arange(40) / 25, means, 1)[0]
    assert colour_drift(video) == pytest.approx(np.linalg.norm(slopes), rel=1e-2)
    assert mean_colours(video).numpy() == pytest.approx(means, abs=0.02)


def test_sharpness_equals_scipys_laplacian():
    """References: scipy.ndimage.laplace, numpy.polyfit of the logarithm."""
    video = film(50)
    variances = []
    for frame in video.numpy() @ np.array([0.299, 0.587, 0.114]):
        variances.append(scipy.ndimage.laplace(frame)[1:-1, 1:-1].var())
    assert sharpness(video).numpy() == pytest.approx(variances, rel=1e-4)
    slope = np.polyfit(np.arange(50) / 25, np.log(variances), 1)[0]
    assert sharpness_drift(video) == pytest.approx(slope, abs=1e-4)


def test_a_tint_over_time_shows_in_colour_and_blur_in_sharpness_alone():
    still = film(1).expand(75, -1, -1, -1)
    assert colour_drift(still) == pytest.approx(0, abs=1e-4)
    assert sharpness_drift(still) == pytest.approx(0, abs=1e-4)
    grey = torch.full((75, 8, 8, 3), 120.0)
    tinted = grey.clone()
    tinted[..., 0] += torch.arange(75)[:, None, None]
    assert colour_drift(tinted.to(torch.uint8)) > 5
    faded = still.float() * (0.99 ** torch.arange(75))[:, None, None, None]
    # contrast that shrinks by 1 % a frame: its variance by 2 % a frame, 25 times a second
    assert sharpness_drift(faded.round().to(torch.uint8)) == pytest.approx(
        50 * np.log(0.99), rel=0.03
    )


def test_a_head_that_moves_to_and_fro_does_not_drift():
    """Nearest wrong code: the distance of the last frame from the first one."""
    swing = (127 + 60 * torch.linspace(0, 20 * torch.pi, 500).sin())[:, None, None, None]
    video = swing.expand(-1, 4, 4, 3).round().to(torch.uint8)
    assert colour_drift(video) < 0.3
    colours = mean_colours(video)
    assert float((colours - colours[0]).norm(dim=1).max()) > 20


def test_bad_input_is_named():
    with pytest.raises(MetricError, match="needs a second, got 24 frames"):
        colour_drift(film(24))
    with pytest.raises(MetricError, match="30 of 30 frames are of one colour"):
        sharpness_drift(film(30, high=1))
    with pytest.raises(MetricError, match="figures hold NaN or infinity in 1 of 30"):
        colour_slope(torch.zeros(30, 3).index_fill(0, torch.tensor([4]), torch.nan))
