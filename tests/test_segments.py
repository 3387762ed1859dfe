"""The temporal segment module against a slow restatement of its rule."""

import pytest
import torch

from loopy.errors import ConfigurationError
from loopy.segments import SegmentLayout

LAYOUTS = [(s, r, n) for s in (1, 2, 4) for r in (1, 2, 3) for n in (1, 2, 3)]
PAPER = [123, 107, 91, 75, 59, 51, 43, 35, 27, 23, 19, 15, 11, 9, 7, 5, 3, 2, 1, 0]


def bins(stride, expand, segments):
    """For each slot, oldest first, the distances it stands for, counted out one by one."""
    result, distance = [], 0
    for segment in range(segments):
        for _ in range(stride):
            result.append([])
            for _ in range(expand**segment):
                result[-1].append(distance)
                distance += 1
    return result[::-1]


def numbered(length):
    """A past whose frame holds its own number, counted from 1: zero means nothing."""
    return torch.arange(1.0, length + 1)[None, :, None, None, None].expand(1, -1, 2, 1, 1)


def read(layout, length, generator=None):
    """Numbers and presence of the slots, oldest first."""
    slots, present = layout.select(numbered(length), generator)
    assert slots.shape == (1, layout.slots, 2, 1, 1)
    assert present.shape == (1, layout.slots)
    assert torch.equal(slots[:, :, 0], slots[:, :, 1])
    return slots[0, :, 0, 0, 0].tolist(), present[0].tolist()


@pytest.mark.parametrize(
    ("numbers", "past", "slots"),
    [
        ((4, 2, 5), 124, 20),
        ((1, 2, 5), 31, 5),
        ((2, 2, 5), 62, 10),
        ((4, 1, 5), 20, 20),
        ((2, 2, 6), 126, 12),
        ((1, 2, 7), 127, 7),
    ],
)
def test_the_layouts_of_the_paper(numbers, past, slots):
    layout = SegmentLayout(*numbers)
    assert (layout.past_frames, layout.slots) == (past, slots)


def test_the_default_reaches_the_whole_past():
    assert SegmentLayout().distances().tolist() == PAPER
    numbers, present = read(SegmentLayout(), 124)
    assert numbers == [124 - distance for distance in PAPER]
    assert all(present)


