from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from loopy.evaluation.toon.steadiness import (
    always_background,
    differences,
    face_box,
    rigid_differences,
)
from loopy.randomness import generator
from loopy.synthetic.face import CONTROLS
from loopy.synthetic.talker import random_talk

SIDE = 64


@pytest.fixture(scope="module")
def talk():
    return random_talk(3, seconds=2, kind="silence")


@pytest.fixture(scope="module")
def wall(talk):
    return always_background(talk.identity, talk.controls, size_px=SIDE)


def smooth_pictures(n=3, seed=0):
    noise = torch.randn(n, 3, 12, 12, generator=generator(seed))
    return 127 + 60 * functional.interpolate(noise, (SIDE, SIDE), mode="bicubic")


def moved(pictures, right_px, down_px, angle):
    cos, sin = torch.tensor(angle).cos(), torch.tensor(angle).sin()
    shift = torch.tensor([right_px, down_px]) * 2 / SIDE
    theta = torch.stack([torch.stack([cos, -sin, shift[0]]), torch.stack([sin, cos, shift[1]])])
    grid = functional.affine_grid(
        theta.expand(len(pictures), 2, 3), list(pictures.shape), align_corners=False
    )
    return functional.grid_sample(pictures, grid, mode="bicubic", align_corners=False)


def test_background_is_there_and_never_moves(talk, wall):
    assert 0.05 < wall.float().mean() < 0.5
    assert not wall[SIDE // 2, SIDE // 2]
    frames = talk.frames(range(len(talk.controls)), size_px=SIDE)
    assert float((frames - frames[:1]).abs().amax((0, 1))[wall].max()) < 1e-5


def test_background_keeps_its_distance(talk, wall):
    farthest = talk.controls.clone()
    farthest[:, CONTROLS.index("shift_x")] += 0.02  # 1.3 px: within the 4 px of 64 eroded
    frames = talk.frames(range(1), size_px=SIDE)
    there = replace(talk, controls=farthest).frames(range(1), size_px=SIDE)
    assert float((there - frames).abs().amax((0, 1))[wall].max()) < 1e-5


def test_the_range_of_the_head_takes_background_away(talk, wall):
    wild = talk.controls.clone()
    wild[::2, CONTROLS.index("shift_x")] = 0.1
    less = always_background(talk.identity, wild, size_px=SIDE)
    assert less.sum() < wall.sum()


def test_a_flicker_of_two_reads_two():
    where = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    where[:10] = True
    still = torch.full((4, 3, SIDE, SIDE), 100.0)
    flicker = still + 2 * torch.tensor([1.0, -1, 1, -1])[:, None, None, None]
    elsewhere = still.clone()
    elsewhere[:, :, 20:] += 50
    assert differences(still, flicker, where).tolist() == [2, 2, 2, 2]
    assert differences(still, elsewhere, where).tolist() == [0, 0, 0, 0]
    assert differences(still, flicker, where & False).isnan().all()


@pytest.mark.parametrize(
    ("right", "down", "angle"), [(1.3, -0.7, 0.0), (0.0, 0.0, 0.04), (-1.0, 1.5, -0.03)]
)
def test_shift_and_rotation_are_undone(right, down, angle):
    where = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    where[12:52, 12:52] = True
    pictures = smooth_pictures()
    after = moved(pictures, right, down, angle)
    left = rigid_differences(pictures, after, where)
    assert (left < 0.1 * differences(pictures, after, where)).all()


def test_what_changes_in_place_is_left():
    where = torch.ones(SIDE, SIDE, dtype=torch.bool)
    pictures, other = smooth_pictures(), smooth_pictures(seed=1)
    boiling = pictures + 0.1 * (other - 127)
    left = rigid_differences(pictures, boiling, where)
    before = differences(pictures, boiling, where)
    assert (left <= before).all()
    assert (left > 0.6 * before).all()
    assert (rigid_differences(pictures, pictures, where) < 1e-3).all()
    flat = torch.full_like(pictures, 90)  # no slope anywhere: nothing to solve
    assert rigid_differences(flat, flat + 3, where).tolist() == pytest.approx([3, 3, 3], abs=1e-3)


def test_the_box_holds_the_face(talk):
    box = face_box(talk.identity, torch.zeros(1, len(CONTROLS)), size_px=SIDE)
    assert box[SIDE // 2, SIDE // 2]
    assert 0.1 < box.float().mean() < 0.6
    assert not box[0].any()
