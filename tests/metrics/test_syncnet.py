"""Independent references: names and shapes of the authors' file; python_speech_features."""

import numpy as np
import pytest
import python_speech_features
import torch

from loopy.errors import MetricError, ModelError
from loopy.metrics.sync_scores import sync_scores
from loopy.metrics.syncnet import SyncNet, load_syncnet, mfcc

SHAPES = {  # of syncnet_v2.model
    "netcnnaud.0.weight": (64, 1, 3, 3),
    "netcnnaud.4.weight": (192, 64, 3, 3),
    "netcnnaud.8.weight": (384, 192, 3, 3),
    "netcnnaud.11.weight": (256, 384, 3, 3),
    "netcnnaud.14.weight": (256, 256, 3, 3),
    "netcnnaud.18.weight": (512, 256, 5, 4),
    "netcnnaud.19.running_var": (512,),
    "netcnnlip.0.weight": (96, 3, 5, 7, 7),
    "netcnnlip.4.weight": (256, 96, 1, 5, 5),
    "netcnnlip.8.weight": (256, 256, 1, 3, 3),
    "netcnnlip.11.weight": (256, 256, 1, 3, 3),
    "netcnnlip.14.weight": (256, 256, 1, 3, 3),
    "netcnnlip.18.weight": (512, 256, 1, 6, 6),
    "netfcaud.0.weight": (512, 512),
    "netfcaud.3.weight": (1024, 512),
    "netfclip.1.running_mean": (512,),
    "netfclip.3.weight": (1024, 512),
}


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return SyncNet().eval()


def test_names_and_shapes_are_those_of_the_file(network):
    state = network.state_dict()
    assert {name: tuple(state[name].shape) for name in SHAPES} == SHAPES
    assert len([name for name in state if name.endswith("running_mean")]) == 6 + 6 + 2


@torch.no_grad()
def test_windows_are_the_authors(network):
    """Reference: each window cut by hand, its sound by python_speech_features."""
    frames = torch.randint(0, 256, (9, 224, 224, 3), dtype=torch.uint8)
    noise = np.random.default_rng(0).normal(0, 3000, 640 * 8 + 100).astype(np.int16)
    seen, heard = network(frames, torch.from_numpy(noise / 32768).float())
    assert seen.shape == heard.shape == (3, 1024)  # 8 frames have sound, 5 of them end windows
    coefficients = python_speech_features.mfcc(noise, 16_000).T
    blue_first = frames.numpy()[..., ::-1].copy()
    for window in range(3):
        picture = blue_first[window : window + 5].transpose(3, 0, 1, 2)[None]
        sound = coefficients[None, None, :, 4 * window : 4 * window + 20]
        one = network.pictures(torch.from_numpy(picture).float())
        other = network.sound(torch.from_numpy(sound).float())
        assert torch.allclose(seen[window], one[0], atol=1e-4)
        assert torch.allclose(heard[window], other[0], atol=1e-4)


def test_a_file_is_loaded_whole_or_not_at_all(network, tmp_path):
    path = tmp_path / "syncnet_v2.model"
    with pytest.raises(ModelError, match=r"needs syncnet_v2.model .*Oxford.*licence: MIT"):
        load_syncnet(path)
    with pytest.raises(ModelError, match="no path was given"):
        load_syncnet(None)
    state = network.state_dict()
    old = {name: value for name, value in state.items() if "num_batches" not in name}
    torch.save(old, path)  # files of torch 0.3 do not count batches
    assert torch.equal(load_syncnet(path).netfclip[3].weight, network.netfclip[3].weight)
    torch.save({name: old[name] for name in list(old)[1:]}, path)
    with pytest.raises(ModelError, match=r"lacks netcnnaud.0.weight"):
        load_syncnet(path)
    torch.save(old | {"more": torch.ones(1)}, path)
    with pytest.raises(ModelError, match="has no more"):
        load_syncnet(path)
    path.write_bytes(b"<html>not found</html>")
    with pytest.raises(ModelError, match="is no file of weights"):
        load_syncnet(path)


def test_bad_input_is_named(network):
    with pytest.raises(MetricError, match="face crops of 224 px"):
        network(torch.zeros(9, 96, 96, 3, dtype=torch.uint8), torch.zeros(16_000))
    crops = torch.zeros(9, 224, 224, 3, dtype=torch.uint8)
    with pytest.raises(MetricError, match="too short"):
        network(crops, torch.zeros(640 * 5))
    with pytest.raises(MetricError, match="too short for shifts"):
        sync_scores(*network(crops, torch.zeros(640 * 9)))


@pytest.mark.parametrize("samples", [100, 400, 401, 8000, 12345])
def test_equals_python_speech_features(samples):
    """Reference: python_speech_features.mfcc, on the 16-bit sound that SyncNet's authors read."""
    noise = np.random.default_rng(0).normal(0, 3000, samples).astype(np.int16)
    ours = mfcc(torch.from_numpy(noise / 32768))
    theirs = python_speech_features.mfcc(noise, 16_000)
    assert ours.shape == theirs.shape
    assert ours.numpy() == pytest.approx(theirs, abs=1e-4)


def test_silence_and_a_tone_equal_it_too():
    """Reference: python_speech_features.mfcc; silence has a log of nothing in every band."""
    tone = (8000 * np.sin(np.arange(16_000) * 0.3)).astype(np.int16)
    tone[:6000] = 0
    ours = mfcc(torch.from_numpy(tone / 32768))
    assert torch.isfinite(ours).all()
    assert ours.numpy() == pytest.approx(python_speech_features.mfcc(tone, 16_000), abs=1e-3)
