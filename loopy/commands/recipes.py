"""Recipes by their names: a file, or one that comes with the package."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from loopy.errors import ConfigurationError

MOVED = {
    "animator.Animator": "predict.Animator",
    "callbacks.MovingAverage": "ema.MovingAverage",
    "callbacks.SampleSheet": "samples.ValidationSamples",
    "drops.DropRates": "dropout.ConditionDropout",
    "faces.SyntheticFaces": "autoencoder.SyntheticFaces",
    "jobs.Jobs": "predict.Jobs",
    "same_clip.Reproduction": "samples.ValidationSamples (psnr: true)",
    "sample_log.SampleLog": "samples.ValidationSamples",
    "speaking.SpeakingPortraits": "samples.ValidationSamples (speeches)",
    "step_size.StepSize": "optim.StepSize",
    "throughput.Throughput": "monitors.Throughput",
    "timestep_losses.TimestepLosses": "monitors.TimestepLosses",
    "utterances.SyntheticSpeech": "speech.SyntheticSpeech",
}
"""Classes of `loopy.training` that older recipes name, and where they are now."""
MOST_VALUES = 100_000
"""A recipe has a few hundred; aliases of aliases can stand for more than fit into memory."""


def with_recipe(word: str, before: str) -> str:
    """A word of a command, with the file of a recipe in place of its name.

    Args:
        word: The word.
        before: The word before it: names a recipe where this is ``--config``.

    Raises:
        ConfigurationError: See `find_recipe` and `read_recipe`.
    """
    option, equals, name = word.rpartition("=")
    if before in ("-c", "--config"):
        option, equals, name = "", "", word
    elif option not in ("-c", "--config"):
        return word
    found = find_recipe(name)
    read_recipe(found)
    return f"{option}{equals}{found}"


def find_recipe(name: str) -> Path:
    """A recipe's file: as it is given, or where the package keeps its recipes.

    Raises:
        ConfigurationError: There is none.
    """
    package = Path(__file__).parents[1]
    inside = Path(name).relative_to("configs") if name.startswith("configs/") else Path(name)
    places = (Path(name), package / "configs" / inside, package.parent / "configs" / inside)
    for place in places:
        if place.is_file():
            return place
    raise ConfigurationError(f"no recipe {name!r}; give a YAML file, for example toon/vae.yaml")


def read_recipe(path: Path) -> dict[str, Any]:
    """What a recipe says, in plain values.

    Raises:
        ConfigurationError: It is no YAML, no mapping, of an older version, or stands for more
            values than any recipe.
    """
    try:
        text = path.read_text(encoding="utf-8")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        values = 0 if node is None else _values(node, {})  # before merges are written out
        recipe = yaml.safe_load(text) if values <= MOST_VALUES else None
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ConfigurationError(f"{path} is no YAML that can be read ({reason})") from error
    if values > MOST_VALUES:
        raise ConfigurationError(f"{path} stands for over {MOST_VALUES} values by its aliases")
    if not isinstance(recipe, dict):
        raise ConfigurationError(f"{path} is no mapping; give a recipe, for example toon/vae.yaml")
    _check_age(recipe, path)
    return recipe


def _check_age(recipe: dict[str, Any], path: Path) -> None:
    """Makes sure that settings, and the folder of the frozen networks, are where they are today.

    Raises:
        ConfigurationError: One record holds all of sampling, or the data alone have the folder.
    """
    inside: Any = recipe  # of `loopy init`; of a training they are its model's
    for name in ("model", "init_args"):
        inside = inside.get(name, recipe) if isinstance(inside, dict) else recipe
    settings = inside.get("settings") if isinstance(inside, dict) else None
    if isinstance(settings, dict) and "rollout" in settings:
        raise ConfigurationError(
            f"{path} has settings.rollout of an older version; put steps, audio_ratio, "
            "reference_ratio and stacked into settings.sampling, and layout, residual, noise_share "
            "(now shared_noise) and still_start (now static_history) into settings.contract"
        )
    model, data = (recipe.get(name) or {} for name in ("model", "data"))
    for key, value in _entries(recipe):
        now = MOVED.get(str(value).removeprefix("loopy.training."))
        if key == "class_path" and now:
            raise ConfigurationError(f"{path}: {value} is loopy.training.{now} now")
        if key == "own_past":
            raise ConfigurationError(f"{path}: own_past is self_generated_history now")
    if "class_path" not in model or not isinstance(data, dict):
        return  # an overlay
    asks, given = ({**(each.get("init_args") or {})} for each in (model, data))
    given |= (given.get("data") or {}).get("init_args") or {}  # of SameClip
    if "network" in asks and "parts" in given and "parts" not in asks:
        raise ConfigurationError(
            f"{path} has data.init_args.parts alone, as of an older version; move it to "
            "model.init_args.parts (SyntheticTalks needs it in both places)"
        )


def _entries(node: Any) -> Iterator[tuple[str, Any]]:
    """Keys and values of a recipe, at any depth."""
    pairs = (
        node.items() if isinstance(node, dict) else enumerate(node if type(node) is list else ())
    )
    for key, value in pairs:
        yield str(key), value
        yield from _entries(value)


def _values(node: yaml.Node, known: dict[yaml.Node, int]) -> int:
    """How many values a node stands for; one that holds itself recurs until Python stops it."""
    if node not in known:
        inside = node.value if isinstance(node, yaml.CollectionNode) else []
        pairs = (each if isinstance(each, tuple) else (each,) for each in inside)
        known[node] = 1 + sum(_values(each, known) for pair in pairs for each in pair)
    return known[node]
