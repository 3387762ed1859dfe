"""Independent reference: the authors' formula written with numpy, frame by frame."""

import numpy as np
import pytest
import torch

from loopy.errors import MetricError
from loopy.metrics.sync_scores import scores_of, sync_scores


def by_numpy(pictures, sound, reach=15):
    """Distances of each frame at each shift; zeros stand outside of the sound."""
    distances = np.zeros((len(pictures), 2 * reach + 1))
    for frame in range(len(pictures)):
        for shift in range(-reach, reach + 1):
            heard = np.zeros_like(sound[0])
            if 0 <= frame + shift < len(sound):
                heard = sound[frame + shift]
            difference = pictures[frame] - heard + 1e-6  # as torch's pairwise_distance has it
            distances[frame, shift + reach] = np.sqrt((difference**2).sum())
    means = distances.mean(0)
    return np.median(means) - means.min(), means.min(), reach - int(means.argmin())


def test_equals_the_formula():
    """Reference: `by_numpy`."""
    pictures, sound = np.random.default_rng(0).normal(size=(2, 40, 6))
    ours = sync_scores(torch.from_numpy(pictures), torch.from_numpy(sound))
    assert ours == pytest.approx(by_numpy(pictures, sound))


@pytest.mark.parametrize("late", [-7, 0, 3, 15])
def test_sound_that_comes_late_by_k_has_offset_minus_k(late):
    said = torch.randn(120, 32)
    scores = sync_scores(said, said.roll(late, 0))
    assert scores.offset == -late
    assert scores.confidence > 3


def test_unrelated_sound_has_no_confidence():
    scores = sync_scores(torch.randn(400, 64), torch.randn(400, 64))
    assert scores.confidence < 0.2
    assert scores.distance > 10


def test_stillness_is_rewarded():
    """The trap of the tables: the same lips with a moving head have less confidence."""
    said = torch.randn(200, 32)
    head = torch.randn(200, 32)
    confidences = [sync_scores(said + k * head, said).confidence for k in (0.0, 0.5, 1.0, 2.0)]
    assert confidences == sorted(confidences, reverse=True)
    assert confidences[-1] < confidences[0] / 2


def test_bad_input_is_named():
    rows = torch.randn(40, 8)
    with pytest.raises(MetricError, match="equal shapes"):
        sync_scores(rows, rows[:30])
    with pytest.raises(MetricError, match="too short for shifts of 15"):
        sync_scores(rows[:15], rows[:15])
    with pytest.raises(MetricError, match="of sound hold NaN"):
        sync_scores(rows, rows.log())


@pytest.mark.parametrize("windows", [1, 14, 15])
def test_windows_that_do_not_reach_the_largest_offset_are_refused(windows):
    with pytest.raises(MetricError, match=f"{windows} windows are too few"):
        scores_of(torch.randn(windows, 64), torch.randn(windows, 64))
    assert scores_of(torch.randn(16, 64), torch.randn(16, 64)).distance > 0
