import pickle
from dataclasses import replace

import pytest
import torch
from PIL import Image

from loopy.errors import ConfigurationError
from loopy.evaluation.toon.conditions import AnothersVoice, HeldOutClips, swaps
from loopy.evaluation.toon.filming import (
    Studio,
    film,
    recorded,
    round_trip,
    shown_frames,
    true_frames,
    with_another,
    without_past,
)
from loopy.evaluation.toon.measure import Eyes, read
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
from loopy.synthetic.face import CONTROLS


@pytest.fixture
def pipeline(make_pipeline):
    """One step and one branch: fast, and it has learned nothing."""
    return make_pipeline(sampling={"steps": 1, "audio_ratio": 1.0, "reference_ratio": 1.0})


@pytest.fixture(scope="module")
def judges():
    torch.manual_seed(0)
    return Tracker().eval(), Recogniser().eval()


@pytest.fixture(scope="module")
def eyes(judges):
    everywhere = torch.ones(16, 16, dtype=torch.bool)
    return Eyes(*judges, background=everywhere, face=everywhere)


@pytest.fixture(scope="module")
def talk():
    return held_out_talk(0, 0, seconds=2)


class Heard:
    """Hears the same in every sound."""

    def __init__(self, clips):
        self.known = clips

    def clips(self, samples, frames, window):
        return iter(self.known)

    def features(self, samples):
        return torch.cat(self.known, 1)[0]


def pil(frame):
    return Image.fromarray(frame.numpy())


def video(parts):
    return torch.cat(list(parts))


