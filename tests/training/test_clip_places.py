"""Where in a clip a sample is taken, and what weighs more in it."""

from dataclasses import replace

import pytest
import torch

from loopy.data.store.description import StoreDescription, create_store
from loopy.data.store.index_build import build_index
from loopy.data.store.shot_store import ShotStore
from loopy.data.store.shots import write_shot
from loopy.segments import SegmentLayout
from loopy.training.store_clips import ClipSampler, WindowOptions

FRAMES = 3
LAYOUT = SegmentLayout(stride=2, segments=2)

PLACES = {"eyes": (slice(36, 48), (3.0, 5.0)), "mouth": (slice(48, 68), (9.0, 11.0))}
"""Points of each part, and the middle they lie around in frame 0, in pixels of 16."""
UNKNOWN = 7
"""A frame in which the tracker lost a corner of the mouth."""


@pytest.fixture
def talking(make_record, tmp_path):
    """Clips of a head that drifts to the right, and their mirrored latents."""
    create_store(tmp_path / "s", StoreDescription(16, (4, 8, 8), (3, 8), mirrored=True))
    for name in ("1", "2"):
        record = make_record(name)
        points, valid = record.motion.points.clone(), record.motion.valid.clone()
        drift = 0.2 * torch.arange(len(points))[:, None, None] * torch.tensor([1.0, 0.0])
        for part, middle in PLACES.values():
            around = torch.rand(points[:, part].shape) * 2 - 1
            points[:, part] = torch.tensor(middle) + around + drift
        valid[UNKNOWN, 60] = False
        motion = replace(record.motion, points=points, valid=valid)
        numbered = torch.arange(1.0, len(points) + 1)[:, None, None, None].expand(-1, 4, 8, 8)
        write_shot(
            tmp_path / "s",
            replace(record, motion=motion, latents=numbered, latents_mirrored=-numbered),
        )
    build_index(tmp_path / "s", validation=0, test=0)
    return ShotStore.open(tmp_path / "s")


@pytest.mark.parametrize("weights", [{"mouth": 3.0}, {"eyes": 2.0}, {"mouth": 3.0, "eyes": 2.0}])
@pytest.mark.parametrize("mirror", [0.0, 1.0])
def test_mouth_and_eyes_weigh_more(talking, weights, mirror):
    given = {"mouth_weight": weights.get("mouth", 1.0), "eye_weight": weights.get("eyes", 1.0)}
    windows = WindowOptions(layout=LAYOUT, clip_frames=FRAMES, mirror=mirror, **given)
    source = ClipSampler(talking, 2, windows)
    seen = set()
    for number in range(10):
        clip = source.batch("training", number, 0, 1)
        rows = [int(row) for row in source.rows]
        shown = clip.latents[..., 0, 0, 0]
        assert (shown < 0).all() == bool(mirror)
        for one, weight in zip(shown.abs().int() - 1, clip.weight, strict=True):
            first = int(one[0])
            seen |= set(one.tolist())
            # both clips have the same numbers: the weight is that of one of them
            assert any(
                torch.equal(weight, expected_weight(talking, row, first, weights, mirror))
                for row in rows
            )
    assert UNKNOWN in seen


def expected_weight(store, row, first, weights, mirror):
    """Cell by cell: within half a cell of the box around the points, in the picture's units."""
    frames = slice(first, first + FRAMES)
    read = store.read(row, {"points": frames, "valid": frames})
    weight = torch.ones(FRAMES, 1, 8, 8)
    for name, extra in weights.items():
        part, _ = PLACES[name]
        for frame in range(FRAMES):
            points = read["points"][frame, part].clone()
            if not read["valid"][frame, part].all():
                continue
            if mirror:
                points[:, 0] = 16 - points[:, 0]
            left, top = (points.amin(0) / 2 - 0.5).tolist()
            right, bottom = (points.amax(0) / 2 + 0.5).tolist()
            for y in range(8):
                for x in range(8):
                    inside = left <= x + 0.5 <= right and top <= y + 0.5 <= bottom
                    weight[frame, 0, y, x] += (extra - 1) * inside
    return weight


@pytest.mark.parametrize("static_history", [False, True])
def test_without_a_past_frames_come_from_all_over_a_video(talking, static_history):
    """With one too, where the videos are shorter than it."""

    def draws(**options):
        windows = WindowOptions(clip_frames=FRAMES, static_history=static_history, **options)
        source = ClipSampler(talking, 2, windows)
        clips = [source.batch("training", number, 0, 1) for number in range(60)]
        return source, clips, torch.cat([clip.latents[:, 0, 0, 0, 0] for clip in clips])

    source, clips, starts = draws(past=False)
    assert starts.median() == pytest.approx(9.5, abs=3)  # of 1 to 18
    assert starts.unique().tolist() == list(range(1, 19))
    assert not any(clip.past_present.any() or clip.motion_frames.any() for clip in clips)
    told, clips, starts = draws()
    assert starts.median() == pytest.approx(9.5, abs=3)
    assert any(clip.past_present.any() for clip in clips)
    assert source.data_signature()["layout"] != told.data_signature()["layout"]
