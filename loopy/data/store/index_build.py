"""Making the index of a shot store, and the split of its shots by identity."""

import fcntl
import json
import re
import shutil
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np

from loopy.data.store.description import StoreDescription, load_description
from loopy.data.store.index import (
    BUILD,
    COLUMNS,
    CURRENT,
    FOLDER,
    TEST,
    TRAIN,
    TYPES,
    VALIDATION,
    Index,
    build_named,
)
from loopy.data.store.shot_file import SCHEMA, naming
from loopy.data.store.shot_store import read_header
from loopy.data.store.storage import LocalStorage, read_file
from loopy.drafts import draft, output_errors, remove_dead_drafts
from loopy.errors import ConfigurationError, StoreError
from loopy.paths import AnyPath
from loopy.typed_values import plain_values

LOCK = ".lock"
SHARE = 0.02
"""Of the identities, held out for validation and for the end each, unless told otherwise."""
DRAFT = re.compile(r"\.(loopy-[0-9a-f]{8}-)?[0-9a-f]{32}(\.|$)|\.tmp[0-9A-Za-z]{6}$")
"""Ours, those of earlier versions, and safetensors' own."""
DRAFTS_IN = ("clips/*", "work", "videos", "index")


def build_index(
    root: AnyPath,
    *,
    keep: Collection[str] | None = None,
    validation: float | None = None,
    test: float | None = None,
    left_out: Callable[[StoreError], None] | None = None,
) -> Index:
    """Indexes the shots of a store by their headers; old drafts of killed processes are deleted.

    Shots that cannot be read, or that say what no shot of this store can, are left out.

    Args:
        root: The store, on this disk.
        keep: Ids of the shots to index, as far as they exist; None takes all.
        validation: Share of the identities held out to follow a training; None takes that of the
            present index, else `SHARE`.
        test: Share of the identities held out for the end; None likewise.
        left_out: Is told of each shot that is left out; None: one warning names all of them.

    Raises:
        StoreError: No store there, or not one of its shots can be read.
        OutputError: The index cannot be written.
        ConfigurationError: Shares below 0, or of more than 1 in sum.
    """
    description = load_description(root)
    with _alone(root):  # else the first to look might be the last to write
        remove_drafts(root)
        shares = {"validation": SHARE, "test": SHARE} | _shares(Path(root) / FOLDER)
        given = {"validation": validation, "test": test}
        shares |= {name: share for name, share in given.items() if share is not None}
        abouts, damaged = _read_abouts(root, description, keep)
        if left_out is not None:
            for error in damaged:
                left_out(error)
        elif damaged:
            named = f"{len(damaged)} shots cannot be read: {'; '.join(map(str, damaged))}"
            warnings.warn(f"left out of the index: {named}", stacklevel=2)
        return _write(root, _columns(abouts, **shares), shares)


def remove_drafts(root: AnyPath, *, older_than_s: float = 3600) -> int:
    """Deletes what killed processes left half written in a store; says how many there were."""
    folders = [path for pattern in DRAFTS_IN for path in Path(root).glob(pattern)]
    return remove_dead_drafts(root, *folders, older_than_s=older_than_s, others=DRAFT)


def identity_hash(identity: str) -> int:
    """First eight bytes of the SHA-256 of a name, as a big-endian number."""
    # a name out of a path that is no UTF-8 has surrogates
    return int.from_bytes(sha256(identity.encode(errors="surrogatepass")).digest()[:8], "big")


def split_of(identity: int, *, validation: float, test: float) -> int:
    """The split of all shots of an identity, by its hash and the shares of identities held out.

    The test split takes the lowest hashes, validation the next; other shots do not matter. Shares
    below 0, or of more than 1 in sum, are a ConfigurationError.
    """
    if min(validation, test) < 0 or validation + test > 1:
        raise ConfigurationError(
            f"shares of validation and test are 0 or more and at most 1 together, "
            f"got {validation} and {test}"
        )
    position = identity / 2**64
    if position < test:
        return TEST
    return VALIDATION if position < test + validation else TRAIN


