"""Audio-to-latents and the audio projection."""

import math

import pytest
import torch
from safetensors.torch import load_file

from loopy.errors import ConfigurationError
from loopy.models import CONDITIONS, AudioProjection, AudioToLatents, load_by_name
from loopy.timing import AudioWindow

VIDEOS, FRAMES = 4, 3


@pytest.fixture
def make(awaken):
    def build(**options):
        sizes = {"audio_width": 24, "time_dim": 10, "num_embeddings": 6, "dim": 16, "heads": 2}
        return awaken(AudioToLatents(**sizes | options))

    return build


@pytest.fixture
def given():
    return {
        "audio": torch.randn(VIDEOS, FRAMES, 2, 12),
        "landmarks": torch.randn(VIDEOS, FRAMES, 204),
        "measures": torch.rand(VIDEOS, 2) * 9,
    }


def answer(network, given, choice=None):
    return network(**given, choice=None if choice is None else torch.tensor(choice))


def test_silent_at_birth(given):
    network = AudioToLatents(audio_width=24, time_dim=10, dim=16, heads=2)
    for choice in (None, [0, 1, 2, 3]):
        latents = answer(network, given, choice)
        assert latents.shape == (VIDEOS, FRAMES, 10)
        assert not latents.any()


def test_choice_zero_is_inference(make, given):
    network = make()
    alone = network(given["audio"])
    torch.testing.assert_close(answer(network, given, [0] * VIDEOS), alone)


CHANGES = {
    "audio": lambda g: {**g, "audio": g["audio"] + 1},
    "landmarks": lambda g: {**g, "landmarks": g["landmarks"] + 1},
    "head": lambda g: {**g, "measures": g["measures"] + torch.tensor([50.0, 0.0])},
    "expression": lambda g: {**g, "measures": g["measures"] + torch.tensor([0.0, 50.0])},
}


@pytest.mark.parametrize("condition", CONDITIONS)
def test_each_sample_listens_to_its_own_condition(make, given, condition):
    network, choice = make(), [2, 0, 3, 1]
    before, after = (answer(network, g, choice) for g in (given, CHANGES[condition](given)))
    changed = [not torch.allclose(a, b) for a, b in zip(before, after, strict=True)]
    assert changed == [CONDITIONS[index] == condition for index in choice]


def test_measures_are_standardised_logs(make, given):
    network = make(log_mean=(1.0, 2.0), log_std=(0.5, 4.0))
    plain = make()
    with torch.no_grad():
        plain.load_state_dict(network.state_dict())
    raw = torch.tensor([[math.e**3 - 1, math.e**6 - 1]]).expand(VIDEOS, 2)  # logs 3 and 6
    same = torch.tensor([[math.e**4 - 1, math.e**1 - 1]]).expand(VIDEOS, 2)  # (3-1)/.5, (6-2)/4
    choice = [2, 3, 2, 3]
    theirs = answer(plain, {**given, "measures": same}, choice)
    torch.testing.assert_close(answer(network, {**given, "measures": raw}, choice), theirs)


def test_unknown_measures_do_no_harm(make, given):
    network = make()
    given["measures"][:, 0] = float("nan")
    latents = answer(network, given, [0, 1, 3, 3])
    assert latents.isfinite().all()
    latents.square().sum().backward()
    assert all(p.grad.isfinite().all() for p in network.parameters())


def test_every_frame_has_its_own_latents(make, given):
    latents = make()(given["audio"])
    assert not torch.allclose(latents[:, 0], latents[:, 1])
    order = torch.tensor([2, 0, 1])
    network = make()
    permuted = network(given["audio"][:, order])
    torch.testing.assert_close(permuted, network(given["audio"])[:, order])


def test_audio_projection():
    network = AudioProjection(layers=3, width=8, hidden=16, tokens=2, token_width=12)
    audio = torch.randn(VIDEOS, FRAMES, 5, 3, 8)
    tokens = network(audio)
    assert tokens.shape == (VIDEOS, FRAMES, 2, 12)
    torch.testing.assert_close(tokens.mean(-1), torch.zeros(VIDEOS, FRAMES, 2), atol=1e-5, rtol=0)
    torch.testing.assert_close(network(audio[:, 1:2])[:, 0], tokens[:, 1])  # frame by frame


def test_another_audio_window_is_said_in_one_line():
    network = AudioProjection(layers=3, width=8, hidden=16, tokens=2, token_width=12, neighbours=3)
    assert network.window == AudioWindow(1, 1)
    assert network(torch.randn(VIDEOS, FRAMES, 3, 3, 8)).shape == (VIDEOS, FRAMES, 2, 12)
    with pytest.raises(ConfigurationError, match="of 5 frames, the projection takes 3"):
        network(torch.randn(VIDEOS, FRAMES, 5, 3, 8))
    with pytest.raises(ConfigurationError, match="1, 3, 5"):
        AudioProjection(neighbours=4)


def test_default_projection_is_that_of_wav2vec2_base():
    with torch.device("meta"):
        tokens = AudioProjection()(torch.empty(1, 12, 5, 13, 768))
    assert tokens.shape == (1, 12, 32, 768)


def reload(network, folder):
    network.save_pretrained(folder)
    again = type(network).from_config(type(network).load_config(folder))
    load_by_name(again, load_file(folder / "diffusion_pytorch_model.safetensors"))
    return again


def test_save_and_load(make, given, tmp_path):
    network = make(log_mean=(1.0, 2.0), log_std=(0.5, 4.0))
    again = reload(network, tmp_path / "a2l")
    expected = answer(network, given, [0, 1, 2, 3])
    assert torch.equal(answer(again, given, [0, 1, 2, 3]), expected)
    projection = AudioProjection(layers=3, width=8, hidden=16, tokens=2, token_width=12)
    audio = torch.randn(1, 2, 5, 3, 8)
    assert torch.equal(reload(projection, tmp_path / "p")(audio), projection(audio))
