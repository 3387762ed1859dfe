"""Whether results may go where they are asked for: over no input, over no other result."""

import os
from collections.abc import Mapping
from pathlib import Path

from loopy.drafts import check_output_name
from loopy.errors import OutputError
from loopy.paths import AnyPath

FileKey = tuple[object, ...]
"""Equal for two paths to one file: its device and inode, or those of a folder and names in it."""


def check_outputs(outputs: Mapping[str, AnyPath], inputs: Mapping[str, AnyPath]) -> None:
    """Makes sure that no result replaces an input or another result; call it before any work.

    Two paths are one place if they lead to one file, by whatever links, or would. A result that
    is a folder holds no input and no other result, and no result goes into a folder that is read.

    Args:
        outputs: Where results go, each by a word for it: ``{"video": "out.mp4"}``.
        inputs: Files and folders that are read, likewise; they need not exist.

    Raises:
        OutputError: Two of them are one place or one is inside the other, or an output has no name.
    """
    for word, path in outputs.items():
        check_output_name(path, word)
    places = _file_keys(outputs)
    written: dict[FileKey, str] = {}
    for word, (place, *_) in places.items():
        name = f"{word} {outputs[word]}"
        if place in written:
            raise OutputError(f"{name} and {written[place]} are one place; give another name")
        written[place] = name
    read: dict[FileKey, str] = {}
    for word, (place, *folders) in _file_keys(inputs).items():
        name = read[place] = f"{word} {inputs[word]}"
        if place in written:
            raise OutputError(f"{written[place]} would replace {name}; give another name")
        for folder in (each for each in folders if each in written):
            raise OutputError(f"{name} is inside {written[folder]}; give another name")
    for word, (_, *folders) in places.items():
        for folder in (each for each in folders if each in written or each in read):
            above = written.get(folder) or read[folder]
            raise OutputError(f"{word} {outputs[word]} is inside {above}; give another place")


def _file_keys(paths: Mapping[str, AnyPath]) -> dict[str, list[FileKey]]:
    """Of each path that can be one: the key of itself, and those of the folders above it."""
    known: dict[Path, FileKey] = {}

    def key(path: Path) -> FileKey:
        if path not in known:
            try:
                status = path.stat()
                known[path] = (status.st_dev, status.st_ino)
            except OSError:  # not there: a name in a folder, which may be reached in several ways
                above = () if path == path.parent else key(path.parent)
                known[path] = (*above, os.path.normcase(path.name))
        return known[path]

    possible = {word: path for word, path in paths.items() if "\0" not in os.fspath(path)}
    real = {word: Path(os.path.realpath(path)) for word, path in possible.items()}
    return {word: [key(each) for each in (path, *path.parents)] for word, path in real.items()}
