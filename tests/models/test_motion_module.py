"""AnimateDiff's motion module as our temporal layers: the same numbers, in both kinds of names."""

from pathlib import Path

import pytest
import torch
from diffusers import MotionAdapter, UNet2DConditionModel, UNetMotionModel
from diffusers.models.unets.unet_motion_model import AnimateDiffTransformer3D
from safetensors.torch import save_file

from loopy.errors import ConfigurationError, ModelError
from loopy.models import UNet, load_by_name, load_sd15
from loopy.models.motion_module import read_motion_module, temporal_layers
from loopy.nn.stages import SiteContext
from loopy.nn.temporal import TemporalLayer
from tests.sd15_names import old_motion_module

TEXT_WIDTH, FRAMES, SLOTS = 16, 5, 4
SMALL = {"block_out_channels": (8, 16, 16, 16), "norm_num_groups": 4}
CLIPS = {"clip_frames": FRAMES, "motion_slots": SLOTS, "temporal_attentions": 2}
MODULE = {
    "block_out_channels": SMALL["block_out_channels"],
    "motion_norm_num_groups": 4,
    "motion_num_attention_heads": 2,
}
NOWHERE = Path("mm.ckpt")


@pytest.fixture
def module():
    return MotionAdapter(**MODULE).eval()


@pytest.fixture
def stock():
    return UNet2DConditionModel(
        cross_attention_dim=TEXT_WIDTH, attention_head_dim=2, **SMALL
    ).eval()


def ours(**changes):
    return UNet(heads=2, text_dim=TEXT_WIDTH, **SMALL, **(CLIPS | changes)).eval()


def test_one_layer_gives_animatediffs_numbers():
    theirs = AnimateDiffTransformer3D(
        num_attention_heads=2,
        attention_head_dim=8,
        in_channels=16,
        norm_num_groups=4,
        positional_embeddings="sinusoidal",
        num_positional_embeddings=32,
    )
    layer = TemporalLayer(16, heads=2, groups=4, clip_frames=FRAMES, attentions=2)
    state = {f"down_blocks.3.motion_modules.0.{n}": t for n, t in theirs.state_dict().items()}
    state |= {"mid_block.motion_modules.0.norm.bias": torch.zeros(16)}
    taken = temporal_layers(
        NOWHERE, state, config={"clip_frames": FRAMES, "motion_slots": SLOTS}, inter_clip=False
    )
    prefix = "down_blocks.3.intra_clip.0."
    own = {n.removeprefix(prefix): t for n, t in taken.items() if n.startswith(prefix)}
    report = load_by_name(layer, own)
    assert (len(report.loaded), report.new, report.skipped) == (27, (), ())
    clips = torch.randn(2, FRAMES, 16, 3, 4)
    with torch.no_grad():
        expected = theirs(clips.flatten(0, 1), num_frames=FRAMES).unflatten(0, (2, FRAMES))
        torch.testing.assert_close(layer(clips), expected, atol=1e-6, rtol=1e-5)
        assert (expected - clips).abs().max() > 0.1


@pytest.mark.parametrize("form", ["folder", "ckpt", "safetensors"])
def test_the_whole_network_is_animatediffs(form, module, stock, tmp_path):
    path = tmp_path
    if form == "folder":
        module.save_pretrained(path)
    elif form == "ckpt":  # as other trainings have saved it
        path = tmp_path / "mm_sd_v15_v2.ckpt"
        state = {f"module.{n}": t for n, t in old_motion_module(module.state_dict()).items()}
        torch.save({"state_dict": state, "animatediff_config": "text"}, path)
    else:
        path = tmp_path / "mm_sd_v15_v2.safetensors"
        save_file(old_motion_module(module.state_dict()), path)
    network = ours()
    motion = read_motion_module(path, config=network.config, inter_clip=False)
    report = load_sd15(network, stock.state_dict(), motion=motion.tensors)
    assert all(".inter_clip." in name for name in report.new)
    theirs = UNetMotionModel.from_unet2d(stock, module).eval()
    latents, text = torch.randn(2, FRAMES, 4, 8, 8), torch.randn(2, 7, TEXT_WIDTH)
    timestep = torch.tensor([20, 981])
    with torch.no_grad():
        expected = theirs(
            latents.transpose(1, 2), timestep, text.repeat_interleave(FRAMES, 0)
        ).sample.transpose(1, 2)
        torch.testing.assert_close(
            network(latents, timestep, text=text), expected, atol=1e-5, rtol=1e-4
        )


