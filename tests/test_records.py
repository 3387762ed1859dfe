"""The records that pass between the networks."""

import pytest
import torch

from loopy.errors import ConfigurationError
from loopy.records import BranchLayout, Clip, ConditionMask


def test_a_clip_moves_as_a_whole(make_clip):
    clip = make_clip(3, weight=torch.ones(3, 3, 1, 8, 8))
    assert len(clip) == 3
    moved = clip.to("meta")
    assert all(
        value.device.type == "meta" for value in vars(moved).values() if torch.is_tensor(value)
    )
    assert make_clip().to("meta").weight is None


@pytest.mark.parametrize("weight", [None, torch.rand(3, 3, 1, 8, 8)])
def test_rows_of_clips_go_apart_and_together(make_clip, weight):
    clip = make_clip(3, weight=weight)
    for rows in (slice(1, 3), torch.tensor([2, 0, 2])):
        some = clip.rows(rows)
        assert all(
            torch.equal(v, vars(clip)[n][rows]) for n, v in vars(some).items() if torch.is_tensor(v)
        )
        assert (some.weight is None) == (weight is None)
    together = Clip.cat([clip.rows(slice(1)), clip.rows(slice(1, None))])
    tensors = {n: v for n, v in vars(together).items() if torch.is_tensor(v)}
    assert all(torch.equal(v, vars(clip)[n]) for n, v in tensors.items())


def test_a_network_sees_its_own_precision(make_clip):
    clip = make_clip()
    kinds = {
        name
        for name, v in vars(clip.inputs_as(torch.bfloat16)).items()
        if torch.is_tensor(v) and v.dtype == torch.bfloat16
    }
    assert kinds == {"reference", "motion_frames", "audio"}


def test_presence_has_a_null_form():
    for fields, expected in ((ConditionMask.all(2), True), (ConditionMask.none(2), False)):
        assert all(value.tolist() == [expected] * 2 for value in vars(fields).values())


@pytest.mark.parametrize("counts", [(0, 0, 0), (1, 2, 1), (1, 1, 2), (2, -1, 1), (2, 1, -1)])
def test_impossible_branches_are_refused(counts):
    with pytest.raises(ConfigurationError, match="total"):
        BranchLayout(*counts)


def test_branches_see_the_past_with_the_reference_unless_told_otherwise():
    assert BranchLayout(3, 2, 1).seeing_past == 2
    assert BranchLayout(3, 2, 1, past=3).seeing_past == 3
