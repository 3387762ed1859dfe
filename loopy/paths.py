"""Paths at the door: what can be no file's name is told before anything is opened."""

import os
from pathlib import Path
from typing import Any

from loopy.errors import LoopyError

AnyPath = str | os.PathLike[str]


def path_of(value: Any, error: type[LoopyError]) -> Path:
    """A path, once it is known that a file could have it.

    Args:
        value: What the caller gave: a name or a path.
        error: What to raise.

    Raises:
        LoopyError: Of the kind asked for: neither name nor path, an empty one, one with a
            NUL character, or one that the file system cannot spell.
    """
    if not isinstance(value, str | os.PathLike):
        raise error(f"expected a path, got {type(value).__name__}; give a file's name")
    name = os.fsdecode(value)
    if not name:
        raise error("an empty path was given; give a file's name")
    try:
        os.fsencode(name)
    except UnicodeEncodeError as fault:
        raise error(f"no file can be called {name!r:.80}; give another name") from fault
    if "\0" in name:
        raise error(f"no file can be called {name!r:.80}, it has a NUL; give another name")
    return Path(name)
