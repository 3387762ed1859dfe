"""The shot store: prepared shots on disk or in a bucket, read row by row."""

import os
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from jaxtyping import Shaped
from torch import Tensor

from loopy.data.store.cached_storage import CachedStorage
from loopy.data.store.description import NAME, StoreDescription, load_description
from loopy.data.store.index import Index, fetch_index
from loopy.data.store.rows import RowRead, Rows
from loopy.data.store.shot_file import (
    CHECKSUM,
    CURE,
    Header,
    header_length,
    naming,
    parse_header,
)
from loopy.data.store.shots import Provenance, checked_id, shot_path
from loopy.data.store.storage import LocalStorage, ObjectStorage, Storage, is_address
from loopy.errors import CorruptFileError, StoreError
from loopy.paths import AnyPath, path_of
from loopy.typed_values import record_of

T = TypeVar("T")

FIRST_BYTES = 4096  # one page; most headers fit
LARGEST_MEASURE = torch.finfo(torch.float32).max
HEADERS = 1024
"""Of shots, remembered by a store: the last used ones."""
CHECKED_BYTES = 2**24
"""Rows that `ShotStore.check` holds at once."""


class ShotStore:
    """Reads shots; made by `ShotStore.open`.

    It pickles without connections and open files, so that workers of a DataLoader may be
    spawned with it. A store in a bucket cannot be used in forked workers.

    Args:
        storage: Where the files are.
        description: What store.json says.
        index: Which shots there are.
    """

    def __init__(self, storage: Storage, description: StoreDescription, index: Index) -> None:
        self.storage, self.description, self.index = storage, description, index
        self._headers = OrderedDict[str, Header]()

    @classmethod
    def open(
        cls,
        root: AnyPath,
        *,
        cache: AnyPath | None = None,
        copies: AnyPath | None = None,
        copies_gb: float = 50.0,
        options: Mapping[str, Any] | None = None,
    ) -> "ShotStore":
        """Opens a store that has an index.

        Args:
            root: A folder, or an address that obstore knows: `s3://bucket/folder`, gs, az,
                http(s), file.
            cache: Folder for the indices of buckets; None takes the user's cache folder.
            copies: Folder that shots of a bucket are copied to, whole, at their first use; None
                asks the bucket for the rows of each sample.
            copies_gb: Bound of that folder; shots unused for longest make room.
            options: Of `obstore.store.from_url`, for a bucket.

        Raises:
            StoreError: No store there, no index, or of another schema.
            DependencyError: An address is given and obstore is not installed.
        """
        folder = path_of(root, StoreError)
        if not is_address(root):
            description, index = load_description(root), Index.open(root)
            index.verify()
            return cls(LocalStorage(folder), description, index)
        address = os.fspath(root)
        storage = ObjectStorage(address, options=options)
        if copies is not None:
            bound = round(copies_gb * 1e9)
            storage = CachedStorage(address, copies, most_bytes=bound, options=options)
        with naming(f"{root}/{NAME}"):
            description = StoreDescription.from_json(storage.whole(NAME))
        return cls(storage, description, fetch_index(storage, cache))

    def __len__(self) -> int:
        """Number of shots."""
        return len(self.index)

    def __getstate__(self) -> dict[str, Any]:
        """A new process reads its own headers."""
        return self.__dict__ | {"_headers": OrderedDict()}

    @property
    def root(self) -> AnyPath:
        """Folder or address."""
        return self.storage.root

    @property
    def bytes_requested(self) -> int:
        """Bytes that this process has asked for: rows, checksums, headers, and gaps between."""
        return self.storage.bytes_requested

    def about(self, shot: int | str) -> dict[str, Any]:
        """Id, frames, measures and provenance of a shot, by its row or id; errors as of `read`."""
        path = self._path(shot)
        return self._tried(path, lambda: self._header(path)).about

    def read(
        self, shot: int | str, rows: Mapping[str, Rows]
    ) -> dict[str, Shaped[Tensor, "rows ..."]]:
        """Rows of a shot's tensors, of which nothing else is read.

        Args:
            shot: Row of the index, or id.
            rows: Tensor -> rows, as in `tensor[rows]`: a slice, or row numbers from 0 in any
                order, with repeats. A row is a frame (in a store of 50 Hz two of audio are).

        Returns:
            The rows as asked for, in the types of the file, each compared with its checksum.

        Raises:
            CorruptFileError: Missing, damaged, or cut off.
            StoreError: Of another schema, out of reach, or without such a tensor or row.
        """
        path = self._path(shot)
        return self._tried(path, lambda: self._rows(path, rows))

    def check(self, shot: int | str) -> None:
        """Compares all rows of a shot with their checksums, some at a time; raises as `about`."""
        path = self._path(shot)
        for name, place in self._tried(path, lambda: self._header(path)).tensors.items():
            if not name.endswith(CHECKSUM):
                step = max(CHECKED_BYTES // place.row_bytes, 1)
                for start in range(0, place.shape[0], step):
                    self.read(shot, {name: slice(start, start + step)})

    def _rows(self, path: str, rows: Mapping[str, Rows]) -> dict[str, Tensor]:
        places = self._header(path).tensors
        if missing := [name for name in rows if f"{name}{CHECKSUM}" not in places]:
            held = ", ".join(name for name in places if not name.endswith(CHECKSUM))
            raise StoreError(f"it holds no {missing[0]}, only {held}; {CURE}")
        reads = {
            name: RowRead(name, places[name], places[f"{name}{CHECKSUM}"], wanted)
            for name, wanted in rows.items()
        }
        self.storage.fill(path, [each for read in reads.values() for each in read.ranges()])
        return {name: read.finish() for name, read in reads.items()}

    def _tried(self, path: str, work: Callable[[], T]) -> T:
        """What reading a file gives; once more where it was a copy that is damaged."""
        with naming(f"{self.root}/{path}"):
            try:
                return work()
            except CorruptFileError:
                self._headers.pop(path, None)
                if not self.storage.forget(path):
                    raise
                return work()

    def _path(self, shot: int | str) -> str:
        return shot_path(shot if isinstance(shot, str) else self.index.id(shot))

    def _header(self, path: str) -> Header:
        """From memory, or read and remembered in place of the one unused for longest."""
        if path not in self._headers:
            self._headers[path] = read_header(self.storage, path, self.description)
            if len(self._headers) > HEADERS:
                self._headers.popitem(last=False)
        self._headers.move_to_end(path)
        return self._headers[path]


@dataclass(frozen=True)
class _About:
    """What a header tells of its shot; see `ShotRecord.about`."""

    id: str
    frames: int
    provenance: Provenance
    head_motion: float | None
    expression: float | None

    def __post_init__(self) -> None:
        """Refuse what no shot has."""
        checked_id(self.id)
        for name in ("head_motion", "expression"):
            if not 0 <= (getattr(self, name) or 0) <= LARGEST_MEASURE:
                raise ValueError(f"{name} is {getattr(self, name)}")


def read_header(storage: Storage, path: str, description: StoreDescription) -> Header:
    """The header of a shot, by its path in a store of this description.

    Raises:
        CorruptFileError: Missing, damaged, cut off, renamed, or not as the store's shots are.
        StoreError: Of another schema, or out of reach.
    """
    start, size = storage.start(path, FIRST_BYTES)
    end = 8 + header_length(start, size)
    if end > len(start):
        start, size = storage.start(path, end)
    header = parse_header(start[8:end], size)
    try:
        known = _About.__dataclass_fields__
        about = record_of(_About, {n: v for n, v in header.about.items() if n in known})
        for name, kind in description.tensors(about.frames).items():
            if name not in header.tensors:
                raise ValueError(f"it has no {name}")
            if (found := header.tensors[name][:2]) != kind:
                raise ValueError(f"{name} is {found}, expected {kind}")
    except ValueError as error:
        raise CorruptFileError(f"its header makes no sense ({error}); {CURE}") from error
    if path != (right := shot_path(about.id)):
        raise CorruptFileError(f"it holds shot {about.id}; give it that name again, {right}")
    return header
