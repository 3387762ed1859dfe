"""`loopy init`: parts of others in, a whole untrained model out, and not a word to any hub."""

import contextlib
import hashlib
import io
import json
import resource
import socket
from pathlib import Path

import pytest
import torch
import yaml
from diffusers import AutoencoderKL, MotionAdapter, UNet2DConditionModel
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import Wav2Vec2Config, Wav2Vec2ForCTC, Wav2Vec2ForPreTraining, Wav2Vec2Model

from loopy.cli import main
from loopy.models.folder import load_part
from loopy.models.weights import fingerprint
from loopy.pipeline import LoopyPipeline
from tests.sd15_names import old_motion_module, old_unet, old_vae

MODEL = Path(__file__).parents[1] / "configs/sd15/model.yaml"
WIDTHS, TEXT_WIDTH, FRAMES = [8, 16, 24, 24], 16, 3
HEARING = {
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "conv_dim": (8,) * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,
    "vocab_size": 5,
}


def tiny_model():
    """The recipe that ships, with small numbers in it."""
    model = yaml.safe_load(MODEL.read_text())
    parts = model["network"]["init_args"]
    small = {"block_out_channels": WIDTHS, "norm_num_groups": 4, "heads": 2}
    for part in ("reference_net", "denoiser"):
        parts[part]["init_args"] |= small
    parts["denoiser"]["init_args"] |= {"audio_dim": 8, "clip_frames": FRAMES, "motion_slots": 4}
    parts["audio_projection"]["init_args"] |= {"layers": 3, "width": 8, "tokens": 2}
    parts["audio_projection"]["init_args"] |= {"hidden": 8, "token_width": 8}
    parts["audio_to_latents"]["init_args"] |= {"audio_width": 16, "time_dim": 32, "dim": 16}
    model["autoencoder"] |= {"block_out_channels": WIDTHS, "norm_num_groups": 4}
    model["settings"] |= {"size_px": 64, "clip_frames": FRAMES}
    model["settings"]["sampling"]["steps"] = 2
    model["settings"]["contract"]["layout"] = {"stride": 2, "segments": 2}
    return model | {"text_width": TEXT_WIDTH}


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """What a user has on his disk, in every form; random numbers."""
    disk = tmp_path_factory.mktemp("disk")
    torch.manual_seed(0)
    small = {"block_out_channels": WIDTHS, "norm_num_groups": 4}
    unet = UNet2DConditionModel(cross_attention_dim=TEXT_WIDTH, attention_head_dim=2, **small)
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 4}
    blocks |= {"up_block_types": ("UpDecoderBlock2D",) * 4}
    vae = AutoencoderKL(**blocks, layers_per_block=2, **small)
    unet.save_pretrained(disk / "sd15/unet")
    vae.save_pretrained(disk / "sd15/vae")
    whole = {**old_unet(unet.state_dict()), **old_vae(vae.state_dict()), "betas": torch.zeros(9)}
    save_file(whole, disk / "v1-5.safetensors")
    adapter = MotionAdapter(
        block_out_channels=WIDTHS, motion_norm_num_groups=4, motion_num_attention_heads=2
    )
    adapter.save_pretrained(disk / "adapter")
    torch.save(old_motion_module(adapter.state_dict()), disk / "mm_sd_v15_v2.ckpt")
    Wav2Vec2ForCTC(Wav2Vec2Config(**HEARING)).save_pretrained(disk / "wav2vec2")
    (disk / "tiny.yaml").write_text(yaml.safe_dump(tiny_model()))
    return disk


@pytest.fixture
def nobody_is_asked(monkeypatch):
    asked = []

    def ask(*where, **_):
        asked.append(where)
        raise OSError("no network")

    monkeypatch.setattr(socket, "getaddrinfo", ask)
    monkeypatch.setattr(socket.socket, "connect", ask)
    yield
    assert not asked


def words(out, *more, **changes):
    given = {"sd15": "sd15", "wav2vec2": "wav2vec2", "config": "tiny.yaml"} | changes
    options = [word for name, value in given.items() for word in (f"--{name}", str(value))]
    return ["init", *options, "--out", str(out), *more]


@pytest.fixture(scope="module")
def made(parts):
    """A model with a motion module in it, and what was printed."""
    told = io.StringIO()
    with contextlib.chdir(parts), contextlib.redirect_stdout(told):
        assert main(words("models/made", motion_module="mm_sd_v15_v2.ckpt")) == 0
    return parts / "models/made", told.getvalue()


@pytest.fixture
def init(parts, tmp_path, monkeypatch, capsys, nobody_is_asked):
    """Run the verb in the folder of the parts; gives code, output, errors, the model's folder."""
    monkeypatch.chdir(parts)

    def run(*more, out=tmp_path / "models/new", **changes):
        code = main(words(out, *more, **changes))
        told = capsys.readouterr()
        return code, told.out, told.err, out

    return run


