"""How the sync judge for people is trained and measured; and the judge of the package on people."""

import os
from pathlib import Path

import pytest
import torch

pytest.importorskip("onnxruntime")  # of the sounds' augmentation

from loopy.faces.networks import models_folder
from loopy.metrics.sync_scores import PEOPLE_ENCODER, load_people_judge, scores_of
from loopy.models.people_sync import PeopleSyncSettings
from loopy.models.sync import CHIN_AND_LIPS, WINDOW
from loopy.randomness import generator
from tools.judges.people_clips import PeopleClip, read_clips
from tools.judges.people_sync_accuracy import SHIFTS, figures, late, line_of, measure, strangers
from tools.judges.train_people_sync import (
    SPAN,
    People,
    offset_contrast,
    offset_profiles,
    train_people_sync,
)

REAL = Path(os.environ.get("LOOPY_REAL", Path(__file__).parents[3] / "shared/real")) / "grid"
LAYERS, WIDTH, FRAMES = 2, 6, 90


def sentence(number):
    """Sound and mouth that follow the same few movements, in their own ways."""
    draw = generator("sentence", number)
    moves = torch.randn(FRAMES, 3, generator=draw)
    moves = moves + moves.roll(1, 0)
    ways = generator("ways")
    heard = moves @ torch.randn(3, LAYERS * WIDTH, generator=ways)
    seen = moves @ torch.randn(3, 2 * len(CHIN_AND_LIPS), generator=ways)
    return heard.unflatten(1, (LAYERS, WIDTH)), seen.unflatten(1, (-1, 2)) / 3


@pytest.fixture(scope="module")
def taught():
    """A tiny judge that learned for a few seconds."""
    sounds, mouths = map(list, zip(*map(sentence, range(40)), strict=True))
    settings = PeopleSyncSettings(LAYERS, WIDTH, "", 0.1)
    return train_people_sync(People(sounds, mouths), settings, steps=60, sentences=4)


@torch.no_grad()
def judged(judge, heard, seen):
    sound = judge.embed_sound(heard)
    return scores_of(sound, judge.landmarks(seen[None])[0][: len(sound)])


@pytest.mark.parametrize("k", [-12, -3, 0, 1, 12])
def test_a_sound_that_is_late_by_k_frames_has_offset_minus_k(taught, k):
    heard, seen = sentence(99)
    whole = range(15, FRAMES - 15)
    found = judged(taught, heard[whole.start - k : whole.stop - k], seen[whole.start : whole.stop])
    other = judged(taught, sentence(98)[0], seen)
    assert found.offset == -k
    assert found.confidence > 3 * other.confidence


def test_batches_are_spans_of_one_moment_and_training_is_a_function_of_the_seed():
    sounds, mouths = map(list, zip(*map(sentence, range(4)), strict=True))
    people = People(sounds, mouths)
    heard, seen = people.batch(3, generator(1))
    assert heard.shape == (3, SPAN + WINDOW - 1, LAYERS, WIDTH)
    assert seen.shape == (3, SPAN + WINDOW - 1, len(CHIN_AND_LIPS), 2)
    settings = PeopleSyncSettings(LAYERS, WIDTH, "", 0.1)
    one, other = (train_people_sync(people, settings, steps=2, sentences=2) for _ in range(2))
    assert all(map(torch.equal, one.state_dict().values(), other.state_dict().values()))


def test_the_sound_of_another_sentence_is_to_have_no_offset():
    vectors = torch.nn.functional.normalize(torch.randn(2, 60, 16), dim=-1)
    profiles = offset_profiles(vectors, vectors)
    assert profiles.shape == (2, 2, 25)
    assert profiles[0, 0].argmin() == 12
    late_by_4 = offset_profiles(vectors.roll(4, 1), vectors)
    assert late_by_4[1, 1].argmin() == 16  # as in `offset_distances`: found k frames later
    assert offset_contrast(profiles) < 0.2 < offset_contrast(late_by_4)
    same = vectors[:1].expand(2, -1, -1)  # a stranger with the same words
    assert offset_contrast(offset_profiles(same, same)) > 1


def nobody(name):
    return PeopleClip(f"{name}.mpg", torch.zeros(1, 68, 2), torch.zeros(640))


def test_sentences_are_split_by_name_and_strangers_by_words():
    names = ("bbaf2n", "bbaf2s", "sgwi7p", "lrby8a", "pwij3n", "bgwm1a")
    clips = [nobody(name) for name in names]
    assert clips[0].shared_words(clips[1]) == 5
    assert clips[2].shared_words(clips[5]) == 2
    assert strangers(clips[0], clips) == [2, 3, 4, 5]
    assert strangers(clips[0], clips, most=True) == [1]
    assert 0.08 < sum(nobody(str(number)).held_out for number in range(500)) / 500 < 0.16


def test_a_sound_is_moved_by_whole_frames():
    sound = torch.arange(1, 10 * 640 + 1).float()
    assert late(sound, 2)[:1280].eq(0).all()
    assert torch.equal(late(sound, 2)[1280:], sound[:-1280])
    assert torch.equal(late(sound, -2)[:-1280], sound[1280:])
    assert len(late(sound, -3)) == len(sound)


def test_figures_have_intervals():
    draw = generator("figures")
    measured = {
        "offset": torch.tensor([[0.0], [1.0], [0.0], [-4.0]]),
        "confidence": torch.tensor([[0.4], [0.5], [0.3], [0.1]]),
        "moved": torch.zeros(4, len(SHIFTS)),
        "strangers": torch.rand(4, 4, generator=draw) / 10,
        "nearest": torch.rand(4, 1, generator=draw) / 10,
    }
    sure = line_of([measured])
    assert 0.05 < sure < 0.1
    found = figures(measured, sure=sure)
    assert found["right_within_1"] == [0.75, pytest.approx(0.1941), pytest.approx(0.9937)]
    assert found["moved_right_within_1"] == [1, 1, 1]
    assert found["sure"][0] == 1
    low, high = found["confidence"][1:]
    assert low < found["confidence"][0] < high


@pytest.fixture(scope="module")
def people(face_networks):
    """The ten clips of nine people that no training saw."""
    if not PEOPLE_ENCODER.is_dir():
        pytest.skip("the package has no audio encoder that has heard people")
    if not any((REAL / "others").glob("*.mpg")):
        pytest.skip(f"no clips of real people in {REAL}; LOOPY_REAL names the folder above")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_DATA_HOME", str(face_networks.parents[1]))
        assert models_folder() == face_networks
        return read_clips(REAL / "others")


def test_the_judge_of_the_package_knows_people_it_never_met(people):
    judge, hearing = load_people_judge()
    found = figures(measure(judge, hearing, people), sure=judge.settings.sure)
    assert found["right_within_1"][0] >= 0.9
    assert found["moved_right_within_1"][0] >= 0.9
    assert found["confidence"][0] > 1.5 * found["stranger_confidence"][0]
    assert judge.card()["accuracy"]["others"]["right_within_1"][0] >= 0.9
