"""The shot store: prepared clips on disk or in a bucket, read row by row."""

import os
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from jaxtyping import Shaped
from torch import Tensor

from loopy.data.media.container import AnyPath
from loopy.data.store.cached_storage import Copies
from loopy.data.store.description import NAME, TRACK, StoreDescription, load_description
from loopy.data.store.headers import read_header
from loopy.data.store.index import Index
from loopy.data.store.remote_index import fetch_index
from loopy.data.store.rows import RowRead, Rows
from loopy.data.store.shot_file import CHECKSUM, CURE, Header, naming
from loopy.data.store.shots import ShotRecord, save_shot, shot_path
from loopy.data.store.storage import Bucket, Folder, Place, is_address
from loopy.errors import ConfigurationError, CorruptFileError, StoreError
from loopy.paths import path_of

Answer = TypeVar("Answer")

CHECKED_BYTES = 2**24
"""Rows that `ShotStore.check` holds at once."""


def write_shot(root: AnyPath, record: ShotRecord) -> Path:
    """Adds a clip to a store, whole or not at all; the same clip written before is replaced.

    The index knows it after the next `build_index`.

    Args:
        root: The store, made by `create_store`.
        record: The clip.

    Returns:
        Its file.

    Raises:
        StoreError: There is no store.
        ConfigurationError: The clip is not of the kind that the store holds.
        OutputError: The disk is full or refuses. Nothing is left behind.
    """
    description = load_description(root)
    kinds = description.tensors(len(record.motion)).items()
    expected = {name: shape for name, (_, shape) in kinds if name not in TRACK}
    tensors = record.tensors().items()
    found = {name: tuple(each.shape) for name, each in tensors if name not in TRACK}
    if found != expected or record.motion.size_px != description.size_px:
        raise ConfigurationError(
            f"clip {record.id} has {found} and points at {record.motion.size_px} px; the store "
            f"{root} holds {expected} and points at {description.size_px} px"
        )
    return save_shot(root, record)