def tensors(folder, part, file="diffusion_pytorch_model.safetensors"):
    return load_file(folder / part / file)


def test_the_table_says_what_came_from_where(made):
    folder, out = made
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines()[1:7]}
    assert rows["reference_net"] == ["570", "0", "116", "sd15"]
    assert rows["denoiser"] == [str(606 + 567), str(588 + 80), "80", "sd15,", "motion_module"]
    assert rows["vae"] == ["248", "0", "0", "vae"]
    assert rows["audio_to_latents"][0::3] == ["0", "-"]
    assert "denoiser: skipped 80 text attention" in out
    record = json.loads((folder / "init.json").read_text())
    assert record["parts"]["denoiser"]["new"] == {"inter-clip layers": 588, "audio attention": 80}
    assert record["parts"]["audio_encoder"]["skipped"] == {"letters": 2}
    (file, digest), *others = record["sources"]["sd15"]["sha256"].items()
    content = (folder.parents[1] / file).read_bytes()
    assert (digest, others) == (hashlib.sha256(content).hexdigest(), [])


def test_the_new_model_makes_a_video(made, write_speech, tmp_path):
    pipe = LoopyPipeline.from_pretrained(made[0])
    assert pipe.scheduler.config["prediction_type"] == "epsilon"
    write_speech(tmp_path / "speech.wav", 0.12)
    portrait = Image.new("RGB", (30, 30), "teal")
    assert pipe(portrait, tmp_path / "speech.wav").frames.shape == (FRAMES, 64, 64, 3)


def test_its_tensors_are_those_of_its_parts(made, parts):
    denoiser = tensors(made[0], "denoiser")
    source = UNet2DConditionModel.from_pretrained(parts / "sd15/unet").state_dict()
    kept = [name for name in denoiser if name in source]
    assert len(kept) == 606
    assert all(torch.equal(denoiser[name], source[name]) for name in kept)
    silent = [n for n in denoiser if ".inter_clip." in n and ".proj_out." in n]
    silent += [n for n in denoiser if ".audio_attn.to_out." in n]
    assert len(silent) == 2 * (21 + 16)
    assert not any(denoiser[name].any() for name in silent)
    theirs = Wav2Vec2Model.from_pretrained(parts / "wav2vec2")
    assert fingerprint(load_part(made[0], "audio_encoder").network) == fingerprint(theirs)


def test_each_form_makes_the_same_model(init, made):
    """New weights too: they follow the seed."""
    code, _, _, folder = init(sd15="v1-5.safetensors", motion_module="adapter")
    assert code == 0
    for part in ("reference_net", "denoiser", "audio_projection", "audio_to_latents", "vae"):
        first, second = tensors(made[0], part), tensors(folder, part)
        assert first.keys() == second.keys()
        assert all(torch.equal(tensor, second[name]) for name, tensor in first.items()), part
    record = json.loads((folder / "init.json").read_text())
    assert record["sources"]["sd15"]["skipped"] == {"autoencoder": 248, "noise schedule": 1}


def test_another_seed_in_half_precision(init, made):
    code, _, _, folder = init(dtype="bfloat16", seed=1)
    assert code == 0
    for part in ("reference_net", "denoiser", "audio_projection", "audio_to_latents"):
        assert {t.dtype for t in tensors(folder, part).values()} == {torch.bfloat16}
    assert {t.dtype for t in tensors(folder, "vae").values()} == {torch.float32}
    heard = tensors(folder, "audio_encoder", "model.safetensors")
    assert {t.dtype for t in heard.values()} == {torch.float32}
    LoopyPipeline.from_pretrained(folder)
    for part, name in (
        ("denoiser", "mid_block.inter_clip.0.attn1.to_q.weight"),
        ("audio_projection", "proj1.weight"),
    ):
        new, old = tensors(folder, part)[name].float(), tensors(made[0], part)[name]
        assert (new - old).abs().mean() > 0.3 * old.abs().mean()
    silent = [t for n, t in tensors(folder, "denoiser").items() if "clip" in n and "proj_out" in n]
    assert len(silent) == 84  # without a motion module, intra-clip layers too
    assert not any(tensor.any() for tensor in silent)


def test_a_model_is_made_once(init, made):
    folder, printed = made
    same = {"motion_module": "mm_sd_v15_v2.ckpt", "out": folder}
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    code, out, err, _ = init(**same)
    assert (code, out) == (0, printed)
    assert "is there already, made of just this" in err
    for change in ({"seed": 1}, {"motion_module": "adapter"}, {"dtype": "float16"}):
        code, _, err, _ = init(**same | change)
        assert code == 2
        assert "is not this model; give --out another name" in err
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_a_surprise_leaves_nothing(init, parts, tmp_path):
    state = load_file(parts / "sd15/vae/diffusion_pytorch_model.safetensors")
    del state["quant_conv.bias"]
    save_file(state, tmp_path / "vae.safetensors")
    code, _, err, folder = init(vae=tmp_path / "vae.safetensors")
    assert code == 2
    assert "the file lacks quant_conv.bias" in err
    assert not folder.parent.exists()


