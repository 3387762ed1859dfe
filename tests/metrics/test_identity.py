"""Independent references: scipy's cosine distance and torchmetrics' CosineSimilarity."""

import pytest
import torch
from scipy.spatial.distance import cosine
from torchmetrics.regression import CosineSimilarity

from loopy.errors import MetricError
from loopy.metrics.identity import identity_similarity


def test_equals_scipy_and_torchmetrics():
    """References: scipy.spatial.distance.cosine, torchmetrics.regression.CosineSimilarity."""
    frames, portrait = torch.randn(6, 16), torch.randn(16)
    expected = [1 - cosine(frame, portrait) for frame in frames.double()]
    assert identity_similarity(frames, portrait) == pytest.approx(sum(expected) / 6, abs=1e-5)
    theirs = CosineSimilarity(reduction="mean")(frames, portrait.expand(6, -1))
    assert identity_similarity(frames, portrait) == pytest.approx(float(theirs), abs=1e-5)


def test_the_same_face_has_one_at_any_length_and_its_opposite_minus_one():
    portrait = torch.randn(8)
    assert identity_similarity(portrait * torch.rand(5, 1) * 9, portrait) == pytest.approx(1)
    assert identity_similarity(-portrait[None], portrait) == pytest.approx(-1)


def test_bad_input_is_named():
    faces = torch.randn(3, 4)
    with pytest.raises(MetricError, match=r"got \(3, 4\) and \(5,\)"):
        identity_similarity(faces, torch.randn(5))
    with pytest.raises(MetricError, match=r"got \(0, 4\)"):
        identity_similarity(faces[:0], torch.randn(4))
    with pytest.raises(MetricError, match="was no face found"):
        identity_similarity(torch.cat([faces, torch.zeros(1, 4)]), torch.randn(4))
    with pytest.raises(MetricError, match="1 of 3 rows"):
        identity_similarity(faces / torch.tensor([[1.0], [0.0], [1.0]]), torch.randn(4))
