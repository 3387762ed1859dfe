"""Whether a run of an ablation was trained by the recipes as they are now."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from loopy.data.media.finished import content_hash
from loopy.drafts import writing
from loopy.errors import ConfigurationError

RECORD = "recipe"
FREE = {
    ("seed_everything",),
    ("model", "init_args", "seed"),
    ("trainer", "max_steps"),
    ("trainer", "default_root_dir"),
    ("trainer", "val_check_interval"),
}
"""What `loopy ablate` decides itself."""


def joined(recipes: Sequence[Path]) -> dict[str, Any]:
    """Recipes with later ones laid over earlier ones, as `loopy fit` does."""
    found: Any = {}
    for path in recipes:
        found = _over(found, yaml.safe_load(path.read_text()) or {})
    return found


def note(folder: Path, recipes: Sequence[Path]) -> None:
    """Writes down by what a run is trained, and from which weights: RECORD.json in its folder."""
    with writing(folder / f"{RECORD}.json") as hidden:
        hidden.write_text(json.dumps(_record(recipes), indent=2))


def check(folder: Path, recipes: Sequence[Path]) -> None:
    """Makes sure that a run that has begun was trained by these recipes, from these weights.

    One that `loopy fit` began has no record: then all that the recipes say must stand in its
    config.yaml; of the weights it began from nothing is known.

    Args:
        folder: Of the run.
        recipes: As of `joined`.

    Raises:
        ConfigurationError: It was trained otherwise.
    """
    kept, config, now = folder / f"{RECORD}.json", folder / "config.yaml", _record(recipes)
    if kept.is_file():
        told = json.loads(kept.read_text())
        others = {**_apart(now, told), **_apart(told, now)}
    else:
        told = yaml.safe_load(config.read_text()) if config.is_file() else {}
        others = _apart(now["recipe"], told)
    if others:
        raise ConfigurationError(
            f"{folder} was trained by other recipes or from other weights: {min(others)} differs; "
            "delete it, or give another --out"
        )


def _record(recipes: Sequence[Path]) -> dict[str, Any]:
    recipe = joined(recipes)
    start = (recipe.get("model") or {}).get("init_args", {}).get("init_from") or []
    folders = [Path(each) for each in (start if isinstance(start, list) else [start])]
    return {
        "recipe": _without(recipe, ()),
        "weights": {str(each): _folder_hash(each) for each in folders},
    }


def _folder_hash(folder: Path) -> str:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    told = [f"{path.relative_to(folder)} {content_hash(path, 'model')}" for path in files]
    return hashlib.sha256("\n".join(told).encode()).hexdigest()


def _without(value: Any, at: tuple[str, ...]) -> Any:
    """Without what is `FREE`."""
    if not isinstance(value, dict):
        return value
    places = ((key, each, (*at, key)) for key, each in value.items())
    return {key: _without(each, place) for key, each, place in places if place not in FREE}


def _over(below: Any, above: Any) -> Any:
    """Options one by one; another class brings its own."""
    if not (isinstance(below, dict) and isinstance(above, dict)):
        return above
    if above.get("class_path", below.get("class_path")) != below.get("class_path"):
        return above
    return below | {key: _over(below.get(key), value) for key, value in above.items()}


def _apart(wanted: Any, found: Any) -> dict[str, None]:
    """Names of options that are wanted and not found."""
    return dict.fromkeys(_each_apart(wanted, found, ()))


def _each_apart(wanted: Any, found: Any, at: tuple[str, ...]) -> Iterator[str]:
    if wanted and isinstance(wanted, dict):
        for key, value in wanted.items():
            there = found.get(key) if isinstance(found, dict) else None
            yield from _each_apart(value, there, (*at, str(key)))
    elif isinstance(wanted, list) and isinstance(found, list) and len(wanted) == len(found):
        for number, pair in enumerate(zip(wanted, found, strict=True)):
            yield from _each_apart(*pair, (*at, str(number)))
    elif wanted != {} and not _same(wanted, found):
        yield ".".join(at)


def _same(one: Any, other: Any) -> bool:
    """YAML reads 1e-3 as a word, and a parser as a number."""
    try:
        return one == other or float(one) == float(other)
    except (TypeError, ValueError):
        return False