def test_a_disk_that_takes_no_more_leaves_nothing(init):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
    try:
        code, _, err, folder = init()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert code == 2
    assert "cannot be written" in err
    assert not list(folder.parent.iterdir())


def old_wav2vec2(folder, kind=Wav2Vec2ForCTC, **changes):
    """As it was published: one pickle, everything under wav2vec2., weight_g and weight_v."""
    network = kind(Wav2Vec2Config(**(HEARING | changes)))
    network.config.save_pretrained(folder)
    words = {"parametrizations.weight.original0": "weight_g"}
    words |= {"parametrizations.weight.original1": "weight_v"}
    state = network.state_dict()
    for new, old in words.items():
        state = {name.replace(new, old): tensor for name, tensor in state.items()}
    state.pop("wav2vec2.masked_spec_embed")
    assert any(name.endswith("conv.weight_g") for name in state)
    torch.save(state, folder / "pytorch_model.bin")
    return network.wav2vec2


@pytest.mark.parametrize("kind", [Wav2Vec2ForCTC, Wav2Vec2ForPreTraining])
def test_old_files_of_wav2vec2(kind, init, tmp_path):
    (tmp_path / "old").mkdir()
    theirs = old_wav2vec2(tmp_path / "old", kind).state_dict()
    code, _, err, folder = init(wav2vec2=tmp_path / "old")
    assert code == 0, err
    ours = load_part(folder, "audio_encoder").network.state_dict()
    assert all(torch.equal(ours[n], theirs[n]) for n in ours if n != "masked_spec_embed")
    record = json.loads((folder / "init.json").read_text())["parts"]["audio_encoder"]
    assert record["new"] == {"mask of its training": 1}
    assert set(record["skipped"]) <= {"letters", "quantiser"}


def hubert(folder):
    says = Wav2Vec2Config(**HEARING).to_dict() | {"model_type": "hubert"}
    (folder / "config.json").write_text(json.dumps(says))


SOUNDS = {
    "is a hubert network": hubert,
    "has 5 layers of width 8, the audio projection expects 3 of 8": lambda folder: old_wav2vec2(
        folder, num_hidden_layers=4
    ),
    "has a vector for 640 samples": lambda folder: old_wav2vec2(
        folder, conv_stride=(5, 2, 2, 2, 2, 2, 4)
    ),
}


@pytest.mark.parametrize("message", SOUNDS)
def test_another_speech_network(message, init, tmp_path):
    (tmp_path / "other").mkdir()
    SOUNDS[message](tmp_path / "other")
    code, _, err, _ = init(wav2vec2=tmp_path / "other")
    assert code == 2
    assert message in err


def test_wav2vec2_that_lacks_a_tensor(init, parts, tmp_path):
    network = Wav2Vec2Model(Wav2Vec2Config(**HEARING))
    network.save_pretrained(tmp_path / "cut")
    state = load_file(tmp_path / "cut/model.safetensors")
    del state["encoder.layers.1.attention.q_proj.bias"]
    save_file(state, tmp_path / "cut/model.safetensors", {"format": "pt"})
    code, _, err, _ = init(wav2vec2=tmp_path / "cut")
    assert code == 2
    assert "lacks encoder.layers.1.attention.q_proj.bias" in err


@pytest.mark.parametrize(
    ("changes", "more", "message"),
    [
        ({}, ["--inter_clip_from_motion_module"], "needs a --motion_module"),
        ({"wav2vec2": "no/such"}, [], "no/such is no folder, and no wav2vec2 of the hub"),
        ({"sd15": "none.ckpt"}, [], "no file none.ckpt"),
        ({"config": "none.yaml"}, [], "no recipe 'none.yaml'"),
        ({"dtype": "int8"}, [], "dtype"),
    ],
)
def test_wrong_words_are_one_line(changes, more, message, init):
    code, _, err, _ = init(*more, **changes)
    assert code == 2
    assert message in err
    assert sum("loopy: error" in line for line in err.splitlines()) == 1


def test_the_recipe_that_ships_says_what_is_read(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(words("z", "--print_config", config="configs/sd15/model.yaml"))
    assert stopped.value.code == 0
    parsed = yaml.safe_load(capsys.readouterr().out)
    written = yaml.safe_load(MODEL.read_text())
    for part, block in written["network"]["init_args"].items():
        assert (
            parsed["network"]["init_args"][part]["init_args"].items() >= block["init_args"].items()
        )
    assert parsed["text_width"] == 768
