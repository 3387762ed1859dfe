import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from loopy.motion import NOSE_TIP
from loopy.preprocess.filters import CHECKS, FilterOptions, check_shot, filter_shot
from loopy.preprocess.measurements import (
    Measurements,
    Sync,
    estimate_angles,
    fill_gaps,
    measure,
)
from loopy.synthetic.talker import random_talk

GOOD = Measurements(
    frames=136,
    face_lost=0.2,
    several_people=0.05,
    outside=0.05,
    crop_px=256,
    yaw=math.pi / 4,
    roll=math.pi / 4,
    head_motion=1600,
    expression=20,
    has_sound=True,
    sync=Sync(3, -6),
)


def test_a_clip_on_every_line_passes():
    assert check_shot(GOOD) is None


@pytest.mark.parametrize(
    ("change", "name", "words"),
    [
        ({"frames": 135}, "too short", "135 frames at 25 a second, fewest 136"),
        ({"has_sound": False}, "no sound", "none"),
        ({"face_lost": 0.201}, "face lost", "in 20.1% of the frames, most 20.0%"),
        ({"several_people": 0.051}, "several people", "in 5.1%"),
        ({"outside": 0.051}, "face leaves the picture", "in 5.1%"),
        ({"crop_px": 255}, "low resolution", "255 px a side, fewest 256"),
        ({"yaw": 0.79}, "extreme rotation", "0.79 rad, most 0.79"),
        ({"yaw": math.nan}, "extreme rotation", "nan"),
        ({"head_motion": 1601}, "excessive motion", "1601 px"),
        ({"head_motion": math.nan}, "excessive motion", "nan"),
        ({"sync": Sync(2.9, 0)}, "low sync", "confidence=2.9"),
        ({"sync": Sync(9, 6.1)}, "low sync", "offset_frames=6.1"),
        ({"sync": Sync(9, -6.1)}, "low sync", "offset_frames=-6.1"),
    ],
)
def test_one_step_over_a_line_is_a_reason(change, name, words):
    reason = check_shot(replace(GOOD, **change))
    assert reason is not None
    assert reason.name == name
    assert words in reason.words


def test_lines_can_be_moved():
    wide = FilterOptions(fewest_frames=50, fewest_px=100, yaw=1, need_sound=False)
    poor = replace(GOOD, frames=50, crop_px=100, yaw=0.9, has_sound=False)
    assert check_shot(poor) is not None
    assert check_shot(poor, wide) is None


def test_the_first_reason_is_told():
    bad = replace(GOOD, frames=3, has_sound=False, face_lost=1, crop_px=1)
    names = []
    while (reason := check_shot(bad)) is not None:
        names.append(reason.name)
        bad = replace(
            bad,
            **{
                "too short": {"frames": 136},
                "no sound": {"has_sound": True},
                "face lost": {"face_lost": 0},
                "low resolution": {"crop_px": 256},
            }[reason.name],
        )
    assert names == ["too short", "no sound", "face lost", "low resolution"]
    assert len({check.name for check in CHECKS}) == len(CHECKS)


def test_lip_sync_is_judged_last_and_only_where_asked():
    asked = []

    def score():
        asked.append(1)
        return Sync(1.0, 0)

    clip = replace(GOOD, sync=None)
    assert filter_shot(clip) == (clip, None)
    measured, reason = filter_shot(replace(clip, frames=1), score_sync=score)
    assert (measured.sync, reason.name, asked) == (None, "too short", [])
    measured, reason = filter_shot(clip, score_sync=score)
    assert (measured.sync, reason.name, asked) == (Sync(1.0, 0), "low sync", [1])


@pytest.fixture(scope="module")
def face():
    """One steady frontal face, 100 px wide around (200, 200)."""
    points = 150 + 100 * torch.rand(68, 2, generator=torch.Generator().manual_seed(0))
    points[0], points[16] = torch.tensor([150.0, 190]), torch.tensor([250.0, 190])
    points[NOSE_TIP] = torch.tensor([200.0, 210])
    return points


def measured(points, *, people=None, box=(80, 80, 320, 320), size=400, has_sound=True, pose=None):
    people = torch.ones(len(points), dtype=torch.long) if people is None else people
    return measure(
        points, people, box, width_px=size, height_px=size, has_sound=has_sound, pose=pose
    )


def test_a_still_face_measures_nothing(face):
    still = measured(face.repeat(20, 1, 1))
    assert (still.frames, still.crop_px, still.has_sound) == (20, 240, True)
    assert (still.face_lost, still.several_people, still.outside) == (0, 0, 0)
    assert still.head_motion == pytest.approx(0, abs=1e-3)
    assert still.expression == pytest.approx(0, abs=1e-3)
    assert abs(still.yaw) < 0.01


