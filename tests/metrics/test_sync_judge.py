"""Lip sync of toon videos as a metric; what it says of videos: tests/evaluation/test_sync_judge."""

import pytest
import torch

from loopy.errors import MetricError
from loopy.metrics.sync_judge import scores_of


@pytest.mark.parametrize("windows", [1, 14, 15])
def test_windows_that_do_not_reach_the_largest_offset_are_refused(windows):
    with pytest.raises(MetricError, match=f"{windows} windows are too few"):
        scores_of(torch.randn(windows, 64), torch.randn(windows, 64))
    assert scores_of(torch.randn(16, 64), torch.randn(16, 64)).distance > 0
