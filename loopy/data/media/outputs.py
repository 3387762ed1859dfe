"""Whether results may go where they are asked for: over no input, over no other result."""

import os
from collections.abc import Mapping
from pathlib import Path

from loopy.data.media.container import AnyPath
from loopy.drafts import check_name
from loopy.errors import OutputError

Place = tuple[object, ...]


def check_outputs(outputs: Mapping[str, AnyPath], inputs: Mapping[str, AnyPath]) -> None:
    """Makes sure that no result replaces an input or another result; call it before any work.

    Two paths are one place if they lead to one file, by whatever links, or would. A result that
    is a folder holds no input and no other result, and no result goes into a folder that is read.

    Args:
        outputs: Where results go, each by a word for it: ``{"video": "out.mp4"}``.
        inputs: Files and folders that are read, likewise; they need not be there.

    Raises:
        OutputError: Two of them are one place or one is inside the other, or an output has no name.
    """
    for word, path in outputs.items():
        check_name(path, word)
    places = _places(outputs)
    written: dict[Place, str] = {}
    for word, (place, *_) in places.items():
        told = f"{word} {outputs[word]}"
        if place in written:
            raise OutputError(f"{told} and {written[place]} are one place; give another name")
        written[place] = told
    read: dict[Place, str] = {}
    for word, (place, *folders) in _places(inputs).items():
        told = f"{word} {inputs[word]}"
        read[place] = told
        if place in written:
            raise OutputError(f"{written[place]} would replace {told}; give another name")
        for folder in (each for each in folders if each in written):
            raise OutputError(f"{told} is inside {written[folder]}; give another name")
    for word, (_, *folders) in places.items():
        for folder in (each for each in folders if each in written or each in read):
            about = written.get(folder) or read[folder]
            raise OutputError(f"{word} {outputs[word]} is inside {about}; give another place")


def _can_be(path: AnyPath) -> bool:
    return "\0" not in os.fspath(path)


def _places(paths: Mapping[str, AnyPath]) -> dict[str, list[Place]]:
    """Of each path that can be: the place of itself, and those of the folders it is in."""
    known: dict[Path, Place] = {}

    def place(path: Path) -> Place:
        if path not in known:
            try:
                status = path.stat()
                known[path] = (status.st_dev, status.st_ino)
            except OSError:  # not there: a name in a folder, which may be reached in several ways
                above = () if path == path.parent else place(path.parent)
                known[path] = (*above, os.path.normcase(path.name))
        return known[path]

    whole = {word: Path(os.path.realpath(path)) for word, path in paths.items() if _can_be(path)}
    return {word: [place(each) for each in (path, *path.parents)] for word, path in whole.items()}