def test_shares_count_frames(face):
    points = face.repeat(20, 1, 1)
    points[:3, :35] = torch.nan  # more than half of a face
    points[3:6, :34] = torch.nan  # half of it
    points[10, 40] = torch.tensor([3.9, 200.0])  # within 1 % of the edge
    points[11, 41] = torch.tensor([200.0, 401.0])
    points[12, 41] = torch.tensor([200.0, 395.9])
    people = torch.tensor([2, 3, 0, 1] + [1] * 16)
    seen = measured(points, people=people)
    assert seen.face_lost == pytest.approx(0.15)
    assert seen.outside == pytest.approx(0.1)
    assert seen.several_people == pytest.approx(0.1)


def test_motion_is_that_of_a_512_px_crop(face):
    swing = torch.tensor([-10.0, 10.0]).repeat(10)
    points = face.repeat(20, 1, 1)
    points[..., 0] += swing[:, None]
    assert measured(points).head_motion == pytest.approx((10 * 512 / 240) ** 2, rel=1e-4)
    assert measured(points).expression == pytest.approx(0, abs=1e-3)


def test_a_clip_without_a_face_is_lost_and_breaks_nothing(face):
    nobody = measured(face.repeat(20, 1, 1) * torch.nan, box=None)
    assert (nobody.face_lost, nobody.crop_px) == (1, 0)
    assert math.isnan(nobody.yaw)
    assert check_shot(replace(nobody, frames=136)).name == "face lost"


def test_one_odd_frame_is_no_rotation(face):
    pose = torch.zeros(100, 3)
    pose[7, 0] = -1.5
    assert measured(face.repeat(100, 1, 1), pose=pose).yaw < 0.01
    pose[50:60, 0] = -0.9
    assert measured(face.repeat(100, 1, 1), pose=pose).yaw == pytest.approx(0.9)


@settings(deadline=None)
@given(
    yaw=st.floats(-1.2, 1.2),
    roll=st.floats(-0.7, 0.7),
    size=st.floats(20, 400),
    x=st.floats(-500, 500),
)
def test_yaw_of_a_turned_head_in_three_dimensions(yaw, roll, size, x):
    """Jaw ends and nose tip of a head, turned, tilted and put anywhere."""
    head = torch.zeros(68, 3)
    head[0], head[16], head[NOSE_TIP] = torch.tensor([[-1, 0, 0], [1, 0, 0], [0, 0.3, 1.16]])
    turned_x = head[:, 0] * math.cos(yaw) + head[:, 2] * math.sin(yaw)
    picture = torch.stack([turned_x, head[:, 1]], 1)
    tilt = torch.tensor([[math.cos(roll), math.sin(roll)], [-math.sin(roll), math.cos(roll)]])
    points = picture @ tilt * size + x
    assert estimate_angles(points[None])[0, 0].item() == pytest.approx(yaw, abs=0.01)


def test_yaw_of_toons_follows_their_true_one():
    motion = random_talk(3, seconds=4, kind="listening").motion
    guess, truth = estimate_angles(motion.points)[:, 0], motion.pose[:, 0]
    assert torch.corrcoef(torch.stack([guess, truth]))[0, 1] > 0.9


def gap(start, stop, frames=20):
    points = torch.linspace(0, 1, frames)[:, None, None] * torch.arange(136.0).reshape(68, 2)
    broken = points.clone()
    broken[start:stop, 3] = torch.nan
    return points, broken


@pytest.mark.parametrize(
    ("start", "stop", "filled"),
    [(4, 9, True), (4, 10, False), (1, 2, True), (0, 1, False), (18, 20, False)],
)
def test_short_gaps_between_found_points_are_filled(start, stop, filled):
    points, broken = gap(start, stop)
    expected = points if filled else broken
    assert torch.allclose(fill_gaps(broken), expected, atol=1e-4, equal_nan=True)


def test_each_point_has_gaps_of_its_own():
    points, broken = gap(4, 7)
    broken[5:12, 9] = torch.nan
    filled = fill_gaps(broken)
    assert torch.allclose(filled[:, 3], points[:, 3], atol=1e-4)
    assert torch.equal(filled[:, 9].isnan(), broken[:, 9].isnan())
    assert torch.equal(fill_gaps(broken, longest=0).isnan(), broken.isnan())
    assert not fill_gaps(broken, longest=7).isnan().any()
