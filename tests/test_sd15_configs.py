"""The recipes of real size fit each other, and the model that `loopy init` makes."""

from pathlib import Path

import pytest
import torch
import yaml
from jsonargparse import ArgumentParser

from loopy.models import DualUNet

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
    assert (
        ours["rollout"].pop("guidance")["reference"]
        == theirs["rollout"].pop("guidance")["reference"]
    )
    assert ours == theirs


def test_the_batch_is_the_papers():
    clip = read("clip")
    devices = clip["trainer"]["devices"] * clip["trainer"]["num_nodes"]
    assert devices * clip["data"]["init_args"]["batch_size"] == 24
    assert {stage(name)["learning_rate"] for name in ("image", "clip")} == {1e-5}


def test_stage_2_starts_where_stage_1_is_exported():
    """As the docs say: init's folder beneath, the export of the image stage on top."""
    beneath, top = stage("clip")["init_from"]
    assert beneath == stage("image")["init_from"] == read("image")["data"]["init_args"]["parts"]
    assert Path(top).parent == Path(read("image")["trainer"]["default_root_dir"]).parent


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
    if not isinstance(overlay, dict):
        return overlay
    return node | {name: laid_over(node[name], value) for name, value in overlay.items()}


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
