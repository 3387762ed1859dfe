"""Weights of others that are damaged, lie or are something else: one line at each door."""

import json

import pytest
import torch
from safetensors.torch import save_file

from loopy.errors import ModelError
from loopy.metrics.extractors import I3D, SYNCNET
from loopy.models.motion_module import read_motion_module
from loopy.models.sd15_files import read_unet, read_vae
from loopy.models.speech_files import read_audio_encoder
from loopy.models.tensor_files import read_tensors
from loopy.models.unet import UNet
from loopy.models.weights import load_sd15

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
SMALL = {"block_out_channels": (16, 24), "attention": (True, False), "layers_per_block": 1}
NET = UNet(**SMALL, heads=2, norm_num_groups=4)


def pickled(tmp_path, content):
    torch.save(content, tmp_path / "content")
    return (tmp_path / "content").read_bytes()


def contents(tmp_path):
    """Files of every kind that is no file of weights."""
    inside_itself: dict = {"a": torch.zeros(1)}
    inside_itself["state_dict"] = inside_itself
    whole = pickled(tmp_path, {"a": torch.zeros(500)})
    return {
        "empty": b"",
        "text": b"hello",
        "page": b"<!DOCTYPE html><html></html>",
        "digits": b"e" * 50,
        "not utf-8": b"\x80\x02\xff\xfe" * 20,
        "pointer": POINTER,
        "truncated": whole[:700],
        "end": whole[-300:],
        "flipped": whole[:60] + bytes(b ^ 0x55 for b in whole[60:90]) + whole[90:],
        "list": pickled(tmp_path, [torch.zeros(1)]),
        "numbers as names": pickled(tmp_path, {1: torch.zeros(1)}),
        "inside itself": pickled(tmp_path, inside_itself),
        "no tensors": pickled(tmp_path, {"mid_block.a": 3}),
    }


DOORS = {
    "unet": lambda p: load_sd15(NET, read_unet(p, config=NET.config, text_width=8).tensors),
    "vae": lambda p: read_vae(p, config={"layers_per_block": 1, "block_out_channels": [8]}),
    "motion": lambda p: read_motion_module(
        p, config={"temporal_attentions": 2, "clip_frames": 3, "motion_slots": 4}, inter_clip=True
    ),
    "read": SYNCNET.read,
    "script": I3D.script,
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*TorchScript", "ignore:.*torch.jit")
@pytest.mark.parametrize("suffix", [".bin", ".safetensors"])
@pytest.mark.parametrize("door", DOORS)
def test_a_file_that_holds_no_weights(tmp_path, door, suffix):
    for name, content in contents(tmp_path).items():
        path = tmp_path / f"weights{suffix}"
        path.write_bytes(content)
        if door == "read" and name in ("inside itself", "no tensors"):
            DOORS[door](path)  # names, and plain values; the network it is for says no
            continue
        with pytest.raises(ModelError) as said:
            DOORS[door](path)
        line = str(said.value)
        assert "\n" not in line, name
        assert "weights_only" not in line, name
        if name == "pointer":
            assert "git lfs pull" in line


@pytest.mark.parametrize(
    "index",
    [
        {},
        [],
        {"weight_map": None},
        {"weight_map": {}},
        {"weight_map": {"a": 3}},
        {"weight_map": {"a": "../secret.safetensors"}},
        {"weight_map": {"a": "/etc/passwd"}},
        {"weight_map": {"a": ".."}},
        {"weight_map": {"a": "gone.safetensors"}},
    ],
)
def test_an_index_reaches_for_files_beside_it_only(tmp_path, index):
    save_file({"a": torch.zeros(1)}, tmp_path / "secret.safetensors")
    folder = tmp_path / "unet"
    folder.mkdir()
    path = folder / "diffusion_pytorch_model.safetensors.index.json"
    path.write_text(json.dumps(index))
    with pytest.raises(ModelError):
        read_tensors(folder)


@pytest.mark.parametrize("content", ["[]", "{", "[" * 100_000, "\x00"])
def test_a_configuration_that_is_none(tmp_path, content):
    save_file({"mid_block.a": torch.zeros(1)}, tmp_path / "diffusion_pytorch_model.safetensors")
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(ModelError, match=r"config\.json cannot be read"):
        DOORS["unet"](tmp_path)


@pytest.mark.parametrize("names", [["mid_block.attn2.to_k.weight", "conv_in.weight"],
                                   ["model.diffusion_model.input_blocks.x"],
                                   ["down_blocks.0.motion_modules.0.pos_embed.pe"],
                                   ["x.temporal_transformer.pos_encoder.pe"]])  # fmt: skip
@pytest.mark.parametrize("door", ["unet", "vae", "motion"])
def test_names_and_shapes_that_no_file_has(tmp_path, door, names):
    path = tmp_path / "weights.safetensors"
    save_file({name: torch.zeros(()) for name in names}, path)
    with pytest.raises(ModelError):
        DOORS[door](path)


@pytest.mark.parametrize("content", [b"", b"{", POINTER, b"\x08" + b"\x00" * 7 + b"{}      "])
@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin", "config.json"])
def test_a_speech_network_that_is_damaged(make_pipeline, tmp_path, name, content):
    pipeline = make_pipeline()
    pipeline.audio_encoder.network.save_pretrained(tmp_path / "hearing")
    if name == "pytorch_model.bin":
        (tmp_path / "hearing/model.safetensors").unlink()
    (tmp_path / "hearing" / name).write_bytes(content)
    with pytest.raises(ModelError):
        read_audio_encoder(
            str(tmp_path / "hearing"), config=pipeline.network.audio_projection.config
        )
