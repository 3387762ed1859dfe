"""Our UNet is SD1.5's: names, shapes, numbers; and what happens when a file is not."""

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import nn

from loopy.errors import ModelError
from loopy.models import UNet, load_by_name, load_sd15
from loopy.models.weights import fingerprint

TEXT_WIDTH = 16
SMALL = {"block_out_channels": (16, 24, 24, 32), "norm_num_groups": 8}


@pytest.fixture(scope="module")
def full_size():
    """SD1.5's 686 names and shapes, as diffusers builds them, without memory."""
    with torch.device("meta"):
        return UNet2DConditionModel(cross_attention_dim=768).state_dict()


@pytest.fixture
def stock():
    network = UNet2DConditionModel(
        cross_attention_dim=TEXT_WIDTH, attention_head_dim=4, sample_size=16, **SMALL
    )
    return network.eval()


def shapes(state):
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def test_full_size_names_and_shapes(full_size):
    with torch.device("meta"):
        ours = UNet(text_dim=768).state_dict()
    assert len(ours) == 686
    assert shapes(ours) == shapes(full_size)


def test_full_size_denoiser_takes_606_and_skips_80(full_size):
    with torch.device("meta"):
        report = load_sd15(UNet(audio_dim=768, clip_frames=12), full_size)
    assert (len(report.loaded), len(report.skipped)) == (606, 80)
    assert all(".attn2." in name for name in report.skipped)
    assert all(
        any(part in name for part in (".audio_attn.", ".inter_clip.", ".intra_clip."))
        for name in report.new
    )
    assert str(report) == f"606 loaded, {len(report.new)} new, 80 skipped"


def test_full_size_denoiser_with_text_takes_everything(full_size):
    with torch.device("meta"):
        report = load_sd15(UNet(text_dim=768, audio_dim=768, clip_frames=12), full_size)
    assert (len(report.loaded), len(report.skipped)) == (686, 0)


def test_full_size_reference_net(full_size):
    with torch.device("meta"):
        report = load_sd15(UNet(out_channels=None), full_size)
    # 80 of the text attention, the 32 of the norm before it, 4 of the head
    assert (len(report.loaded), len(report.new), len(report.skipped)) == (570, 0, 116)
    assert not any("resnets" in name for name in report.skipped)


def test_to_the_last_bit_in_the_same_batch(stock):
    ours = UNet(text_dim=TEXT_WIDTH, heads=4, **SMALL).eval()
    load_sd15(ours, stock.state_dict())
    latents, text = torch.randn(6, 4, 16, 16), torch.randn(6, 7, TEXT_WIDTH)
    timestep = torch.tensor([0, 1, 20, 500, 981, 999])
    with torch.no_grad():
        expected = stock(latents, timestep, text).sample
        assert torch.equal(ours(latents[:, None], timestep, text=text)[:, 0], expected)


def test_as_clips_it_is_the_same_frame_by_frame(stock):
    ours = UNet(text_dim=TEXT_WIDTH, heads=4, **SMALL).eval()
    load_sd15(ours, stock.state_dict())
    latents, text = torch.randn(2, 3, 4, 16, 16), torch.randn(2, 7, TEXT_WIDTH)
    timestep = torch.tensor([20, 981])
    with torch.no_grad():
        whole = ours(latents, timestep, text=text)
        folded = latents.flatten(0, 1), timestep.repeat_interleave(3)
        expected = stock(*folded, text.repeat_interleave(3, 0)).sample.unflatten(0, (2, 3))
        torch.testing.assert_close(whole, expected, atol=1e-5, rtol=1e-5)
        for video in range(2):
            for frame in range(3):
                one = slice(video, video + 1)
                alone = stock(latents[one, frame], timestep[one], text[one]).sample
                torch.testing.assert_close(whole[one, frame], alone, atol=1e-5, rtol=1e-5)


def changed(state, how):
    state = dict(state)
    name = "mid_block.resnets.0.conv1.weight"
    if how == "missing":
        del state[name]
    elif how == "left over":
        state["mid_block.resnets.2.conv1.weight"] = state[name]
    else:
        state[name] = state[name][:-1]
    return state


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("missing", "the file lacks mid_block.resnets.0.conv1.weight"),
        ("left over", "the network has no mid_block.resnets.2.conv1.weight"),
        ("misshapen", r"\(32, 32, 3, 3\), the file \(31, 32, 3, 3\)"),
    ],
)
def test_a_surprise_is_an_error_and_changes_nothing(stock, how, message):
    network = UNet(heads=4, **SMALL)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with pytest.raises(ModelError, match=message):
        load_sd15(network, changed(stock.state_dict(), how))
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_a_network_without_text_does_not_take_text_for_new(stock):
    """What SD1.5 has may be missing in no file of it."""
    state = {name: t for name, t in stock.state_dict().items() if ".attn2." not in name}
    with pytest.raises(ModelError, match=r"attn2\..* and 77 more"):
        load_sd15(UNet(text_dim=TEXT_WIDTH, heads=4, **SMALL), state)


def test_a_fingerprint_follows_the_weights():
    network = nn.Linear(5, 3)
    first = fingerprint(network)
    twin = nn.Linear(5, 3)
    load_by_name(twin, network.state_dict())
    assert fingerprint(twin) == first
    with torch.no_grad():
        network.bias += 1e-3
    assert fingerprint(network) != first


def test_a_fingerprint_of_a_real_size_tensor():
    network = nn.Module()
    network.register_buffer("convolution", torch.zeros(1).expand(1280 * 2560 * 9))
    assert len(fingerprint(network)) == 32
