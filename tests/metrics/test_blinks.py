"""Independent references: scipy.ndimage.label for closures, the ratio of an ellipse's axes."""

import numpy as np
import pytest
import scipy.ndimage
import torch
from hypothesis import given
from hypothesis import strategies as st

from loopy.errors import MetricError
from loopy.metrics.blinks import blink_rate, blinks, eye_openness
from loopy.motion import MotionSequence
from loopy.synthetic.face import CONTROLS, landmarks, random_identities

OPEN, SHUT = 0.3, 0.05


def toon(blink):
    """Tracks of a toon whose lids do as told; 0 is open."""
    controls = torch.zeros(len(blink), len(CONTROLS))
    controls[:, CONTROLS.index("blink")] = torch.as_tensor(blink, dtype=torch.float32)
    who = random_identities(1, torch.Generator().manual_seed(3)).expand(len(blink))
    points, valid = landmarks(who, controls, size_px=512)
    return MotionSequence(points, torch.zeros(len(blink), 3), valid, 512)


@given(st.lists(st.booleans(), min_size=20, max_size=80))
def test_closures_equal_scipys_labels(shut):
    """Reference: scipy.ndimage.label, where no frame lies between shut and open."""
    shut = [False] * 40 + shut  # mostly open, as eyes are
    openness = torch.where(torch.tensor(shut), SHUT, OPEN)
    labels, count = scipy.ndimage.label(shut)
    found = blinks(openness)
    assert len(found) == count
    spans = [(s.start, s.stop) for (s,) in scipy.ndimage.find_objects(labels)]
    assert found == spans


def test_the_ratio_is_that_of_the_lids():
    """Reference: height over width of six points on an ellipse, by hand."""
    motion = toon([0.0])
    points = motion.points.numpy()[0]
    ratios = []
    for eye in (range(36, 42), range(42, 48)):
        a, b, c, d, e, f = (points[i] for i in eye)
        height = (np.linalg.norm(b - f) + np.linalg.norm(c - e)) / 2
        ratios.append(height / np.linalg.norm(a - d))
    assert float(eye_openness(motion)[0]) == pytest.approx(np.mean(ratios), rel=1e-5)


def test_blinks_of_a_toon_are_counted():
    blink = np.zeros(250)
    for start in (20, 90, 200):
        blink[start : start + 5] = [0.5, 1, 1, 0.7, 0.3]
    assert len(blinks(eye_openness(toon(blink)))) == 3
    assert blink_rate(eye_openness(toon(blink))) == pytest.approx(3 / 10 * 60)
    assert blink_rate(eye_openness(toon(np.zeros(250)))) == 0


def test_half_shut_lids_and_lost_frames_are_no_blinks():
    openness = torch.full((100,), OPEN)
    openness[40:45] = 0.6 * OPEN
    openness[60:70] = torch.nan
    assert blinks(openness) == []
    openness[55:75] = torch.tensor([SHUT] * 5 + [torch.nan] * 10 + [SHUT] * 5)
    assert blinks(openness) == [(55, 75)]  # one, though nobody saw its middle


def test_frames_without_eyes_are_no_time():
    """Reference: 2 blinks in the 4 s of 8 s in which the eyes are seen are 30 a minute."""
    openness = torch.full((200,), OPEN)
    openness[[20, 60]] = SHUT
    openness[100:] = torch.nan
    assert blink_rate(openness) == pytest.approx(30)


def test_bad_input_is_named():
    with pytest.raises(MetricError, match="found in 0 of 50 frames"):
        blinks(torch.full((50,), torch.nan))
    with pytest.raises(MetricError, match="found in 0 of 0 frames"):
        blinks(torch.zeros(0))
    with pytest.raises(MetricError, match="never open"):
        blinks(torch.zeros(50))
