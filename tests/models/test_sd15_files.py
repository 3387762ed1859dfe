"""SD1.5 in each form that people have it in, and what is no SD1.5."""

import json
import os

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.loaders.single_file_utils import (
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
)
from safetensors.torch import save_file

from loopy.errors import ModelError
from loopy.models import UNet
from loopy.models.sd15_files import in_diffusers_names, read_unet, read_vae
from loopy.models.tensor_files import Weights
from tests.sd15_names import old_unet, old_vae

TEXT_WIDTH = 16
SMALL = {"block_out_channels": (8, 16, 16, 16), "norm_num_groups": 4}
BLOCKS = {
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
}


@pytest.fixture(scope="module")
def config():
    with torch.device("meta"):
        return UNet(heads=2, audio_dim=8, clip_frames=3, **SMALL).config


@pytest.fixture
def unet():
    return UNet2DConditionModel(cross_attention_dim=TEXT_WIDTH, attention_head_dim=2, **SMALL)


@pytest.fixture
def vae():
    return AutoencoderKL(**BLOCKS, layers_per_block=2, **SMALL)


def whole_file(unet, vae):
    """All that the single file of SD1.5 holds, in its names."""
    return {
        **old_unet(unet.state_dict()),
        **old_vae(vae.state_dict()),
        "cond_stage_model.transformer.text_model.final_layer_norm.weight": torch.zeros(16),
        "model_ema.diffusion_modelinput_blocks00weight": torch.ones(8, 4, 3, 3),
        "model_ema.num_updates": torch.tensor(7),
        "betas": torch.zeros(1000),
        "alphas_cumprod_prev": torch.zeros(1000),
        "sqrt_alphas_cumprod": torch.zeros(1000),
        "posterior_mean_coef1": torch.zeros(1000),
    }


def as_lightning_saves(state, path):
    """SD1.5's .ckpt: written by a training, with the class of a callback among its keys."""
    from lightning.pytorch.callbacks import ModelCheckpoint

    callbacks = {ModelCheckpoint: {"best_model_score": torch.tensor(1.0)}}
    torch.save({"state_dict": state, "global_step": 3, "callbacks": callbacks}, path)


def same(found, expected):
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name].float(), tensor, rtol=2e-3, atol=2e-3, msg=name)


FORMS = ("folder", "fp16", "shards", "bin", "unet folder", "safetensors", "ckpt", "unet file")


def written(form, unet, vae, folder):
    """A path that a user would give."""
    match form:
        case "folder" | "unet folder":
            unet.save_pretrained(folder / "unet")
        case "fp16":
            unet.half().save_pretrained(folder / "unet", variant="fp16")
            unet.float()
        case "shards":
            unet.save_pretrained(folder / "unet", max_shard_size="200KB")
        case "bin":
            unet.save_pretrained(folder / "unet", safe_serialization=False)
        case "unet file":
            save_file(unet.state_dict(), folder / "unet.safetensors")
        case "safetensors":
            save_file(whole_file(unet, vae), folder / "v1-5.safetensors")
        case "ckpt":
            as_lightning_saves(whole_file(unet, vae), folder / "v1-5.ckpt")
    places = {"unet folder": "unet", "unet file": "unet.safetensors"}
    places |= {"safetensors": "v1-5.safetensors", "ckpt": "v1-5.ckpt"}
    return folder / places.get(form, "")


@pytest.mark.parametrize("form", FORMS)
def test_the_unet_in_each_form(form, unet, vae, config, tmp_path):
    path = written(form, unet, vae, tmp_path)
    weights = read_unet(path, config=config, text_width=TEXT_WIDTH)
    same(weights.tensors, unet.state_dict())
    assert all(file.is_file() for file in weights.files)
    assert (len(weights.files) > 1) == (form == "shards")
    single = form in ("safetensors", "ckpt")
    assert len(weights.skipped) == (len(vae.state_dict()) + 7 if single else 0)


@pytest.mark.parametrize("form", ["folder", "old folder", "safetensors", "own file"])
def test_the_autoencoder_in_each_form(form, unet, vae, tmp_path):
    vae.save_pretrained(tmp_path / "vae")
    path = tmp_path
    if form == "old folder":  # SD1.5's own, of 2022
        words = {".to_q.": ".query.", ".to_k.": ".key.", ".to_v.": ".value."}
        words |= {".to_out.0.": ".proj_attn."}
        state = vae.state_dict()
        for new, old in words.items():
            state = {name.replace(new, old): tensor for name, tensor in state.items()}
        assert sum(".proj_attn." in name for name in state) == 4
        save_file(state, path / "vae/diffusion_pytorch_model.safetensors")
    elif form == "safetensors":
        path = tmp_path / "v1-5.safetensors"
        save_file(whole_file(unet, vae), path)
    elif form == "own file":
        path = tmp_path / "vae.pt"
        state = old_vae(vae.state_dict(), "")
        torch.save({"state_dict": {**state, "loss.logvar": torch.zeros(1)}}, path)
    same(read_vae(path, config=vae.config).tensors, vae.state_dict())


