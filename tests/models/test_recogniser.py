import json

import pytest
import torch
from torch.nn import functional

from loopy.evaluation.toon.talks import SHARED, gallery, look_alikes, nearest_is_own
from loopy.models.recogniser import CROP, Recogniser
from loopy.randomness import generator
from loopy.synthetic.face import CONTROLS, random_identities, render
from loopy.synthetic.talker import random_talk
from tools.judges.practice import Pool, states, talk_controls
from tools.judges.train_recogniser import (
    accuracy,
    draw_group,
    person_contrast,
    train_and_save,
    train_recogniser,
)


@pytest.fixture(scope="module")
def recogniser():
    return Recogniser.from_pretrained()


def to_frames(pictures):
    return ((pictures + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1)


def test_frames_of_talks_are_nearest_to_their_own(recogniser):
    measured = accuracy(recogniser, talks=4, every=10, seed=99)
    assert measured["clean"]["share"] >= 0.97
    assert Recogniser.card()["accuracy"]["clean"]["share"] >= 0.98


def test_a_stranger_is_not_taken_for_the_own(recogniser):
    talk, draw = random_talk(21, seconds=1), generator(3)
    people = gallery(recogniser, talk.identity, draw)
    others = look_alikes(talk.identity, 8, generator(4))
    frames = to_frames(render(others, talk.controls[:8]))
    assert nearest_is_own(recogniser.embed(frames), people).float().mean() <= 0.25


def test_embeddings_are_unit_vectors_frame_by_frame_at_any_size(recogniser):
    talk = random_talk(22, seconds=2)
    frames = to_frames(talk.frames(range(40)))
    together = recogniser.embed(frames)
    assert together.shape == (40, Recogniser.width)
    torch.testing.assert_close(together.norm(dim=1), torch.ones(40))
    alone = torch.cat([recogniser.embed(frame[None]) for frame in frames])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-3)
    large = recogniser.embed(to_frames(talk.frames(range(8), size_px=192)))
    assert (large * together[:8]).sum(1).min() > 0.9


def test_only_the_crop_is_seen(recogniser):
    pictures = random_talk(23, seconds=1).frames([0, 5])
    rows, columns = CROP
    other = torch.rand(pictures.shape, generator=generator(8)) * 2 - 1
    other[:, :, rows, columns] = pictures[:, :, rows, columns]
    torch.testing.assert_close(recogniser(pictures), recogniser(other))


def test_every_parameter_learns():
    recogniser = Recogniser()
    vectors = recogniser(torch.rand(6, 3, 128, 128, generator=generator(2)))
    person_contrast(vectors[None], states=2).backward()
    assert all(weight.grad is not None for weight in recogniser.parameters())
    assert all(weight.grad.abs().sum() > 0 for weight in recogniser.parameters())


def test_look_alikes_share_the_picture_and_not_the_face():
    who = random_identities(1, generator(5))
    others = look_alikes(who, 6, generator(6))
    assert len(others) == 6
    for name in SHARED:
        assert torch.equal(getattr(others, name), getattr(who.expand(6), name))
    for name in ("head", "eyes", "iris", "brows", "mouth", "hair_colour"):
        assert len(getattr(others, name).unique(dim=0)) == 6
    pictures = render(others, torch.zeros(6, len(CONTROLS)))
    corner = pictures[:, :, :12, :12]
    assert torch.equal(corner, corner[:1].expand_as(corner))
    assert not torch.equal(pictures[0], pictures[1])


def test_gallery_holds_the_person_first():
    recogniser, who = Recogniser().eval(), random_identities(1, generator(7))
    people = gallery(recogniser, who, generator(8), people=5)
    again = gallery(recogniser, who, generator(9), people=5)
    assert people.shape == (5, Recogniser.width)
    torch.testing.assert_close(people.norm(dim=1), torch.ones(5))
    assert torch.equal(people[0], again[0])
    assert not torch.allclose(people[1:], again[1:])
    assert nearest_is_own(people, people).tolist() == [True, False, False, False, False]
    assert nearest_is_own(people, people, own=2).tolist() == [False, False, True, False, False]


def test_contrast_falls_when_the_states_of_one_person_agree():
    draw = generator(10)
    people = functional.normalize(torch.randn(2, 4, 16, generator=draw), dim=-1)
    right = people.repeat_interleave(3, dim=1)
    wrong = people.repeat(1, 3, 1)
    assert person_contrast(right, states=3) < person_contrast(wrong, states=3)
    alone = torch.stack([person_contrast(group[None], states=3) for group in right])
    assert person_contrast(right, states=3) == pytest.approx(alone.mean().item(), rel=1e-5)


def test_groups_and_states_are_functions_of_the_generator():
    talks = talk_controls(0, talks=2, seconds=1)
    assert torch.equal(draw_group(talks, generator(1)), draw_group(talks, generator(1)))
    drawn = states(64, 4, talks, generator(2))
    spoken = (drawn[:, :, None] == talks.flatten(0, 1)).all(-1).any(-1)
    assert torch.equal(spoken.all(1), spoken.any(1))
    assert 10 < spoken.all(1).sum() < 54


def test_pool_mirrors_pictures_together_with_their_truth():
    draw, pool = generator(3), Pool(4)
    ramp = torch.linspace(-1, 1, 5).expand(2, 3, 3, 5, 5)
    truth = torch.tensor([1.0, 2.0]).expand(2, 3, 2)
    pictures, values = pool.batch(ramp, truth, torch.tensor([-1.0, 1.0]), draw)
    assert len(pictures) == len(values) == 10
    turned = pictures[:, 0, 0, 0, 0] > pictures[:, 0, 0, 0, -1]
    assert 0 < turned.sum() < 10
    assert torch.equal(turned, values[:, 0, 0] < 0)
    assert torch.equal(values[..., 1], torch.full((10, 3), 2.0))
    torch.testing.assert_close(pictures[~turned][0], ramp[0], atol=1 / 127, rtol=0)


def test_training_is_a_function_of_its_seed():
    first, again = (train_recogniser(steps=1) for _ in range(2))
    assert torch.equal(first.read.weight, again.read.weight)


def test_training_writes_weights_and_card(tmp_path, capsys):
    train_and_save(out=tmp_path, steps=1, talks=1)
    assert Recogniser.from_pretrained(tmp_path)
    card = json.loads((tmp_path / "recogniser.json").read_text())
    assert set(card["accuracy"]) == {"clean", "blurred", "corrupted"}
    assert "share" in capsys.readouterr().out
