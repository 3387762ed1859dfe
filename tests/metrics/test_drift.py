"""Independent references: numpy.polyfit, skimage's Lab, scipy.ndimage's Laplacian."""

import numpy as np
import pytest
import scipy.ndimage
import torch
from hypothesis import given
from hypothesis import strategies as st
from skimage.color import rgb2lab

from loopy.errors import MetricError
from loopy.metrics.drift import (
    colour_slope,
    mean_colours,
    palette_distance,
    sharpness,
    sharpness_slope,
    to_lab,
)


def colour_drift(frames):
    return colour_slope(mean_colours(frames))


def sharpness_drift(frames):
    return sharpness_slope(sharpness(frames))


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
