"""Every recipe is parsed by the code that runs it, and the toon recipes fit each other."""

import re
from pathlib import Path

import pytest
import yaml

from loopy.cli import main

ROOT = Path(__file__).parents[1]
PREPROCESS = sorted(ROOT.glob("configs/preprocess/*.yaml"))
MODEL = ROOT / "configs/sd15/model.yaml"  # for `loopy init`; see tests/test_cli_init.py
RECIPES = sorted(set(ROOT.glob("configs/**/*.yaml")) - {*PREPROCESS, MODEL})
BASES = {"ablations": "base.yaml", "sd15": "clip.yaml", "toon": "clip.yaml"}
"""What a recipe without a class is laid over, by its folder."""


def parsed(recipe, capsys):
    """A recipe as the code understands it, laid over its base if it needs one."""
    written = yaml.safe_load(recipe.read_text())
    whole = "class_path" in written.get("model", {}) or recipe.stem == "predict"
    whole = whole and recipe.stem != "distil"  # another class, laid over all of the clip stage
    base = "image.yaml" if recipe.stem.endswith("_image") else BASES.get(recipe.parent.name)
    layers = [recipe] if whole else [recipe.with_name(str(base)), recipe]
    words = ["predict" if recipe.stem == "predict" else "fit"]
    for layer in layers:
        words += ["--config", str(layer)]
    with pytest.raises(SystemExit) as stopped:
        main([*words, "--print_config"])
    assert stopped.value.code == 0
    return written, yaml.safe_load(capsys.readouterr().out)


def says(node, written):
    """Whether a parsed configuration holds all that is written, at any depth."""
    if isinstance(written, dict):
        return all(name in node and says(node[name], value) for name, value in written.items())
    if isinstance(written, list):
        return len(node) == len(written) and all(map(says, node, written))
    return node == written


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # between lightning and jsonargparse
@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: f"{path.parent.stem}-{path.stem}")
def test_recipes_parse(recipe, capsys):
    written, understood = parsed(recipe, capsys)
    for part in ("model", "trainer"):
        assert says(understood.get(part, {}), written.get(part, {})), part
    if recipe.parent.name == "ablations":
        model, data = (understood[part]["init_args"] for part in ("model", "data"))
        layout = model["settings"]["contract"]["layout"]
        assert data["layout"] == layout
        slots = model["network"]["init_args"]["denoiser"]["init_args"]["motion_slots"]
        assert slots == layout["stride"] * layout["segments"]


ONCE = ("clip_frames", "static_history", "audio_dim", "token_width", "layout", "drops")
"""What model and data, or two networks, must agree on."""


@pytest.mark.parametrize("recipe", [MODEL, *RECIPES], ids=lambda path: path.stem)
def test_what_must_agree_is_written_once(recipe):
    """Elsewhere an alias stands for it; a recipe inside another one is its own."""
    text = recipe.read_text().partition("\n    data:\n")[0]
    for name in ONCE:
        values = re.findall(rf"\b{name}: *(\S+)", text)
        written = [value for value in values if not value.startswith("*")]
        assert len(written) <= 1, name
    if "audio_dim" in text:
        assert "token_width: *" in text


@pytest.mark.parametrize("recipe", PREPROCESS, ids=lambda path: path.stem)
def test_preprocess_options_parse(recipe, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # who installed by pip has the recipes in the package alone
    words = ["preprocess", "videos", "store", "--parts", "parts"]
    words += ["--config", f"configs/preprocess/{recipe.name}"]
    with pytest.raises(SystemExit) as stopped:
        main([*words, "--print_config"])
    assert stopped.value.code == 0
    parsed = yaml.safe_load(capsys.readouterr().out)
    written = yaml.safe_load(recipe.read_text())["options"]
    for name, value in written.items():
        given = parsed["options"][name]
        assert given.items() >= value.items() if isinstance(value, dict) else given == value


def toon(part):
    return yaml.safe_load((ROOT / f"configs/toon/{part}.yaml").read_text())


def options(part, *path):
    """What a recipe says about a class inside its model."""
    node = toon(part)["model"]["init_args"]
    for name in path:
        node = node[name]["init_args"]
    return node


def test_the_clip_stage_continues_the_image_stage():
    image, clip = options("image"), options("clip")
    denoiser = options("clip", "network", "denoiser")
    assert denoiser.pop("clip_frames") == clip["settings"]["clip_frames"]
    assert denoiser == options("image", "network", "denoiser")
    for part in ("reference_net", "audio_projection", "audio_to_latents"):
        assert options("clip", "network", part) == options("image", "network", part)
    assert clip["scheduler"] == image["scheduler"]
    assert toon("clip")["data"]["init_args"]["cache"] == toon("image")["data"]["init_args"]["cache"]


@pytest.mark.parametrize("part", ["image", "clip"])
def test_the_stages_fit_the_frozen_parts(part):
    latents = options("vae", "network")["latent_channels"]
    for network in ("reference_net", "denoiser"):
        assert options(part, "network", network)["in_channels"] == latents
    assert options(part, "network", "denoiser")["out_channels"] == latents
    projection, hearing = options(part, "network", "audio_projection"), options("audio", "network")
    assert projection["width"] == hearing["width"]
    assert projection["layers"] == hearing["layers"] + 1
    assert toon(part)["model"]["init_args"]["settings"]["size_px"] == 128
    assert toon("vae")["data"]["init_args"]["size_px"] == 128
