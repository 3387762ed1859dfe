"""Independent references: scipy.linalg.sqrtm over numpy.cov, and torchmetrics' own FID."""

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.image.fid import FrechetInceptionDistance

from loopy.errors import MetricError
from loopy.metrics.frechet import Moments, frechet_distance


def by_scipy(first, second):
    shift = first.mean(0) - second.mean(0)
    covariances = [np.cov(rows, rowvar=False) for rows in (first, second)]
    root = scipy.linalg.sqrtm(covariances[0] @ covariances[1])
    return shift @ shift + np.trace(covariances[0] + covariances[1] - 2 * np.real(root))


def mixed(rows, width, *, seed, scale=1.0, shift=0.0):
    dice = np.random.default_rng(seed)
    return scale * dice.normal(size=(rows, width)) @ dice.normal(size=(width, width)) + shift


@pytest.mark.parametrize(("rows", "others"), [(300, 200), (30, 9), (9, 400), (12, 12)])
def test_equals_scipy_with_many_rows_and_with_few(rows, others):
    """Reference: scipy.linalg.sqrtm. With fewer rows than 20 features both roots are slim."""
    first, second = mixed(rows, 20, seed=1), mixed(others, 20, seed=2, scale=0.7, shift=0.4)
    ours = frechet_distance(torch.from_numpy(first), torch.from_numpy(second))
    assert ours.distance == pytest.approx(by_scipy(first, second), rel=1e-4)
    assert ours.rows == (rows, others)
    assert ("singular" in ours.note) == (min(rows, others) < 21)
    assert f"N = {rows} and {others}" in ours.note


class MeanColour(torch.nn.Module):
    num_features = 3

    def forward(self, pictures):
        return pictures.float().mean((2, 3))


def test_equals_torchmetrics():
    """Reference: torchmetrics.image.fid.FrechetInceptionDistance with an injected network."""
    theirs = FrechetInceptionDistance(MeanColour())
    features = []
    for real, high in ((True, 256), (False, 200)):
        pictures = torch.randint(0, high, (50, 3, 5, 5), dtype=torch.uint8)
        theirs.update(pictures, real=real)
        features.append(MeanColour()(pictures))
    assert frechet_distance(*features).distance == pytest.approx(float(theirs.compute()), rel=1e-4)


@settings(max_examples=20)
@given(st.integers(2, 40), st.integers(1, 8), st.integers(0, 99))
def test_identical_sets_have_none_and_a_shift_has_its_square(rows, width, seed):
    features = torch.from_numpy(mixed(rows, width, seed=seed))
    assert frechet_distance(features, features).distance == pytest.approx(0, abs=1e-8)
    moved = frechet_distance(features, features + 3)
    assert moved.distance == pytest.approx(9 * width, rel=1e-6)


def test_moments_of_parts_are_those_of_the_whole_whether_or_not_covariances_are_singular():
    for rows in (6, 60):
        first = torch.from_numpy(mixed(rows, 10, seed=3, shift=50))
        second = torch.from_numpy(mixed(rows, 10, seed=4))
        whole = frechet_distance(first, second)
        part = Moments.of(first[5:], second[:4])
        both = Moments.of(first[:5], second[4:]) + part
        assert both.distance().distance == pytest.approx(whole.distance, rel=1e-5)
        assert both.distance().rows == whole.rows
        rest = both - part
        assert rest.rows.tolist() == [5, rows - 4]
        torch.testing.assert_close(rest.products, Moments.of(first[:5], second[4:]).products)


def test_what_has_no_distance_is_refused():
    rows = torch.randn(5, 4)
    with pytest.raises(MetricError, match="one video has no spread"):
        frechet_distance(rows, rows[:1])
    with pytest.raises(MetricError, match=r"shapes \(5, 4\) and \(5, 3\)"):
        frechet_distance(rows, rows[:, :3])
    broken = rows.clone()
    broken[2, 1] = torch.nan
    with pytest.raises(MetricError, match="NaN or infinity in 1 of 5 rows"):
        frechet_distance(rows, broken)
    with pytest.raises(MetricError, match="1 of 5 rows"):
        Moments.of(broken, rows)
    with pytest.raises(MetricError, match="got 5 and 1"):
        Moments.of(rows, rows[:1]).distance()
