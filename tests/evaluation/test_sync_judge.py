"""The sync judge of the package on speakers and voices it never met, and how it is trained."""

import math

import pytest
import torch
from torch.nn import functional

from loopy.evaluation.toon.talks import pixels
from loopy.metrics.sync_scores import load_judge, scores_of
from loopy.models.probe import AT_ONCE
from loopy.models.sync import WINDOW, SyncJudge
from loopy.randomness import generator
from tools.judges.augmentation import corrupt
from tools.judges.sync_accuracy import SHOWN, accuracy, late, unseen_talk
from tools.judges.train_sync import SPAN, Practice, train_and_save, train_sync, window_contrast

SEED = 99


@pytest.fixture(scope="module")
def ears():
    return load_judge()


@pytest.fixture(scope="module")
def seen(ears):
    """What is seen of a held-out talk, in both forms, corrupted, and the talk."""
    talk, (judge, _) = unseen_talk(SEED, 0), ears
    corrupted = corrupt(talk.frames(SHOWN), generator(SEED))
    points = talk.motion.points[SHOWN.start : SHOWN.stop]
    pictures = judge.embed_frames(pixels(corrupted).split(AT_ONCE))
    return talk, {"pictures": pictures, "landmarks": judge.embed_points(points)}


@pytest.mark.parametrize("form", ["pictures", "landmarks"])
@pytest.mark.parametrize("frames", [-15, -4, 0, 1, 9, 15])
def test_a_sound_that_is_late_by_k_frames_has_offset_minus_k(ears, seen, form, frames):
    (judge, hearing), (talk, forms) = ears, seen
    scores = scores_of(judge.embed_sound(hearing.features(late(talk, frames))), forms[form])
    assert scores.offset == -frames
    assert scores.confidence > 0.3


@pytest.mark.parametrize("form", ["pictures", "landmarks"])
def test_the_sound_of_another_talk_gives_little_confidence(ears, seen, form):
    (judge, hearing), (talk, forms) = ears, seen
    own = scores_of(judge.embed_sound(hearing.features(late(talk, 0))), forms[form])
    others = [
        scores_of(judge.embed_sound(hearing.features(late(unseen_talk(SEED, n), 0))), forms[form])
        for n in range(1, 9)
    ]
    assert max(other.confidence for other in others) < own.confidence / 2
    assert min(other.distance for other in others) > own.distance + 0.1


def test_the_sound_of_a_shut_mouth_gives_no_confidence(ears, seen):
    (judge, hearing), (talk, _) = ears, seen
    still = pixels(talk.frames([0])).expand(125, -1, -1, -1)
    scores = scores_of(
        judge.embed_sound(hearing.features(late(talk, 0))), judge.embed_frames([still])
    )
    assert scores.confidence < 0.1


def test_the_card_tells_of_unseen_speakers():
    card = SyncJudge.card()["accuracy"]
    for kind in ("pictures", "pictures, blurred", "pictures, corrupted", "landmarks"):
        assert card[kind]["right"] >= 0.95
        assert card[kind]["moved_right"] >= 0.95
        assert card[kind]["stranger_confidence_95"] < card[kind]["confidence_5"]


@pytest.mark.slow
def test_offsets_are_right_in_clips_of_five_seconds(ears):
    for figures in accuracy(ears[0], talks=60, seed=SEED).values():
        assert figures["right"] >= 0.95
        assert figures["moved_right"] >= 0.95
        assert figures["stranger_confidence_95"] < figures["confidence_5"]


class TestTraining:
    def test_other_moments_and_other_talks_are_what_it_is_told_from(self):
        heard = functional.normalize(torch.randn(3, 4, 64), dim=-1)
        assert window_contrast(heard, heard) < 0.1
        assert window_contrast(heard, heard.roll(2, 1)) > 5  # the same talk at another time
        assert window_contrast(heard, heard.roll(1, 0)) > 5  # another talk at the same time
        still = heard[:, :1].expand(-1, 4, -1)  # knows who, not when
        assert window_contrast(still, still) == pytest.approx(math.log(4), abs=0.1)

    def test_it_is_a_function_of_the_seed_and_learns(self):
        practice = Practice.of(3, seed=3)
        assert torch.equal(practice.around[:1], Practice.of(1, seed=3).around)
        sound, mouths, shape, cells = practice.batch(3, generator(0))
        for given in (sound, mouths, shape, cells):
            assert given.shape[:2] == (3, SPAN + WINDOW - 1)
        fresh, again = (train_sync(practice, steps=1, talks=3, seed=1) for _ in range(2))
        pairs = zip(fresh.state_dict().values(), again.state_dict().values(), strict=True)
        assert all(torch.equal(one, other) for one, other in pairs)
        taught = train_sync(practice, steps=40, talks=3, seed=1)
        with torch.no_grad():
            losses = [
                window_contrast(judge.sound(sound), judge.landmarks(shape))
                for judge in (fresh, taught)
            ]
        assert losses[1] < losses[0] - 0.5

    def test_weights_and_card_are_written(self, tmp_path, capsys):
        train_and_save(out=tmp_path, practice=2, steps=1, unseen=1)
        assert "pictures, corrupted" in capsys.readouterr().out
        again = SyncJudge.from_pretrained(tmp_path)
        assert again.state_dict().keys() == SyncJudge().state_dict().keys()
        card = SyncJudge.card(tmp_path)
        assert card["made_by"] == {"practice": 2, "steps": 1, "seed": 0}
        assert 0 <= card["accuracy"]["landmarks"]["right"] <= 1