class ShotStore:
    """Reads clips; made by `ShotStore.open`.

    It pickles without connections and open files, so that workers of a DataLoader may be
    spawned with it. A store in a bucket cannot be used in forked workers.

    Args:
        place: Where the files are.
        description: What store.json says.
        index: Which clips there are.
        headers: How many headers of clips are remembered, the last used ones.
    """

    def __init__(
        self, place: Place, description: StoreDescription, index: Index, *, headers: int = 1024
    ) -> None:
        self._place, self.description, self.index = place, description, index
        self._most, self._headers = headers, OrderedDict[str, Header]()

    @classmethod
    def open(
        cls,
        root: AnyPath,
        *,
        gap_bytes: int | None = None,
        headers: int = 1024,
        cache: AnyPath | None = None,
        copies: AnyPath | None = None,
        copies_gb: float = 50.0,
        options: Mapping[str, Any] | None = None,
    ) -> "ShotStore":
        """Opens a store that has an index.

        Args:
            root: A folder, or an address that obstore knows: `s3://bucket/folder`, gs, az,
                http(s), file.
            gap_bytes: So many unasked bytes are read with two ranges rather than asking twice;
                None takes a page on disk, 64 KiB in a bucket.
            headers: How many headers of clips are remembered.
            cache: Folder for the indices of buckets; None takes the user's cache folder.
            copies: Folder that clips of a bucket are copied to, whole, at their first use; None
                asks the bucket for the rows of each sample.
            copies_gb: Bound of that folder; clips unused for longest make room.
            options: Of `obstore.store.from_url`, for a bucket.

        Raises:
            StoreError: No store there, no index, or of another schema.
            DependencyError: An address is given and obstore is not installed.
        """
        gap = {} if gap_bytes is None else {"gap_bytes": gap_bytes}
        folder = path_of(root, StoreError)
        if not is_address(root):
            place = Folder(folder, **gap)
            description, index = load_description(root), Index.open(root)
            index.verify()
            return cls(place, description, index, headers=headers)
        place = Bucket(os.fspath(root), options=options, **gap)
        with naming(f"{root}/{NAME}"):
            description = StoreDescription.from_json(place.whole(NAME))
        index = fetch_index(place, cache)
        if copies is not None:
            place = Copies(place, copies, most_bytes=round(copies_gb * 1e9))
        return cls(place, description, index, headers=headers)

    def __len__(self) -> int:
        """Number of clips."""
        return len(self.index)

    def __getstate__(self) -> dict[str, Any]:
        """A new process reads its own headers."""
        return self.__dict__ | {"_headers": OrderedDict()}

    @property
    def root(self) -> AnyPath:
        """Folder or address."""
        return self._place.root

    @property
    def bytes_requested(self) -> int:
        """Bytes that this process has asked for: rows, checksums, headers, and gaps between."""
        return self._place.bytes_requested

    def about(self, clip: int | str) -> dict[str, Any]:
        """Id, frames, measures and provenance of a clip.

        Args:
            clip: Row of the index, or id.

        Raises:
            CorruptFileError: Missing, damaged, or cut off.
            StoreError: Of another schema, or out of reach.
        """
        path = self._path(clip)
        return self._tried(path, lambda: self._header(path)).about

    def read(
        self, clip: int | str, rows: Mapping[str, Rows]
    ) -> dict[str, Shaped[Tensor, "rows ..."]]:
        """Rows of a clip's tensors, of which nothing else is read.

        Args:
            clip: Row of the index, or id.
            rows: Tensor -> rows, as in `tensor[rows]`: a slice, or row numbers from 0 in any
                order, with repeats. A row is a frame (in a store of 50 Hz two of audio are).

        Returns:
            The rows in the order asked for, in the types of the file, each compared with its
            checksum.

        Raises:
            CorruptFileError: Missing, damaged, or cut off.
            StoreError: Of another schema, out of reach, or without such a tensor or row.
        """
        path = self._path(clip)
        return self._tried(path, lambda: self._rows(path, rows))

    def check(self, clip: int | str) -> None:
        """Compares all rows of a clip with their checksums, some at a time.

        Args:
            clip: Row of the index, or id.

        Raises:
            CorruptFileError: Missing, damaged, or cut off.
            StoreError: Of another schema, or out of reach.
        """
        path = self._path(clip)
        for name, place in self._tried(path, lambda: self._header(path)).tensors.items():
            if not name.endswith(CHECKSUM):
                step = max(CHECKED_BYTES // place.row_bytes, 1)
                for start in range(0, place.shape[0], step):
                    self.read(clip, {name: slice(start, start + step)})

    def _rows(self, path: str, rows: Mapping[str, Rows]) -> dict[str, Tensor]:
        places = self._header(path).tensors
        if missing := [name for name in rows if f"{name}{CHECKSUM}" not in places]:
            held = ", ".join(name for name in places if not name.endswith(CHECKSUM))
            raise StoreError(f"it holds no {missing[0]}, only {held}; {CURE}")
        reads = {
            name: RowRead(name, places[name], places[f"{name}{CHECKSUM}"], wanted)
            for name, wanted in rows.items()
        }
        self._place.fill(path, [piece for read in reads.values() for piece in read.pieces()])
        return {name: read.finish() for name, read in reads.items()}

    def _tried(self, path: str, work: Callable[[], Answer]) -> Answer:
        """What reading a file gives; once more where it was a copy that is damaged."""
        with naming(self._full(path)):
            try:
                return work()
            except CorruptFileError:
                self._headers.pop(path, None)
                if not self._place.forget(path):
                    raise
                return work()

    def _path(self, clip: int | str) -> str:
        return shot_path(clip if isinstance(clip, str) else self.index.id(clip))

    def _full(self, path: str) -> str:
        return f"{self._place.root}/{path}"

    def _header(self, path: str) -> Header:
        """From memory, or read and remembered in place of the one unused for longest."""
        if path not in self._headers:
            self._headers[path] = read_header(self._place, path, self.description)
            if len(self._headers) > self._most:
                self._headers.popitem(last=False)
        self._headers.move_to_end(path)
        return self._headers[path]
