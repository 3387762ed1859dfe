"""Pages out of the templates in `pages/`: one file each, with style and script inside."""

from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

FOLDER = Path(__file__).parents[1] / "pages"


def fill(name: str, **values: object) -> str:
    """A template with its values; text is escaped, an unknown value is an error.

    Args:
        name: A file in `pages/`.
        values: What the template names.
    """
    return _templates().get_template(name).render(**values)


@cache
def _templates() -> Environment:
    templates = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    templates.policies["json.dumps_kwargs"] = {"sort_keys": False}
    return templates
