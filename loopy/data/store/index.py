"""The index of a shot store: one memory-mapped column a property, one row a shot.

A build of the index is a folder that never changes, named by a hash of what it holds; the file
`current.json` names the current one. So a new index appears at once or not at all, and a process
that has opened the old one can go on with it.
"""

import os
import re
import shutil
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np

from loopy.data.store.shot_file import check_schema, naming
from loopy.data.store.shots import ID_LETTERS, checked_id
from loopy.data.store.storage import ObjectStorage, open_file, read_file
from loopy.drafts import draft, output_errors
from loopy.errors import OutputError, StoreError
from loopy.paths import AnyPath
from loopy.typed_values import plain_values

FOLDER, CURRENT, COLUMNS = "index", "current.json", "columns.json"
TRAIN, VALIDATION, TEST = range(3)
BUILD = re.compile(r"[0-9a-f]{16}")
MOST_BUILDS = 8
"""Of buckets, copied to this disk."""
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

    It pickles as the name of its folder, so that each process maps the same build itself. One that
    is missing, cut off, or of another schema is a StoreError.

    Args:
        folder: Of the build.
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
        """The current build of the store at `root`; without one, or damaged, a StoreError."""
        path = Path(root) / FOLDER / CURRENT
        with naming(path):
            try:
                return cls(path.parent / build_named(read_file(path)))
            except FileNotFoundError as error:
                raise StoreError("the store has no index; finish preprocessing first") from error
            except OSError as error:
                raise StoreError(f"it cannot be read ({error}); build the index again") from error

    def __len__(self) -> int:
        """Number of shots."""
        return len(self._columns["id"])

    def __getitem__(self, column: str) -> np.ndarray:
        """One column; `TYPES` names them. Nothing is read before it is looked at."""
        return self._columns[column]

    def __reduce__(self) -> tuple[type["Index"], tuple[Path]]:
        """A memory map would pickle as all that it maps."""
        return Index, (self.folder,)

    def id(self, row: int) -> str:
        """Id of a shot, by its row; what stands there and is none is a StoreError."""
        with naming(f"{self.folder}, row {row}"):
            try:
                return checked_id(self._columns["id"][row].decode("ascii", "backslashreplace"))
            except StoreError as error:
                raise StoreError(f"{error}; build the index again") from error

    def verify(self) -> None:
        """Compares the whole index with its checksums; a damaged column is a StoreError."""
        for name, column in self._columns.items():
            if crc32(column.data) != self._checksums[name]:
                raise StoreError(f"{self.folder}/{name}.npy is damaged; build the index again")


def fetch_index(storage: ObjectStorage, cache: AnyPath | None) -> Index:
    """The current index of a bucket, copied once to this disk, so that it can be mapped.

    A build is named by its content, so stores and processes can share the folder: `cache`, or one
    in the user's cache folder. The `MOST_BUILDS` last used stay.

    Raises:
        StoreError: The store has no index, or it was damaged on the way.
        OutputError: The cache cannot be written.
    """
    default = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(cache or Path(default) / "loopy" / "index")
    with naming(f"{storage.root}/{FOLDER}/{CURRENT}"):
        build = build_named(storage.whole(f"{FOLDER}/{CURRENT}"))
    copy = folder / build
    if not copy.exists():
        _copy(storage, build, copy)
    os.utime(copy)
    builds = [path for path in folder.glob("*/") if BUILD.fullmatch(path.name)]  # no other folder
    builds.sort(key=lambda path: path.stat().st_mtime)
    for old in builds[:-MOST_BUILDS]:
        shutil.rmtree(old, ignore_errors=True)
    return Index(copy)


def build_named(text: bytes) -> str:
    """The build that a current.json names; a path to elsewhere is a StoreError."""
    try:
        build: Any = plain_values(text)["build"]
    except (ValueError, TypeError, KeyError) as error:
        raise StoreError("it names no index; build the index again") from error
    if not isinstance(build, str) or BUILD.fullmatch(build) is None:  # else it may be a path
        raise StoreError(f"it names {build!r:.80}, which is no index; build the index again")
    return build


def _copy(storage: ObjectStorage, build: str, copy: Path) -> None:
    """All or nothing; another process may be quicker, with the same bytes."""
    try:
        with output_errors(copy.parent):
            copy.parent.mkdir(parents=True, exist_ok=True)
            with draft(copy, folder=True) as hidden:
                for name in [COLUMNS, *(f"{column}.npy" for column in TYPES)]:
                    with naming(f"{storage.root}/{FOLDER}/{build}/{name}"):
                        (hidden / name).write_bytes(storage.whole(f"{FOLDER}/{build}/{name}"))
                Index(hidden).verify()
    except OutputError:
        if not (copy / COLUMNS).exists():
            raise


def _column(path: Path) -> np.ndarray:
    """A column, mapped into memory; raises an OSError or a ValueError."""
    open_file(path).close()  # NumPy would wait at a pipe
    try:
        return np.load(path, mmap_mode="r")
    except FileNotFoundError:  # the store was indexed again meanwhile
        raise
    except Exception as error:  # its head is text in Python: a flipped bit raises anything
        raise ValueError(f"{path.name}: {error}") from error
