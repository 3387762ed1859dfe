"""Independent reference: numpy, loss by loss."""

import pytest
import torch

from loopy.errors import MetricError
from loopy.metrics.sensitivity import growth


def test_equals_numpy():
    """Reference: numpy."""
    own, swapped = torch.rand(9) + 0.1, torch.rand(9) + 0.1
    expected = (swapped.numpy() - own.numpy()) / own.numpy()
    assert growth(own, swapped).numpy() == pytest.approx(expected, abs=1e-5)


def test_a_model_that_does_not_listen_has_none():
    losses = torch.rand(5) + 0.1
    assert growth(losses, losses).tolist() == [0] * 5
    assert growth(losses, 2 * losses).tolist() == pytest.approx([1] * 5)


def test_bad_input_is_named():
    losses = torch.ones(3)
    with pytest.raises(MetricError, match="losses of the same samples"):
        growth(losses, losses[:2])
    with pytest.raises(MetricError, match="loss of 0"):
        growth(losses * 0, losses)
    with pytest.raises(MetricError, match="the other condition hold NaN"):
        growth(losses, losses * torch.nan)
