import pytest
import torch
from PIL import Image

from loopy.errors import ConfigurationError
from loopy.evaluation.toon.measure import (
    Probes,
    film_features,
    measure_talks,
    recorded,
    round_trip,
    shown_frames,
    true_frames,
    with_mismatched,
)
from loopy.evaluation.toon.talks import (
    ENDLESS,
    SETS,
    held_out_portrait,
    held_out_talk,
    pixels,
    scenes,
)
from loopy.models.recogniser import Recogniser
from loopy.models.tracker import OUTPUTS, Tracker
from loopy.pipeline import LoopyPipeline
from loopy.randomness import generator


@pytest.fixture
def pipeline(make_pipeline):
    """One step and one branch: fast, and it has learned nothing."""
    return make_pipeline(sampling={"steps": 1, "audio_ratio": 1.0, "reference_ratio": 1.0})


@pytest.fixture(scope="module")
def probes():
    torch.manual_seed(0)
    return Probes(Tracker().eval(), Recogniser().eval())


@pytest.fixture(scope="module")
def measured(probes):
    """Features of a film of 16 px, measured everywhere."""
    everywhere = torch.ones(16, 16, dtype=torch.bool)
    return lambda parts, shown=(): film_features(
        parts,
        probes,
        background=everywhere,
        face=everywhere,
        shown=torch.tensor([place in shown for place in range(50)]),
    )


@pytest.fixture(scope="module")
def talk():
    return held_out_talk(0, 0, seconds=2)


class Heard:
    """Hears the same in every sound."""

    def __init__(self, clips):
        self.known = clips

    def clips(self, samples, frames, window):
        return iter(self.known)


def video(parts):
    return torch.cat(list(parts))


def alike(first, second):
    return all(
        torch.equal(first.films[source].get(name), second.films[source].get(name))
        for source in first.films | second.films
        for name in ("tracks", "shown")
    )


def test_the_sets_are_those_of_the_issue():
    chosen = scenes(endless=True)
    counts = {each.name: sum(scene.group == each.name for scene in chosen) for each in SETS}
    assert counts == {"speech": 16, "long": 4, "silence": 4, "noise": 4}
    assert sum(scene.seconds for scene in chosen if scene.group != ENDLESS.name) == 272
    assert [scene.seconds for scene in chosen if scene.group == ENDLESS.name] == [600]
    assert len({scene.number for scene in chosen}) == len(chosen)
    assert len({scene.noise_seed for scene in chosen}) == len(chosen)
    assert {scene.seconds for scene in scenes(seconds=2.5)} == {2.5}
    assert len(scenes(quick=True)) == 5
    with pytest.raises(ConfigurationError, match="last second"):
        scenes(seconds=1)


def test_talks_are_held_out_and_repeat():
    talk, again, other = (held_out_talk(0, n, seconds=1) for n in (0, 0, 1))
    assert torch.equal(talk.controls, again.controls)
    assert torch.equal(talk.audio, again.audio)
    assert not torch.equal(talk.identity.skin, other.identity.skin)
    assert not held_out_talk(0, 0, seconds=1, kind="silence").audio.any()


def test_portrait_has_a_shut_mouth_and_an_open_eye():
    talk = held_out_talk(0, 3, seconds=1)
    portrait = held_out_portrait(talk, generator(0), size_px=128)
    read = dict(zip(OUTPUTS, Tracker.from_pretrained().track(portrait[None])[0], strict=True))
    assert portrait.shape == (128, 128, 3)
    assert read["open"] < 0.15
    assert read["blink"] < 0.3


def test_features_do_not_depend_on_how_a_video_is_cut(talk, measured):
    frames = video(true_frames(talk, size_px=16))
    whole = measured([frames], shown=(0, 7, 49))
    cut = measured(frames.split([1, 6, 20, 23]), shown=(0, 7, 49))
    for name in ("tracks", "identity", "colours", "flicker", "unrest"):
        torch.testing.assert_close(cut.get(name), whole.get(name), atol=1e-3, rtol=1e-3)
    assert torch.equal(cut.get("shown"), frames[[0, 7, 49]])
    assert whole.get("tracks").shape == (50, len(OUTPUTS))
    assert whole.get("flicker").shape == whole.get("unrest").shape == (49,)


