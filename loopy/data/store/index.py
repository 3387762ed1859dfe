"""The index of a shot store: one memory-mapped column a property, one row a clip.

A build of the index is a folder that never changes, named by a hash of what it holds; the file
`current.json` says which one holds. So a new index appears at once or not at all, and who has
opened the old one keeps it.
"""

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

from loopy.data.media.container import AnyPath
from loopy.data.store.description import load_description
from loopy.data.store.headers import read_abouts
from loopy.data.store.shot_file import SCHEMA, check_schema, naming
from loopy.data.store.shots import ID_LETTERS, checked_id
from loopy.data.store.storage import open_file, read_file
from loopy.drafts import draft, remove_dead_drafts
from loopy.errors import ConfigurationError, OutputError, StoreError
from loopy.typed_values import plain_values

FOLDER, CURRENT, COLUMNS, LOCK = "index", "current.json", "columns.json", ".lock"
TRAIN, VALIDATION, TEST = range(3)
SHARE = 0.02
"""Of the identities, held out for validation and for the end each, unless told otherwise."""
BUILD = re.compile(r"[0-9a-f]{16}")
DRAFT = re.compile(r"\.(loopy-[0-9a-f]{8}-)?[0-9a-f]{32}(\.|$)|\.tmp[0-9A-Za-z]{6}$")
"""Ours, those of earlier versions, and safetensors' own."""
DRAFTS_IN = ("clips/*", "work", "videos", "index")
TYPES = {
    "id": f"|S{ID_LETTERS}",
    "frames": "<i4",
    "split": "|u1",
    "identity": "<u8",
    "head_motion": "<f4",
    "expression": "<f4",
}


