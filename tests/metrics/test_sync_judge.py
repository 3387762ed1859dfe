"""Lip sync of toon videos as a metric."""

import pytest
import torch

from loopy.errors import MetricError
from loopy.evaluation.toon.talks import held_out_talk, pixels
from loopy.metrics.sync_judge import FEWEST_FRAMES, load_judge, scores_of, toon_sync

FRAMES = 75


@pytest.fixture(scope="module")
def talk():
    return held_out_talk(8, 1, seconds=FRAMES / 25)


@pytest.fixture(scope="module")
def frames(talk):
    return pixels(talk.frames(range(FRAMES)))


def test_a_talk_is_in_step_and_of_any_size(talk, frames):
    own = toon_sync(*load_judge(), frames, talk.audio)
    assert own.offset == 0
    assert own.confidence > 0.3
    large = pixels(talk.frames(range(FRAMES), size_px=192))
    assert toon_sync(*load_judge(), large, talk.audio).confidence == pytest.approx(
        own.confidence, abs=0.05
    )


def test_what_is_longer_is_cut(talk, frames):
    judge = load_judge()
    expected = toon_sync(*judge, frames[:60], talk.audio)
    assert expected.offset == 0
    assert expected.distance == pytest.approx(
        toon_sync(*judge, frames[:60], talk.audio[: 62 * 640]).distance, abs=0.05
    )
    assert toon_sync(*judge, frames, talk.audio[: 60 * 640]).offset == 0


def test_too_short_a_video_is_refused(talk, frames):
    with pytest.raises(MetricError, match=f"34 frames .* give {FEWEST_FRAMES} or more"):
        toon_sync(*load_judge(), frames[:34], talk.audio)
    assert toon_sync(*load_judge(), frames[:35], talk.audio).distance > 0


@pytest.mark.parametrize("windows", [1, 14, 15])
def test_windows_that_do_not_reach_the_largest_offset_are_refused(windows):
    with pytest.raises(MetricError, match=f"{windows} windows are too few"):
        scores_of(torch.randn(windows, 64), torch.randn(windows, 64))
    assert scores_of(torch.randn(16, 64), torch.randn(16, 64)).distance > 0


def test_sound_that_is_late_has_its_offset(talk, frames):
    late = torch.cat([torch.zeros(5 * 640), talk.audio])[: 640 * FRAMES]
    assert toon_sync(*load_judge(), frames, late).offset == -5
