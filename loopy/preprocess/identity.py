"""Who is seen in a video, so that nobody is on both sides of a split."""

import csv
import os
import re
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from loopy.data.store.storage import is_address
from loopy.errors import ConfigurationError, MediaError
from loopy.preprocess.remote_videos import Source

COLUMNS = ("video", "identity")

IdentityOf = Callable[[Source], str | None]
"""Who is seen in a video; None: a person of whom there is no other video."""


def identity_rule(words: str) -> IdentityOf:
    r"""Reads a rule by which videos belong to people.

    Args:
        words: ``video``: each video shows another person. ``folder``: the videos of a folder show
            one person, and so do those of two folders of one name. A path that ends in .csv: a
            table in UTF-8 with the columns ``video`` (paths relative to the table, or addresses)
            and ``identity``. Anything else is a regular expression with groups, searched in the
            path or address from the left: ``id(\d+)_`` takes what the group holds, several
            groups make one name.

    Returns:
        The rule. It raises a MediaError for a video that table or expression do not know.

    Raises:
        ConfigurationError: No such table, one that contradicts itself, or no expression with a
            group.
    """
    if words == "video":
        return lambda source: None
    if words == "folder":
        return _folder
    return _by_table(Path(words)) if words.lower().endswith(".csv") else _by_expression(words)


def _folder(source: Source) -> str | None:
    return PurePosixPath(_plain(source)).parent.name or None


def _by_expression(words: str) -> IdentityOf:
    try:
        expression = re.compile(words)
    except re.error as error:
        raise ConfigurationError(f"identity {words!r} is no regular expression: {error}") from error
    if not expression.groups:
        raise ConfigurationError(
            f"identity {words!r} is neither video, nor folder, nor a .csv file, nor a regular "
            r"expression with a group, such as 'id(\d+)_'"
        )

    def find(source: Source) -> str:
        found = expression.search(_plain(source))
        name = "/".join(found.groups("")) if found else ""
        if not name.strip("/"):
            raise MediaError(f"identity {words!r} finds no one in {source}; write a wider one")
        return name

    return find


def _by_table(path: Path) -> IdentityOf:
    table = dict[str, str]()
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file)
            if missing := [name for name in COLUMNS if name not in (rows.fieldnames or ())]:
                raise ConfigurationError(f"{path} has no column {missing[0]} in its head line")
            for row in rows:
                video, name = (str(row[column] or "").strip() for column in COLUMNS)
                where = f"{path}, line {rows.line_num}"
                if not video or not name:
                    raise ConfigurationError(f"{where}: video and identity are both needed")
                place = _place(video if is_address(video) else path.parent / video)
                if table.setdefault(place, name) != name:
                    raise ConfigurationError(f"{where}: {video} is {table[place]!r} above")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigurationError(f"table of identities {path} cannot be read: {error}") from error

    def find(source: Source) -> str:
        try:
            return table[_place(source)]
        except KeyError:
            raise MediaError(f"{path} does not say who is seen in {source}; add a line") from None

    return find


def _plain(source: Source) -> str:
    return unquote(str(source)) if is_address(source) else Path(source).as_posix()


def _place(source: Source) -> str:
    """One spelling for each place."""
    return _plain(source) if is_address(source) else os.path.abspath(source)
