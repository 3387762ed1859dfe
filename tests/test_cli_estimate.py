"""`loopy estimate` as a user types it."""

import json
from collections import Counter

import pytest
import yaml

from loopy.cli import main
from loopy.commands.estimate import card_bytes, estimate_json, merged_recipe
from loopy.commands.estimate_recipe import CHECKPOINTING, FROZEN, TrainingPlan, Variant
from loopy.errors import ConfigurationError
from loopy.training.ema import MovingAverage
from loopy.training.memory import MemoryBreakdown, StepCost, StorageTracker
from loopy.training.memory_inference import InferenceCost
from loopy.training.stages import ClipStage

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # lightning and jsonargparse

UNET = {
    "block_out_channels": [16, 24],
    "attention": [True, False],
    "layers_per_block": 1,
    "heads": 2,
    "norm_num_groups": 4,
}


def of(class_path, **init_args):
    return {"class_path": class_path, "init_args": init_args}


@pytest.fixture
def recipe(tmp_path):
    """A clip stage whose store and parts do not exist yet."""
    network = of(
        "loopy.models.DualUNet",
        reference_net=of("loopy.models.UNet", **UNET, in_channels=4, out_channels=None),
        denoiser=of("loopy.models.UNet", **UNET, in_channels=4, clip_frames=3, motion_slots=4),
        motion_gradient=True,
    )
    settings = {
        "size_px": 64,
        "clip_frames": 3,
        "contract": {"layout": {"stride": 2, "segments": 2}},
    }
    said = {
        "seed_everything": 0,
        "model": of(
            "loopy.training.stages.ClipStage",
            network=network,
            scheduler=of(
                "diffusers.DDIMScheduler",
                clip_sample=False,
                set_alpha_to_one=False,
                prediction_type="v_prediction",
                rescale_betas_zero_snr=True,
                timestep_spacing="trailing",
            ),
            settings=settings,
            parts="no/parts",
            init_from="models/nowhere",
        ),
        "data": of(
            "loopy.training.store_clips.StoreClips",
            store="no/store",
            layout=settings["contract"]["layout"],
            clip_frames=3,
            batch_size=2,
        ),
        "trainer": {
            "accelerator": "gpu",
            "devices": 4,
            "strategy": "ddp",
            "precision": "bf16-mixed",
            "callbacks": [of("loopy.training.ema.MovingAverage")],
        },
    }
    path = tmp_path / "clip.yaml"
    path.write_text(yaml.safe_dump(said))
    return path


def test_it_reads_the_recipe_and_names_what_fits(recipe, tmp_path, capsys):
    said = yaml.safe_load(recipe.read_text())
    said["model"]["class_path"] = "loopy.training.stages.ImageStage"
    del said["model"]["init_args"]["network"]["init_args"]["denoiser"]["init_args"]["clip_frames"]
    recipe.write_text(yaml.safe_dump(said))
    overlay = tmp_path / "eight.yaml"
    overlay.write_text("model: {init_args: {optimizer: adamw_8bit}}")
    words = ["estimate", "--config", str(recipe), "--config", str(overlay), "--card", "24GB"]
    assert main(words) == 0
    said = capsys.readouterr().out
    for part in ("each of 4 devices (ddp)", "buckets of DDP", "moving average", "TFLOP"):
        assert part in said
    assert (
        said.rstrip()
        .splitlines()[-1]
        .startswith(f"{recipe} + {overlay} is the first that fits 24 GiB: ")
    )


@pytest.mark.slow
def test_each_variant_is_tried_where_none_fits(recipe, capsys):
    assert main(["estimate", "--config", str(recipe), "--card", "1.5", "--json", "true"]) == 0
    told = json.loads(capsys.readouterr().out)
    tried = {tuple(each["changes"]): each["peak"] for each in told["variants"]}
    assert len(tried) == len(told["variants"]) == 9
    again = ("gradient checkpointing",)
    assert tried[()] == told["training"]["peak"] > tried[again]
    assert tried[again] > tried[(*again, "FSDP2")]
    assert tried[again] > tried[(*again, "no history gradient")] > tried[(*again, "frozen nets")]
    assert told["training"]["flops_a_step"] > told["inference"]["step"] > 0


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--card", "big"], "no card 'big'"),
        (["--gpus", "0"], "--gpus is at least 1, got 0"),
        (["--trainer.strategy", "deepspeed_stage_2"], "no estimate for the strategy"),
        (["--trainer.precision", "64-true"], "no estimate for precision '64-true'"),
        (["--model.init_args.network.init_args.denoiser.init_args.in_channels", "5"], "5 channels"),
    ],
)
def test_what_has_no_estimate_is_one_line(recipe, words, part, capsys):
    assert main(["estimate", "--config", str(recipe), *words]) == 2
    answer = capsys.readouterr()
    assert answer.out == ""
    assert part in answer.err
    assert answer.err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ([], "nothing to estimate"),
        (["--config", "configs/none.yaml"], "no recipe 'configs/none.yaml'"),
        (["--config", "configs/toon/audio.yaml"], "give an image or clip stage"),
    ],
)
def test_without_a_stage_it_says_so(words, part, capsys):
    assert main(["estimate", *words]) == 2
    assert part in capsys.readouterr().err


@pytest.mark.parametrize(
    ("card", "gib"), [("24GB", 24), ("a100_80", 79.2), ("H100", 79.2), ("11.5", 11.5)]
)
def test_cards_by_name_or_size(card, gib):
    assert card_bytes(card) == gib * 2**30


@pytest.mark.parametrize("card", ["a hundred", "-4", "nan", "0GB"])
def test_no_such_card(card):
    with pytest.raises(ConfigurationError, match="card"):
        card_bytes(card)


def test_json_has_bytes_and_operations():
    memory = MemoryBreakdown(Counter(weights=5), Counter(weights=6, average=2), Counter(weights=7))
    step = StepCost(StorageTracker(), validating=1, trained=(1,), unit=1)
    sizes = {
        "networks": 1,
        "around": 2,
        "keys": {"past": 3},
        "seen": 1,
        "denoising": 4,
        "decoding": 5,
    }
    flops = {"once": 1, "clip": 2, "step": 9, "plain": 3, "decode": 4}
    inference = InferenceCost(**sizes, **flops, frames=2, steps=3, guided=1)
    given = [Variant((CHECKPOINTING,), "--words", memory)]
    read = json.loads(json.dumps(estimate_json(step, memory, inference, given)))
    assert read["training"]["update"] == {"weights": 6, "average": 2}
    assert read["training"]["peak"] == read["variants"][0]["peak"] == 8
    assert read["inference"]["peak"] == 1 + 2 + 5
    assert read["inference"]["flops_a_frame"] == (2 + 9 + 2 * 3 + 4) / 2


class Stage(ClipStage):
    """A stage of somebody's own."""


class Average(MovingAverage):
    """A callback of somebody's own."""


def test_stages_and_callbacks_are_known_by_their_kind(recipe):
    said = yaml.safe_load(recipe.read_text())
    said["model"]["class_path"] = f"{__name__}.Stage"
    said["trainer"]["callbacks"] = [of(f"{__name__}.Average", decay=0.9)]
    recipe.write_text(yaml.safe_dump(said))
    plan = TrainingPlan.of(merged_recipe(["--config", str(recipe)]))
    assert plan.setup.averaged
    assert not plan.samples
    changed = plan.changed((CHECKPOINTING, FROZEN))
    assert changed.model["init_args"]["trained"] == "added"