def _shares(folder: Path) -> dict[str, float]:
    """Shares of the present index: an identity that was held out must not be trained on.

    Of the newest build that has its own where the current one cannot be found out.
    """
    builds = sorted(folder.glob(f"[!.]*/{COLUMNS}"), key=lambda path: path.parent.stat().st_mtime)
    with suppress(OSError, StoreError):
        builds.append(folder / build_named(read_file(folder / CURRENT)) / COLUMNS)
    for columns in reversed(builds):
        with suppress(OSError, ValueError, TypeError, KeyError):
            about = plain_values(read_file(columns))
            return {name: float(about[name]) for name in ("validation", "test")}
    return {}


def _read_abouts(
    root: AnyPath, description: StoreDescription, keep: Collection[str] | None
) -> tuple[list[dict[str, Any]], list[StoreError]]:
    """What shots say of themselves, by id, and what is wrong with the others; one must be whole."""
    storage, abouts, damaged = LocalStorage(Path(root)), list[dict[str, Any]](), list[StoreError]()
    for path in sorted(Path(root).glob("clips/*/[!.]*.safetensors")):
        if keep is None or path.stem in keep:
            try:
                with naming(path):
                    inside = path.relative_to(root).as_posix()
                    abouts.append(read_header(storage, inside, description).about)
            except StoreError as error:
                damaged.append(error)
    if damaged and not abouts:
        raise StoreError(f"{len(damaged)} shots cannot be read: {'; '.join(map(str, damaged))}")
    return sorted(abouts, key=lambda about: about["id"]), damaged


def _columns(
    abouts: Sequence[Mapping[str, Any]], *, validation: float, test: float
) -> dict[str, np.ndarray]:
    people = [identity_hash(about["provenance"]["identity"]) for about in abouts]
    columns = {
        "id": [about["id"].encode() for about in abouts],
        "split": [split_of(each, validation=validation, test=test) for each in people],
        "identity": people,
    }
    for name in TYPES.keys() - columns:
        columns[name] = [np.nan if about[name] is None else about[name] for about in abouts]
    return {name: np.array(columns[name], kind) for name, kind in TYPES.items()}


@contextmanager
def _alone(root: AnyPath) -> Iterator[None]:
    """Waits until no other process writes an index of this store; a killed one lets go."""
    folder = Path(root) / FOLDER
    with output_errors(folder):
        folder.mkdir(exist_ok=True)
        lock = (folder / LOCK).open("w")
    with lock:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _write(root: AnyPath, columns: Mapping[str, np.ndarray], shares: Mapping[str, Any]) -> Index:
    folder = Path(root) / FOLDER
    checksums = {name: crc32(columns[name].data) for name in TYPES}
    content = {"schema": SCHEMA, "rows": len(columns["id"]), "types": TYPES, "crc32": checksums}
    text = json.dumps(content | dict(shares), indent=2, sort_keys=True) + "\n"
    build = sha256(b"".join([text.encode(), *(columns[name].data for name in TYPES)])).hexdigest()
    build = build[:16]
    current = folder / CURRENT
    with output_errors(folder):
        if not _is_whole(folder / build, text):
            shutil.rmtree(folder / build, ignore_errors=True)
            with draft(folder / build, folder=True) as hidden:
                for name in TYPES:
                    np.save(hidden / f"{name}.npy", columns[name])
                (hidden / COLUMNS).write_text(text)
        before = build
        with suppress(OSError, StoreError):
            before = build_named(read_file(current))
        with draft(current) as hidden:
            hidden.write_text(json.dumps({"build": build}) + "\n")
    for path in folder.iterdir():
        ours = BUILD.fullmatch(path.name) or DRAFT.match(path.name)
        if ours and path.is_dir() and path.name not in (before, build):
            shutil.rmtree(path, ignore_errors=True)
    return Index(folder / build)


def _is_whole(build: Path, text: str) -> bool:
    """Whether a build is there, to the byte."""
    with suppress(OSError, StoreError):
        Index(build).verify()
        return read_file(build / COLUMNS) == text.encode()
    return False
