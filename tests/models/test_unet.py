"""The UNet as a module: its sites, its features, its files."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from loopy.errors import ConfigurationError
from loopy.models import UNet, load_by_name
from loopy.records import BranchLayout

FULL_SITES = [f"down_blocks.{i}.{j}" for i in range(4) for j in range(2)]
FULL_SITES += ["mid_block.0"] + [f"up_blocks.{i}.{j}" for i in range(4) for j in range(3)]


def test_sd15_has_21_sites_16_with_attention():
    with torch.device("meta"):
        network = UNet(clip_frames=12)
    assert [name for name, _, _ in network.sites()] == FULL_SITES
    with_attention = [name for name, stage, _ in network.sites() if stage.attentions]
    assert len(with_attention) == 16
    assert not any(name.startswith(("down_blocks.3", "up_blocks.0")) for name in with_attention)
    assert network.last_tokens == "up_blocks.3.2"


def test_temporal_layers_stand_at_every_site(make_denoiser):
    network = make_denoiser()
    for _, stage, place in network.sites():
        assert stage.inter_clip[place].motion_slots == 4
        assert stage.intra_clip[place].motion_slots == 0


def test_features_are_those_of_every_site(make_denoiser):
    reference_net = make_denoiser(audio_dim=None, clip_frames=None, out_channels=None)
    images = torch.randn(2, 4, 8, 8)
    features = reference_net.features(images, collect="maps")
    assert list(features) == [name for name, _, _ in reference_net.sites()]
    for name, stage, _ in reference_net.sites():
        assert features[name].maps.shape[:2] == (2, stage.resnets[-1].out_channels)
        assert features[name].tokens is None  # nobody reads them, and they are large


@pytest.mark.parametrize("attention", [(True, False), (False, True), (True, True)])
def test_tokens_only_are_the_same_tokens(make_denoiser, attention):
    network = make_denoiser(audio_dim=None, clip_frames=None, attention=attention)
    images = torch.randn(2, 4, 8, 8)
    seen = {}
    for name, stage, i in network.sites():
        if stage.attentions:  # what a whole forward has there
            stage.attentions[i].register_forward_hook(
                lambda _, given, answer, name=name: seen.update({name: answer[1]})
            )
    network(images[:, None], torch.zeros(2, dtype=torch.long))
    short = network.features(images, collect="tokens")
    assert list(short)[-1] == network.last_tokens
    assert all(features.maps is None for features in short.values())
    assert seen.keys() == {name for name in short if short[name].tokens is not None}
    for name, tokens in seen.items():
        assert torch.equal(short[name].tokens, tokens)


def test_features_are_of_clean_images(make_denoiser):
    """Timestep 0: what forward sees there is what features hands out."""
    network = make_denoiser(audio_dim=None, clip_frames=None)
    images = torch.randn(1, 4, 8, 8)
    with torch.no_grad():
        first = network.features(images, collect="maps")["up_blocks.1.1"].maps
        norm = torch.nn.functional.silu(network.conv_norm_out(first))
        zero = torch.zeros(1, dtype=torch.long)
        assert torch.equal(network.conv_out(norm), network(images[:, None], zero)[:, 0])


@settings(max_examples=8, deadline=None)
@given(
    videos=st.integers(1, 2),
    frames=st.integers(1, 3),
    height=st.sampled_from([4, 6, 8]),
    width=st.sampled_from([4, 10]),
)
def test_any_even_size(videos, frames, height, width):
    network = UNet(
        block_out_channels=(8, 8),
        attention=(True, False),
        layers_per_block=1,
        heads=2,
        norm_num_groups=4,
        clip_frames=3,
        motion_slots=2,
    )
    x = torch.randn(videos, frames, 4, height, width)
    assert network(x, torch.zeros(videos, dtype=torch.long)).shape == x.shape


def test_motion_latents_reach_their_own_frame(make_denoiser):
    network = make_denoiser()
    motion = torch.zeros(1, 3, 64, requires_grad=True)
    y = network(torch.randn(1, 3, 4, 8, 8), torch.tensor([10]), motion=motion)
    for frame in range(3):  # temporal layers are silent at birth
        (grad,) = torch.autograd.grad(y[0, frame].square().sum(), motion, retain_graph=True)
        assert grad[0].any(-1).tolist() == [i == frame for i in range(3)]


class TestReferenceInput:
    """The portrait as input: what stacking it on the noisy latents' channels would give."""

    @pytest.fixture
    def network(self, make_denoiser, awaken):
        return awaken(make_denoiser(reference_input=True))

    def test_silent_at_birth(self, make_denoiser):
        network, plain = make_denoiser(reference_input=True), make_denoiser()
        assert load_by_name(plain, network.state_dict(), skipped=("conv_reference.",))
        x, portrait, t = torch.randn(2, 3, 4, 8, 8), torch.randn(2, 4, 8, 8), torch.tensor([9, 9])
        assert torch.equal(network(x, t, portrait=portrait), plain(x, t))

    def test_is_a_convolution_of_stacked_channels(self, network):
        x, portrait, t = torch.randn(2, 3, 4, 8, 8), torch.randn(2, 4, 8, 8), torch.tensor([9, 9])
        given = network(x, t, portrait=portrait)
        stacked = torch.nn.Conv2d(8, 16, 3, padding=1)
        stacked.weight.data = torch.cat([network.conv_in.weight, network.conv_reference.weight], 1)
        stacked.bias = network.conv_in.bias
        network.conv_in, network.conv_reference = stacked, None
        both = torch.cat([x, portrait[:, None].expand_as(x)], 2)
        torch.testing.assert_close(network(both, t), given, atol=1e-5, rtol=1e-5)

    def test_is_asked_for_where_a_branch_sees_it(self, network):
        x, t = torch.randn(1, 3, 4, 8, 8), torch.tensor([9])
        with pytest.raises(ConfigurationError, match="reference_input"):
            network(x, t)
        assert network(x, t, branches=BranchLayout(1, 0, 0)).shape == x.shape


def test_save_and_load(make_denoiser, awaken, tmp_path):
    network = awaken(make_denoiser(locality=2.0))
    network.save_pretrained(tmp_path)
    again = UNet.from_config(UNet.load_config(tmp_path))
    assert (
        dict(again.config).items()
        >= {key: value for key, value in network.config.items() if not key.startswith("_")}.items()
    )
    report = load_by_name(again, load_file(tmp_path / "diffusion_pytorch_model.safetensors"))
    assert not report.new
    x, t = torch.randn(1, 3, 4, 8, 8), torch.tensor([10])
    assert torch.equal(again(x, t), network(x, t))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"attention": (True,)}, "attention has 1 entries for 2"),
        ({"norm_num_groups": 5}, "divisible by norm_num_groups"),
        ({"heads": 5}, "divisible by"),
        ({"inter_clip": False, "intra_clip": False}, "builds no temporal layer"),
    ],
)
def test_impossible_shapes_are_refused(make_denoiser, options, message):
    with pytest.raises(ConfigurationError, match=message):
        make_denoiser(**options)
