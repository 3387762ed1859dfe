"""Every command of "Training at real size" in docs/training.md, in its order, at quarter widths.

The files that the commands name are made first: random, in the real formats. Behind each command
stand words that make it small; DWPose's files cannot be made, so tracks lie beside the videos.
"""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from diffusers import AutoencoderKL, MotionAdapter, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from transformers import Wav2Vec2Config, Wav2Vec2Model

from tests.sd15_names import old_motion_module, old_unet, old_vae

ROOT = Path(__file__).parents[2]
DENOISER, MARKED = "denoiser/diffusion_pytorch_model.safetensors", "conv_in.bias"
WIDTHS = "[80,160,320,320]"
NETWORK = "--network.init_args"
SMALL_INIT = f"""
{NETWORK}.reference_net.init_args.block_out_channels={WIDTHS}
{NETWORK}.reference_net.init_args.norm_num_groups=16
{NETWORK}.denoiser.init_args.block_out_channels={WIDTHS}
{NETWORK}.denoiser.init_args.norm_num_groups=16
{NETWORK}.audio_to_latents.init_args.time_dim=320
--settings.size_px=128
--autoencoder.block_out_channels=[32,64,128,128] --autoencoder.norm_num_groups=16
"""
SMALL_PREPROCESS = r"""
--config configs/preprocess/toon.yaml --device cpu --options.estimator_options={}
--validation 0.5 --options.identity=(\d+)\.m
"""  # names decide who is held out, not the bytes of a video, which differ: two of four
SMALL_FIT = """
--trainer.max_steps=2 --trainer.val_check_interval=2 --trainer.limit_val_batches=1
--model.init_args.settings.sampling.steps=2
"""


def commands():
    """The block of the page, a list of words each; what installs is left out."""
    page = (ROOT / "docs/training.md").read_text()
    block = re.search(r"^## Training at real size$.*?^```bash\n(.*?)^```", page, re.M | re.S)
    lines = block[1].replace("\\\n", " ").splitlines()
    words = [shlex.split(line, comments=True) for line in lines]
    return [line for line in words if line[:1] == ["loopy"]]


def write_parts(folder):
    """SD1.5, wav2vec2-base and AnimateDiff's module under the names that the page gives them."""
    recipe = yaml.safe_load((ROOT / "configs/sd15/model.yaml").read_text())
    small = {"block_out_channels": yaml.safe_load(WIDTHS)}
    unet = UNet2DConditionModel(cross_attention_dim=768, norm_num_groups=16, **small)
    narrow = {"block_out_channels": [32, 64, 128, 128], "norm_num_groups": 16}
    vae = AutoencoderKL(**(recipe["autoencoder"] | narrow))
    module = MotionAdapter(motion_norm_num_groups=16, **small)
    whole = old_unet(unet.state_dict()) | old_vae(vae.state_dict())
    save_file(whole, folder / "v1-5-pruned-emaonly.safetensors")
    torch.save(old_motion_module(module.state_dict()), folder / "mm_sd_v15_v2.ckpt")
    Wav2Vec2Model(Wav2Vec2Config()).save_pretrained(folder / "wav2vec2-base-960h")


def smaller(words, latents):
    """What stands behind a command, that it ends in minutes on a CPU.

    Args:
        words: The command.
        latents: Mean and deviation of the motion latents, as `loopy data report` told them.
    """
    if words[1] == "init":
        return SMALL_INIT.split()
    if words[1] == "preprocess":
        return SMALL_PREPROCESS.split()
    if words[1] == "animate":
        return ["--device", "cpu", "--steps", "2"]
    if words[1] != "fit":
        return []
    run = Path(words[-1]).stem  # of the last recipe
    overlay = "quarter_image" if run == "image" else "quarter"
    start = "[models/sd15,runs/sd15/image_model]" if run == "clip" else "[models/sd15]"
    more = ["--config", f"configs/sd15/{overlay}.yaml", f"--model.init_args.init_from={start}"]
    more += [f"--trainer.default_root_dir=runs/sd15/{run}", *SMALL_FIT.split()]
    to_latents = "--model.init_args.network.init_args.audio_to_latents.init_args"
    if run != "image":  # "put them into clip.yaml"
        more += [f"{to_latents}.{name}={value}" for name, value in latents.items()]
    return more


def mark(file):
    """Adds 1 to a bias, to see where it goes."""
    state = load_file(file)
    state[MARKED] += 1
    save_file(state, file, metadata={"format": "pt"})


@pytest.mark.slow
def test_the_way_in_the_docs(tmp_path):
    def say(words):
        done = subprocess.run(
            [sys.executable, *words],
            cwd=tmp_path,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    write_parts(tmp_path)
    toons = str(ROOT / "examples/toon_videos.py")
    say([toons, "videos", "--videos", "4", "--seconds", "6"])
    say([toons, "own", "--layout", "open-set", "--videos", "1", "--seconds", "1"])
    for name, suffix in (("portrait", ".png"), ("speech", ".wav")):
        next((tmp_path / "own").rglob(f"*{suffix}")).rename(tmp_path / f"{name}{suffix}")

    said, latents = [], {}
    for words in commands():
        out = say(["-m", *words, *smaller(words, latents)])
        said.append((words[1], out))
        for name, value in re.findall(r"(log_mean|log_std)\W+(\[.*?\])", out):
            latents[name] = value.replace(" ", "")
        if "runs/sd15/image_model" in words:  # steps are too small to be known again
            mark(tmp_path / "runs/sd15/image_model" / DENOISER)

    assert set(latents) == {"log_mean", "log_std"}
    assert len(said) == 9
    for verb, out in said:
        if verb == "fit":
            rows = re.findall(r"^(\w+) +(\d+) +(\d+) +(\d+)", out, re.MULTILINE)
            assert rows
            assert all(int(new) == 0 for _, _, new, _ in rows), rows
    runs = tmp_path / "runs/sd15"
    folders = (tmp_path / "models/sd15", runs / "image_model", runs / "clip_model")
    begun, image, clip = (load_file(folder / DENOISER) for folder in folders)
    assert begun.keys() == clip.keys() > image.keys()
    assert {tensor.dtype for tensor in image.values()} == {torch.float32}
    assert not torch.equal(begun["conv_in.weight"], image["conv_in.weight"])
    assert (clip[MARKED] - begun[MARKED]).min() > 0.9  # stage 2 goes on from stage 1
    assert not begun["mid_block.inter_clip.0.proj_out.weight"].any()
    assert clip["mid_block.inter_clip.0.proj_out.weight"].any()
    assert all(tensor.isfinite().all() for tensor in clip.values())
    for run in ("overfit", "image", "clip"):
        assert list((runs / run / "samples").glob("*.png")), run
        assert (runs / run / "losses.png").is_file()
    assert (tmp_path / "out.mp4").stat().st_size > 10_000
