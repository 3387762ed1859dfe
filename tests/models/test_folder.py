"""A model on disk comes back exactly, or says what is wrong with it."""

import json

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from loopy.errors import ModelError
from loopy.models.folder import INDEX, PARTS, load_part, read_index


@pytest.fixture
def pipeline(make_pipeline):
    return make_pipeline()


@pytest.fixture
def folder(pipeline, tmp_path):
    pipeline.save_pretrained(tmp_path)
    return tmp_path


def rewrite(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_every_part_comes_back(pipeline, folder):
    assert set(read_index(folder)) == {"_class_name", "settings", *PARTS}
    for part in PARTS:
        saved = getattr(pipeline.network, part, None) or getattr(pipeline, part)
        loaded = load_part(folder, part)
        if part == "scheduler":
            assert torch.equal(loaded.alphas_cumprod, saved.alphas_cumprod)
            continue
        assert not loaded.training
        states = saved.state_dict(), loaded.state_dict()
        assert list(states[0]) == list(states[1])
        for name, tensor in states[0].items():
            assert torch.equal(states[1][name], tensor), name


def test_a_model_may_be_without_audio_to_latents(pipeline, tmp_path):
    """It says so: a folder that lost the part is another thing."""
    pipeline.network.audio_to_latents = None
    pipeline.save_pretrained(tmp_path)
    assert read_index(tmp_path)["audio_to_latents"] == [None, None]
    again = type(pipeline).from_pretrained(tmp_path)
    assert again.network.audio_to_latents is None
    sound = torch.randn(4800, generator=torch.Generator().manual_seed(0)).clamp(-1, 1)
    face = Image.new("RGB", (16, 16), (90, 60, 30))
    assert torch.equal(*(pipe(face, sound, seed=1).frames for pipe in (pipeline, again)))


@pytest.mark.parametrize(
    ("file", "part"),
    [
        ("denoiser/config.json", "denoiser"),
        ("denoiser/diffusion_pytorch_model.safetensors", "denoiser"),
        ("audio_encoder/model.safetensors", "audio_encoder"),
        ("scheduler/scheduler_config.json", "scheduler"),
    ],
)
def test_a_missing_file(folder, file, part):
    (folder / file).unlink()
    with pytest.raises(ModelError, match=f"lacks .*{file}"):
        load_part(folder, part)


@pytest.mark.parametrize("content", [b"", b"\x00" * 64, b"{"])
def test_a_damaged_file(folder, content):
    (folder / "vae/diffusion_pytorch_model.safetensors").write_bytes(content)
    with pytest.raises(ModelError, match="cannot be read"):
        load_part(folder, "vae")
    (folder / "vae/config.json").write_bytes(content)
    with pytest.raises(ModelError, match="JSON"):
        load_part(folder, "vae")


def test_json_that_is_no_object(folder):
    (folder / INDEX).write_text("[]")
    with pytest.raises(ModelError, match="no JSON object"):
        read_index(folder)


@pytest.mark.parametrize("part", ["denoiser", "audio_encoder"])
@pytest.mark.parametrize("how", ["missing", "left over", "misshapen"])
def test_weights_that_do_not_fit(folder, part, how):
    path = next((folder / part).glob("*.safetensors"))
    state = load_file(path)
    name = sorted(
        name
        for name in state
        if name.endswith("to_q.weight" if part == "denoiser" else "q_proj.weight")
    )[0]
    if how == "misshapen":
        state[name] = state[name][:-1].contiguous()
    elif how == "missing":
        del state[name]
    else:
        state["nobody"] = torch.zeros(1)
    save_file(state, path)
    expected = {"missing": "lacks", "left over": "has no nobody", "misshapen": "shape"}[how]
    with pytest.raises(ModelError, match=rf"safetensors: .*{expected}"):
        load_part(folder, part)


def test_an_index_of_something_else(folder):
    rewrite(folder / INDEX, lambda index: index.update(denoiser=["diffusers", "UNet2DModel"]))
    with pytest.raises(ModelError, match="is it a model of loopy"):
        read_index(folder)
    with pytest.raises(ModelError, match=f"lacks .*{INDEX}"):
        read_index(folder / "vae")
