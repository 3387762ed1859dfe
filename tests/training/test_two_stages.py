"""From an untrained model to stage 2 by the recipes of real size, at quarter widths."""

import re

import pytest
import torch
import yaml
from diffusers import AutoencoderKL, DDIMScheduler
from jsonargparse import ArgumentParser
from safetensors.torch import load_file
from transformers import Wav2Vec2Config

from loopy.cli import main
from loopy.commands.recipes import find_recipe
from loopy.data.store.description import StoreDescription, create_store
from loopy.data.store.index_build import build_index
from loopy.data.store.shots import Provenance, ShotRecord, shot_id, write_shot
from loopy.diffusion.settings import Settings
from loopy.models import AudioEncoder, DualUNet
from loopy.motion import MotionSequence
from loopy.pipeline import LoopyPipeline
from loopy.randomness import generator

SIDE, LAYERS, WIDTH, FRAMES = 16, 13, 768, 140


@pytest.fixture
def store(tmp_path):
    """Six clips of noise, as `loopy preprocess` writes them of videos of 128 px."""
    create_store(tmp_path / "store", StoreDescription(128, (4, SIDE, SIDE), (LAYERS, WIDTH)))
    for number in range(6):
        draw = generator("two stages", number)
        points = 30 + 60 * torch.rand(FRAMES, 68, 2, generator=draw)
        valid = torch.ones(FRAMES, 68, dtype=torch.bool)
        about = Provenance(
            f"{number}.mp4", str(number), 0, FRAMES / 25, (0, 0, 128, 128), 25, identity=str(number)
        )
        record = ShotRecord(
            shot_id(str(number), 0, 1, {}),
            torch.randn(FRAMES, 4, SIDE, SIDE, generator=draw),
            torch.randn(FRAMES, LAYERS, WIDTH, generator=draw),
            MotionSequence(points, torch.zeros(FRAMES, 3), valid, 128),
            about,
        )
        write_shot(tmp_path / "store", record)
    build_index(tmp_path / "store", validation=0.3, test=0.0)
    return tmp_path / "store"


def laid_over(node, overlay):
    if not isinstance(overlay, dict):
        return overlay
    return node | {name: laid_over(node.get(name), value) for name, value in overlay.items()}


@pytest.fixture
def begun(tmp_path):
    """An untrained model of quarter widths, random, in the form that `loopy init` writes."""
    recipes = (
        yaml.safe_load(find_recipe(f"sd15/{n}.yaml").read_text()) for n in ("clip", "quarter")
    )
    options = laid_over(*(recipe["model"]["init_args"] for recipe in recipes))
    parser = ArgumentParser()
    parser.add_subclass_arguments(DualUNet, "network")
    network = parser.instantiate(parser.parse_object({"network": options["network"]})).network
    hearing = Wav2Vec2Config(
        hidden_size=WIDTH,
        num_hidden_layers=LAYERS - 1,
        num_attention_heads=8,
        intermediate_size=32,
        conv_dim=(16,) * 7,
    )
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8, 8, 8, 8),
        norm_num_groups=4,
    )
    schedule = DDIMScheduler(**options["scheduler"]["init_args"])
    encoder = AudioEncoder.from_config(hearing)
    pipeline = LoopyPipeline(network, encoder, vae, schedule, Settings(size_px=128))
    pipeline.save_pretrained(tmp_path / "sd15")
    return tmp_path / "sd15"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_both_stages_take_their_steps(store, begun, tmp_path, capfd):
    def fit(stage, overlay, *options):
        words = ["fit", "--config", f"configs/sd15/{stage}.yaml"]
        words += ["--config", f"configs/sd15/{overlay}.yaml", *options]
        words += [f"--data.store={store}", f"--model.parts={begun}", "--data.workers=0"]
        words += ["--model.warmup_steps=0", "--model.learning_rate=1e-4", "--trainer.max_steps=3"]
        words += [f"--trainer.default_root_dir={tmp_path}/{stage}"]
        assert main([*words, "--trainer.limit_val_batches=0"]) == 0
        rows = re.findall(r"^(\w+) +(\d+) +(\d+) +(\d+)", capfd.readouterr().out, re.MULTILINE)
        return {part: [int(count) for count in counts] for part, *counts in rows}

    def export(stage, *options):
        last = tmp_path / stage / "checkpoints" / "last.ckpt"
        model = tmp_path / f"{stage}_model"
        assert main(["export", "--ckpt", str(last), "--out", str(model), *options]) == 0
        return model

    table = fit("image", "quarter_image", f"--model.init_from={begun}")
    assert table["denoiser"][1] == table["audio_projection"][0] == 0
    assert table["denoiser"][2] > 0
    image = export("image", "--dtype", "float32")
    part = "denoiser/diffusion_pytorch_model.safetensors"
    trained, untrained = load_file(image / part), load_file(begun / part)
    assert {value.dtype for value in trained.values()} == {torch.float32}
    assert not torch.equal(trained["conv_in.weight"], untrained["conv_in.weight"])

    table = fit("clip", "quarter", f"--model.init_from=[{begun},{image}]")
    assert all(new == skipped == 0 for _, new, skipped in table.values())
    assert len(table) == 4
    model = LoopyPipeline.from_pretrained(export("clip"))
    final = model.network.denoiser.state_dict()
    assert (final["conv_in.weight"] - trained["conv_in.weight"]).abs().max() < 1e-3
    assert final["mid_block.inter_clip.0.proj_out.weight"].any()
    assert all(value.isfinite().all() for value in final.values())
