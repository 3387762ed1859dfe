from statistics import median

import pytest
import torch

from loopy.errors import ModelError
from loopy.evaluation.degradation import blur, degrade
from loopy.evaluation.metrics import correlation
from loopy.evaluation.toon import held_out_talk, pixels
from loopy.evaluation.tracker import CARD, FOLDER, OUTPUTS, WEIGHTS, Tracker, read_card
from loopy.evaluation.train_tracker import accuracy, draw_faces, train_and_save, train_tracker
from loopy.randomness import generator
from loopy.synthetic.face import CONTROLS


@pytest.fixture(scope="module")
def tracker():
    return Tracker.from_pretrained()


def opening_r(tracker, talk, change):
    frames = pixels(change(talk.frames(range(50))))
    truth = talk.controls[:, CONTROLS.index("open")]
    return float(correlation(truth, tracker.track(frames)[:, OUTPUTS.index("open")]))


def test_tracker_reads_the_mouths_of_held_out_talks(tracker):
    talks = [held_out_talk(seed=7, number=number, seconds=2) for number in range(4)]
    assert median(opening_r(tracker, talk, lambda frames: frames) for talk in talks) > 0.92
    assert median(opening_r(tracker, talk, blur) for talk in talks) > 0.9


def test_card_tells_the_accuracy_that_is_measured(tracker):
    told, measured = read_card()["accuracy"], accuracy(tracker, faces=256, seed=99)
    for kind in ("clean", "blurred", "spoiled"):
        assert measured[kind]["open_r"] == pytest.approx(told[kind]["open_r"], abs=0.03)
        assert measured[kind]["open_mae"] == pytest.approx(told[kind]["open_mae"], abs=0.03)


def test_tracker_is_small(tracker):
    assert sum(parameter.numel() for parameter in tracker.parameters()) <= 200_000
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 600_000


def test_size_of_the_frames_hardly_matters(tracker):
    frames = held_out_talk(seed=7, number=1, seconds=2)
    small, large = (tracker.track(pixels(frames.frames(range(50), size_px=s))) for s in (96, 256))
    mouth = OUTPUTS.index("open")
    assert correlation(small[:, mouth], large[:, mouth]) > 0.95


def test_frames_are_read_one_by_one(tracker):
    frames = pixels(draw_faces(40, generator(1))[0])
    alone = torch.cat([tracker.track(frame[None]) for frame in frames])
    torch.testing.assert_close(tracker.track(frames), alone, atol=1e-4, rtol=1e-4)


def test_training_is_a_function_of_its_seed():
    first, again, other = (train_tracker(steps=2, batch_size=4, seed=s) for s in (0, 0, 1))
    assert torch.equal(first.read.weight, again.read.weight)
    assert not torch.equal(first.read.weight, other.read.weight)


def test_training_writes_weights_and_card(tmp_path, capsys):
    train_and_save(out=tmp_path, steps=1, batch_size=4, faces=8)
    assert Tracker.from_pretrained(tmp_path)
    assert read_card(tmp_path)["made_by"]["steps"] == 1
    assert "blurred" in capsys.readouterr().out


def test_a_lost_or_damaged_file_is_said(tmp_path):
    with pytest.raises(ModelError, match=WEIGHTS):
        Tracker.from_pretrained(tmp_path)
    with pytest.raises(ModelError, match=CARD):
        read_card(tmp_path)
    (tmp_path / WEIGHTS).write_bytes(b"nothing")
    with pytest.raises(ModelError, match="cannot be read"):
        Tracker.from_pretrained(tmp_path)


def test_degradation_keeps_range_and_shape_and_is_a_function_of_its_generator():
    pictures, _ = draw_faces(12, generator(2))
    spoiled, again = (degrade(pictures, generator(3)) for _ in range(2))
    assert spoiled.shape == pictures.shape
    assert spoiled.abs().max() <= 1
    assert torch.equal(spoiled, again)
    untouched = (spoiled == pictures).flatten(1).all(1)
    assert 0 < untouched.sum() < 12
