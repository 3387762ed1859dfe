import pytest
import torch

from loopy.evaluation.toon.tracks import correlation
from loopy.models.tracker import MOUTH, OUTPUTS, Tracker, unread
from loopy.randomness import generator
from loopy.synthetic.face import CONTROLS
from loopy.synthetic.talker import random_talk
from tools.judges.augmentation import blur, corrupt
from tools.judges.train_tracker import (
    accuracy,
    accuracy_in_talks,
    draw_faces,
    tracking_loss,
    train_and_save,
    train_tracker,
)


@pytest.fixture(scope="module")
def tracker():
    return Tracker.from_pretrained()


def to_frames(pictures):
    return ((pictures + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1)


def test_outputs_are_controls_each_once():
    assert set(OUTPUTS) <= set(CONTROLS)
    assert len(set(OUTPUTS)) == len(OUTPUTS)


def test_tracker_follows_talks_it_never_saw(tracker):
    measured = accuracy_in_talks(tracker, talks=4, seconds=2, seed=7)
    told = Tracker.card()["talks"]
    for kind in ("clean", "blurred"):
        for name in ("open", "wide", "round", "yaw"):
            assert measured[kind][name]["median"] > told[kind][name]["median"] - 0.1
    assert measured["clean"]["open"]["median"] > 0.95


def test_card_tells_the_accuracy_that_is_measured(tracker):
    told, measured = Tracker.card()["accuracy"], accuracy(tracker, faces=256, seed=99)
    for kind in ("clean", "blurred", "corrupted"):
        assert measured[kind]["open_r"] == pytest.approx(told[kind]["open_r"], abs=0.03)
        assert measured[kind]["open_mae"] == pytest.approx(told[kind]["open_mae"], abs=0.03)


def test_mirrored_faces_turn_the_other_way(tracker):
    pictures, _ = draw_faces(48, generator(4))
    seen, mirrored = (tracker.track(to_frames(each)) for each in (pictures, pictures.flip(-1)))
    r = dict(zip(OUTPUTS, correlation(seen.T, mirrored.T).tolist(), strict=True))
    assert min(r["open"], r["pitch"], r["shift_y"]) > 0.9
    assert max(r["yaw"], r["roll"], r["shift_x"]) < -0.9


def test_size_of_the_frames_hardly_matters(tracker):
    talk = random_talk(11, seconds=2)
    small, large = (
        tracker.track(to_frames(talk.frames(range(0, 50, 2), size_px=side))) for side in (96, 256)
    )
    mouth = OUTPUTS.index("open")
    assert correlation(small[:, mouth], large[:, mouth]) > 0.95


def test_frames_are_read_one_by_one(tracker):
    frames = to_frames(draw_faces(40, generator(1))[0])
    alone = torch.cat([tracker.track(frame[None]) for frame in frames])
    torch.testing.assert_close(tracker.track(frames), alone, atol=1e-4, rtol=1e-4)


def test_both_branches_are_read():
    tracker = Tracker()
    pictures = torch.rand(2, 3, 128, 128).requires_grad_()
    tracker.eval()(pictures).sum().backward()
    assert all(weight.grad.abs().sum() > 0 for weight in tracker.parameters())
    assert pictures.grad is not None
    per_pixel = pictures.grad.abs().sum((0, 1))
    assert per_pixel[MOUTH].mean() > per_pixel[:40].mean() > 0


def test_loss_counts_a_change_within_a_face_more_than_an_offset():
    truth = torch.rand(4, 6, len(OUTPUTS), generator=generator(5))
    offset = torch.full_like(truth, 0.1)
    swing = offset * torch.tensor([1.0, -1.0]).repeat(3)[:, None]
    assert tracking_loss(truth, truth) == 0
    assert tracking_loss(truth + swing, truth) == pytest.approx(
        3 * tracking_loss(truth + offset, truth).item(), rel=1e-3
    )


def test_training_is_a_function_of_its_seed():
    first, again = (train_tracker(steps=2, faces=1) for _ in range(2))
    assert torch.equal(first.read.weight, again.read.weight)


def test_training_writes_weights_and_card(tmp_path, capsys):
    train_and_save(out=tmp_path, steps=1, faces=1, unseen=8, talks=2)
    assert Tracker.from_pretrained(tmp_path)
    card = Tracker.card(tmp_path)
    assert card["made_by"]["steps"] == 1
    assert set(card["talks"]["clean"]) == set(OUTPUTS)
    assert "blurred" in capsys.readouterr().out


def test_degradation_keeps_range_and_shape_and_is_a_function_of_its_generator():
    pictures, _ = draw_faces(12, generator(2))
    corrupted, again = (corrupt(pictures, generator(3)) for _ in range(2))
    assert corrupted.shape == pictures.shape
    assert corrupted.abs().max() <= 1
    assert torch.equal(corrupted, again)
    untouched = (corrupted == pictures).flatten(1).all(1)
    assert 0 < untouched.sum() < 12


def test_blur_takes_detail_and_leaves_the_mean():
    pictures, _ = draw_faces(4, generator(6))
    blurred = blur(pictures)
    assert blurred.diff(dim=-1).square().mean() < 0.8 * pictures.diff(dim=-1).square().mean()
    torch.testing.assert_close(blurred.mean((2, 3)), pictures.mean((2, 3)), atol=0.01, rtol=0.01)


def test_what_a_card_does_not_show_is_unread():
    known = {name: {"median": 0.9, "worst": 0.5} for name in OUTPUTS}
    assert unread({"talks": {"clean": known}}) == set()
    weak = known | {"brow": {"median": 0.3, "worst": 0.0}, "teeth": {"median": None, "worst": 0}}
    assert unread({"talks": {"clean": weak}}) == {"brow", "teeth"}
    assert unread({}) == set(OUTPUTS)
