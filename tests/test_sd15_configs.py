"""The recipes of real size fit each other, and the model that `loopy init` makes."""

import shlex
from functools import reduce
from itertools import pairwise
from pathlib import Path

import pytest
import torch
import yaml
from jsonargparse import ArgumentParser

from loopy.models import DualUNet
from loopy.pipeline import LoopyPipeline
from loopy.training.distillation.stage import DistillationStage
from loopy.training.module import LoopyModule
from loopy.training.start import start_from

ROOT = Path(__file__).parents[1] / "configs/sd15"
OURS = ("log_mean", "log_std")
"""Options of audio-to-latents that every data set has its own of."""


def read(name):
    return yaml.safe_load((ROOT / f"{name}.yaml").read_text())


def stage(name):
    return read(name)["model"]["init_args"]


def network(name):
    """Options of each network by its name."""
    model = read(name) if name == "model" else stage(name)
    parts = model["network"]["init_args"]
    named = {part: each["init_args"] for part, each in parts.items() if isinstance(each, dict)}
    return {p: {k: v for k, v in o.items() if k not in OURS} for p, o in named.items()}


def test_the_clip_stage_trains_the_networks_that_init_makes():
    assert network("clip") == network("model")
    assert stage("clip")["scheduler"] == read("model")["scheduler"]
    assert stage("clip")["settings"] == read("model")["settings"]


def test_the_image_stage_trains_them_without_sound_and_time():
    whole, image = network("model"), network("image")
    time_and_sound = ("audio_dim", "clip_frames", "motion_slots", "temporal_attentions")
    for name in time_and_sound:
        whole["denoiser"].pop(name)
    assert image == {part: whole[part] for part in ("reference_net", "denoiser")}
    assert stage("image")["scheduler"] == read("model")["scheduler"]
    ours, theirs = stage("image")["settings"], read("model")["settings"]
    assert ours["sampling"].pop("reference_ratio") == theirs["sampling"].pop("reference_ratio")
    del ours["sampling"]["audio_ratio"], theirs["sampling"]["audio_ratio"]
    assert ours == theirs


@pytest.mark.parametrize(("name", "batch"), [("clip", 24), ("image", 48)])
def test_the_batch_is_the_papers_on_one_machine(name, batch):
    """`loopy fit` waits for the ranks of all machines, and starts those of one."""
    trainer = read(name)["trainer"]
    accumulated = trainer["accumulate_grad_batches"]
    assert trainer["num_nodes"] == 1
    assert trainer["devices"] * accumulated * read(name)["data"]["init_args"]["batch_size"] == batch
    assert trainer["val_check_interval"] == 1000 * accumulated  # it counts batches
    strategy = read("fsdp2")["trainer"]["strategy"]["init_args"]
    assert strategy["data_parallel_size"] == trainer["devices"]
    assert {stage(name)["learning_rate"] for name in ("image", "clip")} == {1e-5}


def test_stage_2_starts_where_stage_1_is_exported():
    """As the docs say: init's folder beneath, the export of the image stage on top."""
    beneath, top = stage("clip")["init_from"]
    assert beneath == stage("image")["init_from"]
    assert beneath == stage("image")["parts"] == stage("clip")["parts"]
    assert Path(top).parent == Path(read("image")["trainer"]["default_root_dir"]).parent


def test_each_variant_has_a_folder_of_its_own():
    """Or a run goes on from the checkpoint of another."""
    variants = {path.stem for path in ROOT.glob("*.yaml")} - {"model", "fsdp2"}
    assert len({read(name)["trainer"]["default_root_dir"] for name in variants}) == len(variants)


def needs_and_makes(words):
    """Folders that a command reads, and those that it leaves."""
    options = dict(pairwise(words))
    needs = {options[name] for name in ("--parts", "--ckpt", "--model") if name in options}
    makes = {options[name] for name in ("--out",) if name in options}
    if words[1] == "preprocess":
        makes |= {words[3]}
    if words[1:3] == ["data", "report"]:
        needs |= {words[3]}
    if words[1] == "fit":
        recipes = [Path(after).stem for name, after in pairwise(words) if name == "--config"]
        whole = reduce(laid_over, map(read, recipes))
        model = whole["model"]["init_args"]
        start = model["init_from"]
        data = whole["data"]["init_args"]
        data = data.get("data", {"init_args": data})["init_args"]
        needs |= {*([start] if isinstance(start, str) else start), data["store"], model["parts"]}
        makes |= {whole["trainer"]["default_root_dir"]}
    return needs, makes