@pytest.mark.parametrize("mode", ["far", "middle", "near"])
@pytest.mark.parametrize("numbers", LAYOUTS)
def test_every_short_past(numbers, mode):
    place = {"far": lambda b: b[-1], "middle": lambda b: b[(len(b) - 1) // 2], "near": min}[mode]
    layout = SegmentLayout(*numbers, mode=mode)
    distances = [place(b) for b in bins(*numbers)]
    assert layout.distances().tolist() == distances
    for length in range(layout.past_frames + 3):
        expected = [max(length - distance, 0.0) for distance in distances]
        numbers_read, present = read(layout, length)
        assert numbers_read == expected
        assert present == [number > 0 for number in expected]


@pytest.mark.parametrize("clip_frames", [1, 3, 12])
@pytest.mark.parametrize("mode", ["far", "middle", "near"])
@pytest.mark.parametrize("numbers", [*LAYOUTS, (4, 2, 5)])
def test_when_a_frame_is_read_again(numbers, mode, clip_frames):
    """Against a video in which each clip notes the numbers of the frames that it reads."""
    layout = SegmentLayout(*numbers, mode=mode)
    distances, reach = layout.distances().tolist(), layout.past_frames // clip_frames + 1
    clips = [[clip * clip_frames - d for d in distances] for clip in range(2 * reach + 1)]
    told = layout.readings(clip_frames)
    for frame, (since, until) in zip(clips[reach], told, strict=True):
        reading = [clip for clip, frames in enumerate(clips) if frame in frames]
        assert (reach - reading[0], reading[-1] - reach) == (since, until)


def test_of_the_default_8_frames_are_new_and_25_are_read_again():
    readings = SegmentLayout().readings(12)
    new = [until for since, until in readings if since == 0]
    assert (len(new), sum(new)) == (8, 25)


@pytest.mark.parametrize("mode", ["mean", "random", "random_symmetric"])
def test_slots_that_are_drawn_or_averaged_are_of_one_clip(mode):
    assert SegmentLayout(mode=mode).readings(12) == [(0, 0)] * 20


@pytest.mark.parametrize("numbers", LAYOUTS)
def test_mean_averages_what_exists(numbers):
    layout = SegmentLayout(*numbers, mode="mean")
    for length in range(layout.past_frames + 3):
        numbers_read, present = read(layout, length)
        for number, there, members in zip(numbers_read, present, bins(*numbers), strict=True):
            existing = [length - distance for distance in members if distance < length]
            assert there == bool(existing)
            assert number == pytest.approx(sum(existing) / len(existing) if existing else 0.0)


@pytest.mark.parametrize("mode", ["random", "random_symmetric"])
@pytest.mark.parametrize("numbers", LAYOUTS)
def test_random_frames_stay_in_their_bins(numbers, mode):
    layout = SegmentLayout(*numbers, mode=mode)
    members = bins(*numbers)
    drawn = [set() for _ in members]
    for seed in range(60):
        distances = layout.distances(torch.Generator().manual_seed(seed)).tolist()
        for bin_drawn, distance in zip(drawn, distances, strict=True):
            bin_drawn.add(distance)
    # Nothing but the bin; and up to four frames, all of it.
    for bin_drawn, bin_members in zip(drawn, members, strict=True):
        assert bin_drawn <= set(bin_members)
        assert len(bin_members) > 4 or bin_drawn == set(bin_members)


def test_random_draws_are_of_the_generator():
    layout = SegmentLayout(mode="random")
    first, again = (layout.distances(torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(first, again)
    numbers, _ = read(layout, 124, torch.Generator().manual_seed(5))
    assert numbers == (124 - first).tolist()


def test_the_nearest_slot_draws_first():
    """Which slot gets which random number decides caches and trainings that exist."""
    shares = torch.rand(20, generator=torch.Generator().manual_seed(5))
    members = bins(4, 2, 5)[::-1]
    expected = [each[int(share * len(each))] for each, share in zip(members, shares, strict=True)]
    drawn = SegmentLayout(mode="random").distances(torch.Generator().manual_seed(5))
    assert drawn.tolist() == expected[::-1]


def offsets(mode):
    layout = SegmentLayout(mode=mode)
    starts = torch.tensor([b[0] for b in bins(4, 2, 5)])
    draws = [layout.distances(torch.Generator().manual_seed(seed)) for seed in range(20)]
    return torch.stack(draws).sub(starts).unflatten(1, (5, 4))


def test_symmetric_means_one_offset_for_each_segment():
    same = offsets("random_symmetric")
    assert (same == same[..., :1]).all()
    assert (same[:, 1] != same[:, 0] // 2).any()  # segments draw for themselves
    free = offsets("random")
    assert (free != free[..., :1]).any()


def test_slots_come_oldest_first_for_each_video():
    past = torch.randn(3, 9, 1, 2, 2)
    layout = SegmentLayout(2, 2, 3)  # distances 0 1 3 5 9 13
    slots, present = layout.select(past)
    assert present.tolist() == [[False, False, True, True, True, True]] * 3
    assert not slots[:, :2].any()
    assert torch.equal(slots[:, 2:], past[:, [3, 5, 7, 8]])


def test_only_the_newest_frames_are_read():
    past = torch.randn(1, 40, 1, 1, 1)
    for mode in ("far", "mean"):
        layout = SegmentLayout(1, 2, 5, mode=mode)
        assert torch.equal(layout.select(past)[0], layout.select(past[:, -31:])[0])


@pytest.mark.parametrize("mode", ["far", "mean"])
def test_an_empty_past(mode):
    slots, present = SegmentLayout(mode=mode).select(torch.zeros(2, 0, 4, 8, 8))
    assert slots.shape == (2, 20, 4, 8, 8)
    assert not slots.any()
    assert not present.any()


@pytest.mark.parametrize("name", ["stride", "expand", "segments"])
def test_counts_below_one_are_refused(name):
    with pytest.raises(ConfigurationError, match=f"{name} must be at least 1 and at"):
        SegmentLayout(**{name: 0})


def test_unknown_mode_is_refused():
    with pytest.raises(ConfigurationError, match="'farthest'"):
        SegmentLayout(mode="farthest")


def test_mean_has_no_distances():
    with pytest.raises(ConfigurationError, match="select"):
        SegmentLayout(mode="mean").distances()


def test_random_needs_a_generator():
    with pytest.raises(ConfigurationError, match="give it a"):
        SegmentLayout(mode="random").select(torch.zeros(1, 4, 1, 1, 1))
