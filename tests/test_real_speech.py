"""examples/real_speech.py: what it measures on sounds and openings that are known."""

import importlib.util
from pathlib import Path

import pytest
import torch
from PIL import Image

from loopy.data.media.sound import read_audio
from loopy.models.tracker import Tracker

PATH = Path(__file__).parents[1] / "examples/real_speech.py"
HALF_SECOND = 8000  # samples


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("real_speech", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def sounds(write_speech, tmp_path):
    """Noise of 0.3 s and of 0.2 s."""
    paths = [tmp_path / "first.wav", tmp_path / "second.wav"]
    for seed, (path, seconds) in enumerate(zip(paths, (0.3, 0.2), strict=True)):
        write_speech(path, seconds, seed=seed)
    return paths


def test_sounds_are_joined_whole_in_order_and_with_pauses(script, sounds):
    first, second = (read_audio(path) for path in sounds)
    pauses = torch.ones(HALF_SECOND)
    expected = torch.cat([0 * pauses, first, 0 * pauses, second, 0 * pauses])
    torch.testing.assert_close(script.join(sounds), expected, atol=0, rtol=0)


def test_energy_is_of_the_samples_of_each_frame(script):
    sound = torch.cat([torch.full((640,), 0.5), torch.zeros(640), torch.full((320,), -1.0)])
    expected = torch.tensor([0.5, 0.0, 0.5**0.5, 0.0])  # a half frame, and one with no sound left
    torch.testing.assert_close(script.energy(sound, 4), expected)
    torch.testing.assert_close(script.energy(sound, 2), expected[:2])


def test_a_mouth_that_follows_is_told_from_one_that_does_not(script):
    loudness = torch.tensor([0.0, 0.01, 0.5, 1.0, 0.7, 0.0])
    follows, opposite = (
        script.compare(loudness, 0.6 * loudness),
        script.compare(loudness, -loudness),
    )
    names = ("correlation of opening and energy", "mean opening, {} frames")
    assert follows[names[0]] == pytest.approx(1)
    assert opposite[names[0]] == pytest.approx(-1)
    assert follows[names[1].format("voiced")] == pytest.approx(0.6 * 2.2 / 3)
    assert follows[names[1].format("silent")] == pytest.approx(0.6 * 0.01 / 3)


def test_a_whole_run_draws_the_figure(script, sounds, make_pipeline, tmp_path):
    portrait, figure = tmp_path / "portrait.png", tmp_path / "figure.png"
    Image.new("RGB", (40, 40), "orange").save(portrait)
    found = script.measure(sounds, portrait, make_pipeline(), Tracker.from_pretrained(), figure)
    assert -1 <= found["correlation of opening and energy"] <= 1
    with Image.open(figure) as picture:
        colours = picture.convert("RGB").getcolors(2**24)
        assert picture.width > picture.height > 300
    assert colours is not None
    assert len(colours) > 50  # frames were drawn, not curves alone
