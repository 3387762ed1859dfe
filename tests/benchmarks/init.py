"""`loopy init` at real size, out of random files in the real formats: seconds, memory, disk.

Takes 18 GB of disk in a folder that is removed again, and 8 GB of memory:

    python tests/benchmarks/init.py
"""

import argparse
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from subprocess import Popen
from time import monotonic, sleep

import torch
import yaml
from diffusers import AutoencoderKL, MotionAdapter, UNet2DConditionModel
from safetensors.torch import save_file
from torch import Tensor
from transformers import Wav2Vec2Config, Wav2Vec2Model

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from tests.sd15_names import old_motion_module, old_unet, old_vae  # noqa: E402

RECIPE = ROOT / "configs/sd15/model.yaml"


def filled(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Random numbers, and counted positions, in place of tensors without memory."""
    return {
        name: torch.arange(t.numel()).float().reshape(t.shape)
        if name.endswith("pos_embed.pe")
        else torch.empty(t.shape).uniform_(-0.02, 0.02)
        for name, t in state.items()
    }


def write_parts(folder: Path) -> None:
    """SD1.5 as a single file, a motion module in the original names, wav2vec2-base."""
    with torch.device("meta"):
        unet = UNet2DConditionModel(cross_attention_dim=768)
        vae = AutoencoderKL(**yaml.safe_load(RECIPE.read_text())["autoencoder"])
        module = MotionAdapter()
    whole = old_unet(filled(unet.state_dict())) | old_vae(filled(vae.state_dict()))
    save_file(whole, folder / "v1-5.safetensors")
    del whole
    torch.save(old_motion_module(filled(module.state_dict())), folder / "mm_sd_v15_v2.ckpt")
    Wav2Vec2Model(Wav2Vec2Config()).save_pretrained(folder / "wav2vec2")


def anonymous_gb(process: Popen) -> float:
    """Memory that a process holds now, without pages of files."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1e6


def main() -> None:
    """Writes parts, makes a model of them, says what it took, and removes all of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dtype", default="float32")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_parts(folder)
        words = f"init --config {RECIPE} --sd15 v1-5.safetensors --wav2vec2 wav2vec2 --out model"
        words += f" --motion_module mm_sd_v15_v2.ckpt --dtype {options.dtype}"
        begin, peak = monotonic(), 0.0
        process = Popen([sys.executable, "-m", "loopy", *words.split()], cwd=folder)
        while process.poll() is None:
            peak = max(peak, anonymous_gb(process))
            sleep(0.1)
        size = sum(path.stat().st_size for path in (folder / "model").rglob("*.safetensors"))
        print(
            f"exit code {process.returncode}: {monotonic() - begin:.0f} s, at most {peak:.1f} GB "
            f"of memory, {size / 1e9:.2f} GB on disk"
        )


if __name__ == "__main__":
    main()