class Index:
    """Columns of one build, sorted by id: `index["frames"][row]`, `len(index)`.

    It pickles as the name of its folder, so that each process maps the same build itself.

    Args:
        folder: Of the build.

    Raises:
        StoreError: Missing, cut off, or of another schema.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with naming(folder):
            try:
                about = plain_values(read_file(folder / COLUMNS))
                check_schema(about["schema"])
                rows = about["rows"]
                self._checksums = {name: about["crc32"][name] for name in TYPES}
                self._columns = {name: _column(folder / f"{name}.npy") for name in TYPES}
            except FileNotFoundError as error:
                raise StoreError(
                    "this build of the index is gone, for the store was indexed again; open the "
                    "store anew"
                ) from error
            except (OSError, ValueError, TypeError, KeyError) as error:
                if isinstance(error, StoreError):
                    raise
                raise StoreError(f"it is damaged ({error}); build the index again") from error
            found = {n: (column.dtype.str, column.shape) for n, column in self._columns.items()}
            if found != {name: (kind, (rows,)) for name, kind in TYPES.items()}:
                raise StoreError("its columns disagree; build the index again")

    @classmethod
    def open(cls, root: AnyPath) -> "Index":
        """The current build of the store at `root`.

        Raises:
            StoreError: The store has no index, or a damaged one.
        """
        path = Path(root) / FOLDER / CURRENT
        with naming(path):
            try:
                return cls(path.parent / build_named(read_file(path)))
            except FileNotFoundError as error:
                raise StoreError("the store has no index; finish preprocessing first") from error
            except OSError as error:
                raise StoreError(f"it cannot be read ({error}); build the index again") from error

    def __len__(self) -> int:
        """Number of clips."""
        return len(self._columns["id"])

    def __getitem__(self, column: str) -> np.ndarray:
        """One column; `TYPES` names them. Nothing is read before it is looked at."""
        return self._columns[column]

    def __reduce__(self) -> tuple[type["Index"], tuple[Path]]:
        """A memory map would pickle as all that it maps."""
        return Index, (self.folder,)

    def row(self, clip: str) -> int:
        """Row of a clip, by its id.

        Raises:
            StoreError: The index has no such clip.
        """
        ids = self._columns["id"]
        row = int(np.searchsorted(ids, clip.encode()))
        if row == len(ids) or ids[row] != clip.encode():
            raise StoreError(f"{self.folder}: no clip {clip}; build the index again if it is new")
        return row

    def id(self, row: int) -> str:
        """Id of a clip, by its row.

        Raises:
            StoreError: What stands there is no id.
        """
        with naming(f"{self.folder}, row {row}"):
            try:
                return checked_id(self._columns["id"][row].decode("ascii", "backslashreplace"))
            except StoreError as error:
                raise StoreError(f"{error}; build the index again") from error

    def verify(self) -> None:
        """Reads the whole index and compares it with its checksums.

        Raises:
            StoreError: A column is damaged.
        """
        for name, column in self._columns.items():
            if crc32(column.data) != self._checksums[name]:
                raise StoreError(f"{self.folder}/{name}.npy is damaged; build the index again")


def build_index(
    root: AnyPath,
    *,
    keep: Collection[str] | None = None,
    validation: float | None = None,
    test: float | None = None,
    left_out: Callable[[StoreError], None] | None = None,
) -> Index:
    """Indexes the clips of a store by their headers; old drafts of killed processes are deleted.

    Clips that cannot be read, or that say what no clip of this store can, are left out.

    Args:
        root: The store, on this disk.
        keep: Ids of the clips to index, as far as they are there; None takes all.
        validation: Share of the identities held out to follow a training; None takes that of the
            index that is there, else `SHARE`.
        test: Share of the identities held out for the end; None likewise.
        left_out: Is told of each clip that is left out; None: one warning names all of them.

    Raises:
        StoreError: No store there, or not one of its clips can be read.
        OutputError: The index cannot be written.
        ConfigurationError: Shares below 0, or of more than 1 in sum.
    """
    description = load_description(root)
    with _alone(root):  # else who looked first might write last
        remove_drafts(root)
        shares = {"validation": SHARE, "test": SHARE} | _shares(Path(root) / FOLDER)
        given = {"validation": validation, "test": test}
        shares |= {name: share for name, share in given.items() if share is not None}
        abouts, damaged = read_abouts(root, description, keep=keep)
        if left_out is not None:
            for error in damaged:
                left_out(error)
        elif damaged:
            told = f"{len(damaged)} clips cannot be read: {'; '.join(map(str, damaged))}"
            warnings.warn(f"left out of the index: {told}", stacklevel=2)
        return _write(root, _columns(abouts, **shares), shares)


def remove_drafts(root: AnyPath, *, older_than_s: float = 3600) -> int:
    """Deletes what killed processes left half written.

    Args:
        root: The store.
        older_than_s: Younger drafts are spared where no lock tells whether their process lives.

    Returns:
        How many were deleted.
    """
    folders = [path for pattern in DRAFTS_IN for path in Path(root).glob(pattern)]
    return remove_dead_drafts(root, *folders, older_than_s=older_than_s, others=DRAFT)


def _shares(folder: Path) -> dict[str, float]:
    """Shares of the index that is there: whoever was held out must not be trained on.

    Of the newest build that tells its own where the current one cannot be told.
    """
    builds = sorted(
        (path.parent for path in folder.glob(f"[!.]*/{COLUMNS}")),
        key=lambda path: path.stat().st_mtime,
        reverse=True,
    )
    with suppress(OSError, StoreError):
        builds.insert(0, folder / build_named(read_file(folder / CURRENT)))
    for build in builds:
        with suppress(OSError, ValueError, TypeError, KeyError):
            about = plain_values(read_file(build / COLUMNS))
            return {name: float(about[name]) for name in ("validation", "test")}
    return {}


def _columns(
    abouts: Sequence[Mapping[str, Any]], *, validation: float, test: float
) -> dict[str, np.ndarray]:
    people = [identity_hash(about["provenance"]["identity"]) for about in abouts]
    columns = {
        "id": [about["id"].encode() for about in abouts],
        "split": [split_of(each, validation=validation, test=test) for each in people],
        "identity": people,
    }
    for name in ("frames", "head_motion", "expression"):
        columns[name] = [np.nan if about[name] is None else about[name] for about in abouts]
    return {name: np.array(columns[name], kind) for name, kind in TYPES.items()}


def write_index(
    root: AnyPath, columns: Mapping[str, np.ndarray], *, about: Mapping[str, Any] | None = None
) -> Index:
    """Writes a build and makes it the current one. The build before it stays, older ones go.

    It waits for another process that writes one. A build that is there and damaged is replaced.

    Args:
        root: The store.
        columns: Of the types in `TYPES`, sorted by id.
        about: What else the build says of itself, in JSON.

    Raises:
        OutputError: It cannot be written.
    """
    with _alone(root):
        return _write(root, columns, about or {})


@contextmanager
def _alone(root: AnyPath) -> Iterator[None]:
    """Waits until no other process writes an index of this store; a killed one lets go."""
    folder = Path(root) / FOLDER
    try:
        folder.mkdir(exist_ok=True)
        lock = (folder / LOCK).open("w")
    except OSError as error:
        raise OutputError(f"{folder} cannot be written: {error.strerror}") from error
    with lock:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _write(root: AnyPath, columns: Mapping[str, np.ndarray], about: Mapping[str, Any]) -> Index:
    folder = Path(root) / FOLDER
    checksums = {name: crc32(columns[name].data) for name in TYPES}
    content = {"schema": SCHEMA, "rows": len(columns["id"]), "types": TYPES, "crc32": checksums}
    text = json.dumps(content | dict(about), indent=2, sort_keys=True) + "\n"
    build = sha256(b"".join([text.encode(), *(columns[name].data for name in TYPES)])).hexdigest()
    build = build[:16]
    current = folder / CURRENT
    try:
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
    except OSError as error:
        raise OutputError(f"{folder} cannot be written: {error.strerror}") from error
    for path in folder.iterdir():
        ours = BUILD.fullmatch(path.name) or DRAFT.match(path.name)
        if ours and path.is_dir() and path.name not in (before, build):
            shutil.rmtree(path, ignore_errors=True)
    return Index(folder / build)


def _column(path: Path) -> np.ndarray:
    """A column, mapped into memory.

    Raises:
        OSError: It cannot be opened.
        ValueError: NumPy cannot read it.
    """
    open_file(path).close()  # NumPy would wait at a pipe
    try:
        return np.load(path, mmap_mode="r")
    except FileNotFoundError:
        raise
    except Exception as error:  # its head is text in Python: a flipped bit raises anything
        raise ValueError(f"{path.name}: {error}") from error


def _is_whole(build: Path, text: str) -> bool:
    """Whether a build is there, to the byte."""
    try:
        if read_file(build / COLUMNS) != text.encode():
            return False
        Index(build).verify()
    except (OSError, StoreError):
        return False
    return True


def build_named(text: bytes) -> str:
    """The build that a current.json names.

    Raises:
        StoreError: It names none, or a folder elsewhere.
    """
    try:
        build = plain_values(text)["build"]
    except (ValueError, TypeError, KeyError) as error:
        raise StoreError("it names no index; build the index again") from error
    if not isinstance(build, str) or BUILD.fullmatch(build) is None:  # else it may be a path
        raise StoreError(f"it names {build!r:.80}, which is no index; build the index again")
    return build


def identity_hash(identity: str) -> int:
    """First eight bytes of the SHA-256 of a name, as a big-endian number."""
    # a name out of a path that is no UTF-8 has surrogates
    return int.from_bytes(sha256(identity.encode(errors="surrogatepass")).digest()[:8], "big")


def split_of(identity: int, *, validation: float, test: float) -> int:
    """The split of all clips of an identity; the others' number and order do not matter.

    Args:
        identity: Its hash; the test split takes the lowest ones, validation the next.
        validation: Share of identities.
        test: Share of identities.

    Raises:
        ConfigurationError: Shares below 0, or of more than 1 in sum.
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