def test_inter_clip_layers_take_all_but_their_voice(module, stock):
    networks = []
    for inter_clip in (False, True):
        network = ours()
        motion = temporal_layers(
            NOWHERE, module.state_dict(), config=network.config, inter_clip=inter_clip
        )
        report = load_sd15(network, stock.state_dict(), motion=motion)
        networks.append(network)
    assert len(report.new) == 21 * 3  # kinds, and the output's weight and bias
    state, source = networks[1].state_dict(), module.state_dict()
    theirs = "up_blocks.2.motion_modules.1.transformer_blocks.0."
    place = "up_blocks.2.inter_clip.1."
    pairs = {"attn2_norm": "norm2", "norm2": "norm3", "attn2.to_q": "attn2.to_q"}
    for our_name, name in pairs.items():
        assert torch.equal(state[f"{place}{our_name}.weight"], source[f"{theirs}{name}.weight"])
    table = source[f"{theirs}pos_embed.pe"][0]
    assert torch.equal(state[f"{place}positions"], table[: SLOTS + FRAMES])
    assert torch.equal(state["up_blocks.2.intra_clip.1.positions"], table[:FRAMES])
    latents, text = torch.randn(1, FRAMES, 4, 8, 8), torch.randn(1, 7, TEXT_WIDTH)
    with torch.no_grad():
        quiet, taught = (
            net(latents, torch.tensor([500]), _with_past(net), text=text) for net in networks
        )
    assert torch.equal(quiet, taught)


def _with_past(network):
    """Something to see at every site, for one video; maps of 8 x 8 latents."""
    sides, contexts = {"down": [8, 4, 2, 1], "mid": [1], "up": [1, 2, 4, 8]}, {}
    for name, stage, index in network.sites():
        where, *place = name.split("_block")
        side = sides[where][int(place[0].removeprefix("s.").partition(".")[0] or 0)]
        layer = stage.inter_clip[index]
        width = layer.proj_in.in_features
        past = layer.project_past(torch.randn(1, SLOTS, width, side, side))
        contexts[name] = SiteContext(past=past)
    return contexts


@pytest.fixture(scope="module")
def real():
    """The published module's names, shapes and positions; the rest without memory."""
    with torch.device("meta"):
        state = MotionAdapter().state_dict()
    return {n: torch.zeros(t.shape) if n.endswith(".pe") else t for n, t in state.items()}


@pytest.mark.parametrize("names", ["diffusers", "original"])
def test_full_size(names, real):
    state = real if names == "diffusers" else old_motion_module(real)
    assert len(state) == 21 * (27 if names == "diffusers" else 28)
    with torch.device("meta"):
        denoiser = UNet(audio_dim=768, clip_frames=12, temporal_attentions=2)
        unet = UNet2DConditionModel(cross_attention_dim=768).state_dict()
    for inter_clip, loaded in ((False, 606 + 567), (True, 606 + 567 + 21 * 25)):
        motion = temporal_layers(NOWHERE, state, config=denoiser.config, inter_clip=inter_clip)
        report = load_sd15(denoiser, unet, motion=motion)
        assert (len(report.loaded), len(report.skipped)) == (loaded, 80)


def without(state, *beginnings):
    return {name: tensor for name, tensor in state.items() if not name.startswith(beginnings)}


OTHERS = {
    "version 1: 24 positions": lambda s: {
        n: t[:, :24] if n.endswith(".pe") else t for n, t in without(s, "mid_block").items()
    },
    "version 3: 32 positions": lambda s: without(s, "mid_block"),
    "Stable Diffusion XL": lambda s: without(s, "mid_block", "down_blocks.3", "up_blocks.3"),
    "a LoRA": lambda s: {n.replace("to_q", "processor.to_q_lora.down"): t for n, t in s.items()},
    "no motion module": lambda s: {n.replace(".motion_modules.", "."): t for n, t in s.items()},
}


@pytest.mark.parametrize("message", OTHERS)
def test_another_module_says_what_it_seems_to_be(message, module):
    state = OTHERS[message](old_motion_module(module.state_dict()))
    with pytest.raises(ModelError, match=message):
        temporal_layers(NOWHERE, state, config=ours().config, inter_clip=False)


def test_tables_that_differ_are_told(module):
    state = old_motion_module(module.state_dict())
    name = next(n for n in state if n.endswith("attention_blocks.1.pos_encoder.pe"))
    state[name] += 1
    with pytest.raises(ModelError, match="differs from that of the other attention"):
        temporal_layers(NOWHERE, state, config=ours().config, inter_clip=False)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"temporal_attentions": 1}, "temporal_attentions to 2"),
        ({"clip_frames": 40}, "32 positions, the layer needs 40"),
    ],
)
def test_layers_that_a_module_does_not_fit(changes, message, module, tmp_path):
    module.save_pretrained(tmp_path)
    with pytest.raises(ConfigurationError, match=message):
        read_motion_module(tmp_path, config=ours(**changes).config, inter_clip=False)


def test_a_module_that_lacks_a_layer(module, stock):
    network = ours()
    state = without(module.state_dict(), "up_blocks.1.motion_modules.0")
    motion = temporal_layers(NOWHERE, state, config=network.config, inter_clip=False)
    with pytest.raises(ModelError, match=r"the file lacks up_blocks.1.intra_clip.0.*24 more"):
        load_sd15(network, stock.state_dict(), motion=motion)