def test_no_command_of_the_whole_way_needs_what_a_later_one_makes():
    page = (ROOT.parents[1] / "docs/training.md").read_text()
    block = page.partition("## Training at real size")[2].partition("```bash\n")[2]
    lines = block.partition("```")[0].replace("\\\n", " ").splitlines()
    commands = [shlex.split(line, comments=True) for line in lines if line.startswith("loopy ")]
    assert len(commands) == 9
    there = set()
    for words in commands:
        needs, makes = needs_and_makes(words)
        for folder in needs:
            assert any(Path(folder).is_relative_to(made) for made in there), (words, folder)
        there |= makes


@pytest.mark.parametrize("folder", ["sd15", "toon"])
def test_overfitting_sees_the_data_of_the_stage(folder):
    """Laid over it, a class of data takes no options over; they stand in the overlay again."""
    base, overlay = (
        yaml.safe_load((ROOT.parent / folder / f"{name}.yaml").read_text())["data"]["init_args"]
        for name in ("clip", "overfit")
    )
    inner = overlay["data"]["init_args"]
    differ = {"parts", "cache", "talks", "held_out", "batch_size", "skip_damaged", "workers"}
    assert {k: v for k, v in base.items() if k not in differ} == {
        k: v for k, v in inner.items() if k not in differ
    }


def laid_over(node, overlay):
    if not (isinstance(overlay, dict) and isinstance(node, dict)):
        return overlay
    return node | {name: laid_over(node.get(name), value) for name, value in overlay.items()}


@pytest.mark.parametrize(("name", "overlay"), [("image", "quarter_image"), ("clip", "quarter")])
def test_quarter_widths_make_networks(name, overlay):
    """A sixteenth of the UNets' weights."""
    parser = ArgumentParser()
    parser.add_subclass_arguments(DualUNet, "network")
    whole = stage(name)["network"]
    counts = []
    for options in (whole, laid_over(whole, stage(overlay)["network"])):
        with torch.device("meta"):
            built = parser.instantiate(parser.parse_object({"network": options}))["network"]
        nets = (built.reference_net, built.denoiser)
        counts.append(sum(p.numel() for net in nets for p in net.parameters()))
    assert 12 < counts[0] / counts[1] < 17


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:You are trying to `self.log")
def test_guidance_then_steps_are_distilled_at_quarter_widths(make_pipeline, make_clip, tmp_path):
    """Both runs of distil.yaml, a step each, with the clip stage's model as the first teacher."""
    parser = ArgumentParser()
    parser.add_subclass_arguments(LoopyModule, "model")

    def built(*recipes, **changes):
        options = reduce(laid_over, map(read, recipes))["model"]
        options = laid_over(options, {"init_args": {"init_from": None, "parts": None} | changes})
        if conditions := options["init_args"]["network"]["init_args"].get("conditions"):
            conditions["guidance"]["init_args"]["time_dim"] = 320
        return parser.instantiate(parser.parse_object({"model": options}))["model"]

    first, second = tmp_path / "clip_model", tmp_path / "guided_model"
    parts, clip_stage = make_pipeline(), built("clip", "quarter")
    LoopyPipeline(
        clip_stage.network,
        parts.audio_encoder,
        parts.vae,
        clip_stage.scheduler,
        clip_stage.settings,
    ).save_pretrained(first)
    clip = make_clip(
        1,
        latents=torch.randn(1, 12, 4, 16, 16),
        reference=torch.randn(1, 4, 16, 16),
        motion_frames=torch.randn(1, 20, 4, 16, 16),
        past_present=torch.ones(1, 20, dtype=torch.bool),
        audio=torch.randn(1, 12, 5, 13, 768),
        landmarks=torch.randn(1, 12, 204),
    )
    few = {"settings": {"sampling": {"steps": 4}}}
    for folder, changes in ((first, {}), (second, few)):
        stage = built("clip", "distil", "quarter", teacher=str(folder), **changes)
        assert isinstance(stage, DistillationStage)
        start_from(stage.network, stage.init_from)
        stage.training_step(clip, 0).backward()
        gradient = stage.network.denoiser.conv_in.weight.grad
        assert gradient is not None
        assert gradient.isfinite().all()
        assert gradient.any()
        stage.export(second)
    assert LoopyPipeline.from_pretrained(second).settings.sampling.steps == 4