def alike(first, second):
    return all(
        torch.equal(first.readings[source].tracks, second.readings[source].tracks)
        and torch.equal(first.readings[source].shown, second.readings[source].shown)
        for source in first.readings | second.readings
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


def test_a_reading_does_not_depend_on_how_a_video_is_cut(talk, eyes):
    frames = video(true_frames(talk, size_px=16))
    whole = read([frames], eyes, shown=(0, 7, 49))
    cut = read(frames.split([1, 6, 20, 23]), eyes, shown=(0, 7, 49))
    for name in ("tracks", "whose", "colours", "flicker", "unrest"):
        torch.testing.assert_close(getattr(cut, name), getattr(whole, name), atol=1e-3, rtol=1e-3)
    assert torch.equal(cut.shown, frames[[0, 7, 49]])
    assert whole.tracks.shape == (50, len(OUTPUTS))
    assert whole.flicker.shape == whole.unrest.shape == (49,)


def test_a_reading_sees_colour_and_flicker(eyes):
    grey = torch.full((6, 16, 16, 3), 100, dtype=torch.uint8)
    grey[1::2] += 2
    seen = read([grey], eyes)
    assert seen.flicker.tolist() == [2] * 5
    assert seen.colours[0, 0].tolist() == pytest.approx([100 / 255] * 3)
    corner = grey[:1].clone()
    corner[0, :2, -2:] = torch.tensor([255, 0, 0], dtype=torch.uint8)
    colours = read([corner], eyes).colours[0]
    assert colours[15].tolist() == pytest.approx([1, 0, 0])  # row by row
    assert colours[16].tolist() == pytest.approx([100 / 255] * 3)


def test_without_past_each_clip_is_a_first_one_with_noise_of_its_own(pipeline, talk):
    portrait = held_out_portrait(talk, generator(0), size_px=16)
    subject = pipeline.prepare(pil(portrait))
    real = list(pipeline.stream(subject, talk.audio, seed=5))
    forgetful = list(without_past(pipeline, subject, talk.audio, seed=5))
    assert [len(part) for part in forgetful] == [len(part) for part in real]
    assert torch.equal(forgetful[0], real[0])
    assert not torch.equal(forgetful[1], real[1])
    still = torch.zeros_like(talk.audio)
    first, second = list(without_past(pipeline, subject, still, seed=5))[2:4]
    assert not torch.equal(first, second)


def test_without_past_is_what_a_first_clip_would_be(pipeline, talk):
    """What was made before leaves no trace: other first sounds, the same third clip."""
    portrait = held_out_portrait(talk, generator(0), size_px=16)
    subject = pipeline.prepare(pil(portrait))
    clips = list(pipeline.audio_encoder.clips(talk.audio, 3))[:3]
    films = []
    for heard in (clips, [clips[1], clips[0], clips[2]]):
        parts = (pipeline.network, Heard(heard), pipeline.vae, pipeline.scheduler)
        altered = LoopyPipeline(*parts, pipeline.settings)
        films.append(list(without_past(altered, subject, talk.audio, seed=5)))
    assert not torch.equal(films[0][0], films[1][0])
    assert torch.equal(films[0][2], films[1][2])


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
    assert shown_frames(100, ends=False) == (0, 14, 28, 42, 57, 71, 85, 99)
    assert shown_frames(500, ends=True) == (0, 8, 16, 24, 475, 483, 491, 499)


def test_films_do_not_depend_on_the_number_of_workers(pipeline, judges):
    chosen = scenes(quick=True, seconds=2)
    studio = Studio(pipeline, *judges, chosen)
    alone, together = (film(studio, workers=workers) for workers in (0, 2))
    assert {name: len(takes) for name, takes in alone.items()} == {
        "speech": 2, "long": 1, "silence": 1, "noise": 1,
    }  # fmt: skip
    for name, takes in alone.items():
        for one, other in zip(takes, together[name], strict=True):
            assert one.scene == other.scene
            assert alike(one, other)
    (long,) = alone["long"]
    assert set(long.readings) == {"made", "truth", "vae", "still", "no_past"}
    assert "no_past" not in alone["speech"][0].readings
    assert long.readings["still"].tracks.diff(dim=0).abs().max() < 1e-5
    again = pickle.loads(studio[0])
    assert alike(again, replace(alone["speech"][0], readings=again.readings))
    first, second = alone["speech"]
    assert first.readings["another"] is second.readings["truth"]
    assert alone["silence"][0].readings["another"] is second.readings["truth"]


def test_one_talk_has_no_other(pipeline, judges):
    take = Studio(pipeline, *judges, scenes(quick=True, seconds=2)).take(
        scenes(quick=True, seconds=2)[0]
    )
    assert "another" not in with_another({"speech": [take]})["speech"][0].readings


def test_held_out_clips_are_those_of_training(pipeline):
    clips = HeldOutClips(pipeline, clips=2).load(workers=0)
    layout = pipeline.settings.contract.layout
    talk = held_out_talk(0, 1000, seconds=(layout.past_frames + 3) / 25 + 0.56)
    features = pipeline.audio_encoder.features(talk.audio)
    middle = clips.audio[0, 1, 2]  # second frame of the clip, itself
    torch.testing.assert_close(middle, features[layout.past_frames + 1])
    torch.testing.assert_close(clips.audio[0, 1, 4], features[layout.past_frames + 3])
    assert clips.motion_frames.shape[1] == layout.slots
    assert clips.past_present.all()
    whole = talk.controls[:, CONTROLS.index("open")]
    assert len(whole) >= layout.past_frames + 3
    assert 0 < clips.weight.mean() < 1


def test_what_the_network_does_not_use_does_not_change_its_loss(pipeline):
    clips = HeldOutClips(pipeline, clips=5).load(workers=0)
    grown = swaps(pipeline, clips)
    assert set(grown) == {"past", "voice", "keys", "latents"}
    assert all(len(each) == 5 and each.abs().max() > 1e-6 for each in grown.values())
    deaf, forgetful = pipeline.network, pipeline.network
    with torch.no_grad():
        deaf.audio_to_latents.to_time.weight.zero_()
    grown = swaps(pipeline, clips)
    assert grown["latents"].abs().max() < 1e-6 < grown["keys"].abs().max()
    with torch.no_grad():
        for name, parameter in forgetful.denoiser.named_parameters():
            if "audio_attn.to_out" in name or ("inter_clip" in name and "to_out" in name):
                parameter.zero_()
    grown = swaps(pipeline, clips)
    assert grown["keys"].abs().max() < 1e-6
    assert grown["past"].abs().max() < 1e-6


def test_same_clips_have_nothing_to_swap(pipeline):
    one = HeldOutClips(pipeline, clips=1).load(workers=0)
    fields = {name: value.expand(2, *value.shape[1:]) for name, value in vars(one).items()}
    grown = swaps(pipeline, type(one)(**fields))
    assert all(each.abs().max() < 1e-5 for each in grown.values())


def test_audio_to_latents_hears_the_row_before():
    tokens = torch.arange(3.0)
    assert AnothersVoice(torch.nn.Identity(), 1)(tokens).tolist() == [2, 0, 1]
