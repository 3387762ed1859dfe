"""A model on disk comes back exactly, or says what is wrong with it."""

import json
import multiprocessing
import os
import shutil
import signal

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from loopy.errors import ModelError
from loopy.models.folder import ASSETS, INDEX, PARTS, find_folder, load_part, read_index, save_part
from loopy.pipeline import LoopyPipeline


@pytest.fixture
def pipeline(make_pipeline):
    return make_pipeline()


@pytest.fixture
def folder(tiny_model, tmp_path):
    return shutil.copytree(tiny_model, tmp_path, dirs_exist_ok=True)


def rewrite(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_a_path_is_from_the_current_folder(folder, monkeypatch):
    """`.`, `..` and `../training` were looked for in the package."""
    (folder / "training").mkdir()
    monkeypatch.chdir(folder / "training")
    assert find_folder("toon") == ASSETS / "toon"
    for name in (".", "..", "../training"):
        assert find_folder(name).resolve() == (folder / "training" / name).resolve()


def test_every_part_comes_back(pipeline, folder):
    assert set(read_index(folder)) == {"_class_name", "settings", "sha256", *PARTS}
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


def kill_at(call, folder, pipeline):
    """Save another model over a folder, in a process that is killed at some change on disk."""

    def work():
        left = call
        for name in ("replace", "unlink"):
            real = getattr(os, name)

            def counted(*args, real=real, **options):
                nonlocal left
                left -= 1
                if left < 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                return real(*args, **options)

            setattr(os, name, counted)
        pipeline.save_pretrained(folder)

    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    process.join(120)
    return process.exitcode


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_save_that_is_killed_never_leaves_two_models_in_one(make_pipeline, tmp_path):
    """At every change on disk: the folder is refused, or is one model."""
    folder, found = tmp_path / "model", []
    before, after = (make_pipeline(seed=seed) for seed in (0, 1))
    before.save_pretrained(tmp_path / "before")
    code = -signal.SIGKILL
    while code == -signal.SIGKILL:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(tmp_path / "before", folder)
        code = kill_at(len(found), folder, after)
        try:
            found.append(LoopyPipeline.from_pretrained(folder).weights)
        except ModelError as error:
            found.append(str(error))
    assert code == 0
    old, new = found.count(before.weights), found.count(after.weights)
    assert (old, new) == (1, 2)  # before the first change; after the last one, and not killed
    assert all(INDEX in each for each in found[old:-new])


def test_a_part_of_another_model_is_refused(folder, make_pipeline):
    other = make_pipeline(seed=1).network.denoiser
    path = folder / "denoiser/diffusion_pytorch_model.safetensors"
    kept = path.read_bytes()
    state = {name: value.contiguous() for name, value in other.state_dict().items()}
    save_file(state, path)
    with pytest.raises(ModelError, match=r"denoiser/.* is not the file that .*index"):
        LoopyPipeline.from_pretrained(folder)
    path.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
    with pytest.raises(ModelError, match="damaged"):
        LoopyPipeline.from_pretrained(folder)
    save_part(other, folder, "denoiser")  # on purpose: the index then names it
    loaded = LoopyPipeline.from_pretrained(folder).network.denoiser.state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in state.items())


def test_an_index_of_before_hashes_still_loads(folder, pipeline):
    rewrite(folder / INDEX, lambda index: index.pop("sha256"))
    LoopyPipeline.from_pretrained(folder)
    save_part(pipeline.vae, folder, "vae")
    LoopyPipeline.from_pretrained(folder)
    rewrite(folder / INDEX, lambda index: index.update(sha256={"vae": 3}))
    with pytest.raises(ModelError, match="no sha256 of reference_net/"):
        LoopyPipeline.from_pretrained(folder)


def test_a_model_may_be_based_on_an_embedded_one(tmp_path):
    """It has what it lacks from there, and says so where there is no such model."""
    toon = ASSETS / "toon"
    index = json.loads((toon / INDEX).read_text()) | {"base": "toon"}
    index["settings"]["sampling"]["steps"] = 3
    (tmp_path / INDEX).write_text(json.dumps(index))
    shutil.copytree(toon / "scheduler", tmp_path / "scheduler")
    pipe, own = (LoopyPipeline.from_pretrained(each) for each in (tmp_path, "toon"))
    assert pipe.settings.sampling.steps == 3
    assert pipe.weights == own.weights
    (tmp_path / INDEX).write_text(json.dumps(index | {"base": "../toon"}))
    with pytest.raises(ModelError, match=r"base is '\.\./toon', expected one of \['toon'"):
        LoopyPipeline.from_pretrained(tmp_path)
