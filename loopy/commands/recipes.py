"""Recipes by their names: a file, or one that comes with the package."""

from pathlib import Path

from loopy.errors import ConfigurationError


def with_recipe(word: str, before: str) -> str:
    """A word of a command, with the file of a recipe in place of its name.

    Args:
        word: The word.
        before: The word before it: names a recipe where this is ``--config``.

    Raises:
        ConfigurationError: See `find_recipe`.
    """
    option, equals, name = word.rpartition("=")
    if before in ("-c", "--config"):
        return str(find_recipe(word))
    if option in ("-c", "--config"):
        return f"{option}{equals}{find_recipe(name)}"
    return word


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