def test_full_size_in_old_names(tmp_path):
    """686 and 248 names, through diffusers' converter and back."""
    with torch.device("meta"):
        unet = UNet2DConditionModel(cross_attention_dim=768)
        vae = AutoencoderKL(**BLOCKS, block_out_channels=(128, 256, 512, 512), layers_per_block=2)
    file = Weights((), {**old_unet(unet.state_dict()), **old_vae(vae.state_dict())})
    assert len(file.tensors) == 686 + 248
    known = {  # places where the stages differ, as in the published file
        "model.diffusion_model.input_blocks.3.0.op.weight": (320, 320, 3, 3),
        "model.diffusion_model.input_blocks.4.0.skip_connection.weight": (640, 320, 1, 1),
        "model.diffusion_model.middle_block.1.transformer_blocks.0.attn2.to_k.weight": (1280, 768),
        "model.diffusion_model.output_blocks.2.1.conv.weight": (1280, 1280, 3, 3),
        "model.diffusion_model.output_blocks.5.2.conv.weight": (1280, 1280, 3, 3),
        "model.diffusion_model.output_blocks.11.1.proj_in.weight": (320, 320, 1, 1),
        "model.diffusion_model.out.2.weight": (4, 320, 3, 3),
        "first_stage_model.encoder.down.3.block.0.norm1.weight": (512,),
        "first_stage_model.encoder.mid.attn_1.q.weight": (512, 512, 1, 1),
        "first_stage_model.decoder.up.0.block.0.nin_shortcut.weight": (128, 256, 1, 1),
        "first_stage_model.decoder.up.3.upsample.conv.weight": (512, 512, 3, 3),
    }
    assert {name: tuple(file.tensors[name].shape) for name in known} == known
    parts = (
        (unet, "model.diffusion_model.", convert_ldm_unet_checkpoint),
        (vae, "first_stage_model.", convert_ldm_vae_checkpoint),
    )
    for network, prefix, convert in parts:
        found = in_diffusers_names(tmp_path, file, prefix, convert, network.config).tensors
        shapes = {name: tensor.shape for name, tensor in found.items()}
        assert shapes == {name: t.shape for name, t in network.state_dict().items()}


KINDS = {
    "Stable Diffusion 2: its text tokens have a width of 24": {"cross_attention_dim": 24},
    "a U-Net for inpainting": {"in_channels": 9},
    r"attention_head_dim 4, expected 2": {"attention_head_dim": 4},
}


@pytest.mark.parametrize("message", KINDS)
def test_another_unet_says_what_it_seems_to_be(message, config, tmp_path, monkeypatch):
    monkeypatch.setattr("loopy.models.sd15_files.TEXT_WIDTHS", {24: "Stable Diffusion 2"})
    options = {"cross_attention_dim": TEXT_WIDTH, "attention_head_dim": 2} | KINDS[message]
    UNet2DConditionModel(**options, **SMALL).save_pretrained(tmp_path / "unet")
    with pytest.raises(ModelError, match=message):
        read_unet(tmp_path, config=config, text_width=TEXT_WIDTH)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("conditioner.embedders.0.x", "seems to be Stable Diffusion XL"),
        ("cond_stage_model.model.ln_final.weight", "seems to be Stable Diffusion 2"),
        ("lora_unet_mid_block.alpha", "seems to be a LoRA"),
        ("down_blocks.0.motion_modules.0.norm.weight", "seems to be a motion module"),
        ("encoder.conv_in.weight", "has no U-Net; its names begin with encoder"),
        ("model.diffusion_model.output_blocks.0.2.odd", "output_blocks.0.2.odd; no U-Net of SD1.5"),
        ("a_new_thing.weight", "has a_new_thing.weight; no U-Net of SD1.5"),
    ],
)
def test_a_file_of_another_kind(name, message, unet, vae, config, tmp_path):
    alone = "begin with" in message
    state = {} if alone else whole_file(unet, vae)
    save_file({**state, name: torch.zeros(3)}, tmp_path / "file.safetensors")
    with pytest.raises(ModelError, match=message):
        read_unet(tmp_path / "file.safetensors", config=config, text_width=TEXT_WIDTH)


def test_the_autoencoder_of_sdxl_differs_by_a_number_alone(vae, tmp_path):
    vae.save_pretrained(tmp_path)
    says = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**says, "scaling_factor": 0.13025}))
    with pytest.raises(ModelError, match=r"scaling_factor 0.13025, expected 0.18215"):
        read_vae(tmp_path, config=vae.config)


class Attack:
    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return os.mkdir, (str(self.trace),)


def test_code_in_a_pickle_is_not_run(config, tmp_path):
    trace = tmp_path / "was here"
    torch.save({"state_dict": {}, "callbacks": Attack(trace)}, tmp_path / "v1-5.ckpt")
    with pytest.raises(ModelError, match=r"mkdir.*which could run code.*\.safetensors"):
        read_unet(tmp_path / "v1-5.ckpt", config=config, text_width=TEXT_WIDTH)
    assert not trace.exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.safetensors", None, "no file"),
        ("cut.safetensors", b"\x10\0\0\0\0\0\0\0{", "cannot be read"),
        ("cut.ckpt", b"PK\x03\x04 no zip", "cannot be read"),
        ("page.ckpt", b"<html>404</html>", "cannot be read"),
        ("", b"", "has no weights; expected one of diffusion_pytorch_model.safetensors"),
    ],
)
def test_a_damaged_file_is_one_line(name, content, message, config, tmp_path):
    if name and content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match=message) as caught:
        read_unet(tmp_path / name, config=config, text_width=TEXT_WIDTH)
    assert "\n" not in str(caught.value)