def test_colour_and_flicker_are_measured(measured):
    grey = torch.full((6, 16, 16, 3), 100, dtype=torch.uint8)
    grey[1::2] += 2
    features = measured([grey])
    assert features.get("flicker").tolist() == [2] * 5
    assert features.get("colours")[0, 0].tolist() == pytest.approx([100 / 255] * 3)
    corner = grey[:2].clone()
    corner[0, :2, -2:] = torch.tensor([255, 0, 0], dtype=torch.uint8)
    colours = measured([corner]).get("colours")[0]
    assert colours[15].tolist() == pytest.approx([1, 0, 0])  # row by row
    assert colours[16].tolist() == pytest.approx([100 / 255] * 3)


def test_without_motion_frames_each_clip_is_a_first_one(pipeline, talk):
    """What was made before leaves no trace: other first sounds, the same third clip."""
    portrait = held_out_portrait(talk, generator(0), size_px=16)
    subject = pipeline.prepare(Image.fromarray(portrait.numpy()))
    clips = list(pipeline.audio_encoder.clips(talk.audio, 3))[:3]
    audio = talk.audio[: 9 * 640]
    films = []
    for heard in (clips, [clips[1], clips[0], clips[2]]):
        parts = (pipeline.network, Heard(heard), pipeline.vae, pipeline.scheduler)
        altered = LoopyPipeline(*parts, pipeline.settings)
        films.append(list(altered.stream(subject, audio, seed=5, motion_frames=False)))
    assert not torch.equal(films[0][0], films[1][0])
    assert torch.equal(films[0][2], films[1][2])
    real = list(pipeline.stream(subject, talk.audio, seed=5))
    alone = list(pipeline.stream(subject, talk.audio, seed=5, motion_frames=False))
    assert [len(part) for part in alone] == [len(part) for part in real]
    assert torch.equal(alone[0], real[0])
    assert not torch.equal(alone[1], real[1])
    silence = torch.zeros_like(audio)
    first, second = list(pipeline.stream(subject, silence, seed=5, motion_frames=False))[1:3]
    assert not torch.equal(first, second)  # the noise of each is its own


def test_sources_have_the_frames_of_the_talk(pipeline, talk, tmp_path):
    truth = video(true_frames(talk, size_px=16))
    assert torch.equal(truth, pixels(talk.frames(range(50), size_px=16)))
    passed = video(round_trip(pipeline, iter(truth.split(20))))
    assert passed.shape == truth.shape
    assert not torch.equal(passed, truth)
    handed = video(recorded(iter(truth.split(20)), talk, tmp_path / "both.mp4", size_px=16))
    assert torch.equal(handed, truth)
    assert (tmp_path / "both.mp4").stat().st_size > 1000


def test_frames_of_long_talks_are_of_their_ends():
    even, ends = shown_frames(100, ends=False), shown_frames(500, ends=True)
    assert even.nonzero()[:, 0].tolist() == [0, 14, 28, 42, 57, 71, 85, 99]
    assert ends.nonzero()[:, 0].tolist() == [0, 8, 16, 24, 475, 483, 491, 499]


def test_measurements_do_not_depend_on_the_number_of_workers(pipeline, probes):
    chosen = [scene for scene in scenes(quick=True, seconds=2) if scene.group != "noise"]
    alone = measure_talks(pipeline, probes, chosen)
    together = measure_talks(pipeline, probes, chosen[:2], workers=2)
    assert {name: len(talks) for name, talks in alone.items()} == {
        "speech": 2, "long": 1, "silence": 1,
    }  # fmt: skip
    for one, other in zip(alone["speech"], together["speech"], strict=True):
        assert one.scene == other.scene
        assert alike(one, other)
    (long,) = alone["long"]
    assert set(long.films) == {"made", "truth", "vae", "still", "no_past"}
    assert "no_past" not in alone["speech"][0].films
    assert long.films["still"].get("tracks").diff(dim=0).abs().max() < 1e-5
    first, second = alone["speech"]
    assert first.films["mismatched"] is second.films["truth"]
    assert alone["silence"][0].films["mismatched"] is second.films["truth"]
    assert "mismatched" not in with_mismatched({"long": [long]})["long"][0].films
