"""The towers of the sync judge, and the distances that scores are taken from."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from loopy.models.sync import (
    LARGEST_OFFSET,
    MOUTH,
    WINDOW,
    SyncJudge,
    mouths_of,
    offset_distances,
    upright,
)
from loopy.randomness import generator

FRAMES = 12
TOWERS = {
    "sound": (5, 160),
    "pictures": (3, 30, 40),
    "landmarks": (25, 2),
    "latents": (8, 8, 10),
}


def unit_vectors(n, *, seed=0, width=8):
    return functional.normalize(torch.randn(n, width, generator=generator(seed, "unit")), dim=1)


def face(frames=6, *, seed=0):
    return 60 * torch.rand(frames, 68, 2, generator=generator(seed, "face"))


@pytest.mark.parametrize(("tower", "shape"), TOWERS.items())
def test_a_window_is_five_frames_and_a_unit_vector(tower, shape):
    looks = getattr(SyncJudge().eval(), tower)
    seen = torch.randn(2, FRAMES, *shape, requires_grad=True)
    vectors = looks(seen)
    assert vectors.shape[:2] == (2, FRAMES - WINDOW + 1)
    torch.testing.assert_close(vectors.norm(dim=-1), torch.ones(2, FRAMES - WINDOW + 1))
    (to_look,) = torch.autograd.grad(vectors[1, 3, 0], seen)
    assert to_look.flatten(2).any(-1).nonzero().tolist() == [[1, f] for f in range(3, 8)]


@pytest.mark.parametrize("late", [-LARGEST_OFFSET, -4, 0, 7, LARGEST_OFFSET])
def test_the_least_distance_is_where_sound_and_mouth_meet(late):
    moments = unit_vectors(80)
    sound = moments[20 - late : 60 - late]  # what is seen at i is heard at i + late
    distances = offset_distances(sound, moments[20:60])
    assert distances.argmin() - LARGEST_OFFSET == late
    assert distances.min() == pytest.approx(0, abs=1e-3)


def test_distances_are_means_over_the_windows_that_have_a_partner():
    sound, mouth = unit_vectors(20, seed=1), unit_vectors(20, seed=2)
    mouth[4] = torch.nan
    expected = []
    for late in range(-LARGEST_OFFSET, LARGEST_OFFSET + 1):
        pairs = [(i + late, i) for i in range(20) if 0 <= i + late < 20 and i != 4]
        expected.append(sum(math.dist(sound[a], mouth[b]) for a, b in pairs) / len(pairs))
    torch.testing.assert_close(offset_distances(sound, mouth), torch.tensor(expected))


def test_no_offset_is_preferred_where_nothing_meets():
    sound, mouth = torch.eye(2)[[0] * 20], torch.eye(2)[[1] * 20]
    torch.testing.assert_close(offset_distances(sound, mouth), torch.full((31,), 2**0.5))


@given(
    turn=st.floats(-1, 1), size=st.floats(0.2, 5), right=st.floats(-99, 99), down=st.floats(-99, 99)
)
def test_lips_are_the_same_wherever_the_face_is(turn, size, right, down):
    points = face().double()
    cos, sin = math.cos(turn), math.sin(turn)
    turned = points @ torch.tensor([[cos, sin], [-sin, cos]]).double()
    moved = size * turned + torch.tensor([right, down])
    torch.testing.assert_close(upright(moved), upright(points), atol=1e-5, rtol=1e-4)


def test_a_missing_point_blinds_its_own_windows_alone():
    judge, points = SyncJudge().eval(), face(FRAMES)
    points[9, 50] = torch.nan
    unknown = judge.embed_points(points).isnan().any(1)
    assert unknown.tolist() == [False] * 5 + [True] * 3


def test_a_video_may_be_watched_in_parts_and_only_its_mouth_counts():
    judge = SyncJudge().eval()
    frames = (255 * torch.rand(FRAMES, 128, 128, 3)).to(torch.uint8)
    whole = judge.embed_frames([frames])
    torch.testing.assert_close(judge.embed_frames(frames.split(5)), whole, atol=1e-5, rtol=1e-4)
    rows, columns = (slice(2 * each.start, 2 * each.stop) for each in MOUTH)
    elsewhere = 255 - frames
    elsewhere[:, rows, columns] = frames[:, rows, columns]
    torch.testing.assert_close(judge.embed_frames([elsewhere]), whole)
    mouth = torch.zeros(1, 3, 128, 128)
    mouth[:, :, rows, columns] = 1
    assert mouths_of(mouth).eq(1).all()


def test_the_judge_of_the_package_is_small():
    assert sum(value.numel() for value in SyncJudge().state_dict().values()) * 2 <= 1_000_000
    assert (SyncJudge.home() / "sync.safetensors").stat().st_size <= 1_000_000
