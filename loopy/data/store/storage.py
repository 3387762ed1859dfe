"""Where the files of a store are: a folder, or a bucket. Both give exact ranges of bytes."""

import os
import stat
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Any

from loopy.data.store.rows import ByteRange, merge
from loopy.data.store.shot_file import CURE
from loopy.errors import ConfigurationError, CorruptFileError, DependencyError, StoreError

LARGEST_BYTES = 2**28
"""Of files that are read whole: descriptions and ledgers, in JSON."""
Buffer = bytes | memoryview


class Storage(ABC):
    """Files by their path below a root; `shot_file.naming` puts the path before its errors.

    Args:
        root: Folder or address.
    """

    gap_bytes: int
    """See `rows.merge`."""

    def __init__(self, root: Any) -> None:
        self.root = root
        self.bytes_requested = 0
        """By this process, gaps within merged ranges included."""

    def __getstate__(self) -> dict[str, Any]:
        """Each process counts its own bytes."""
        return self.__dict__ | {"bytes_requested": 0}

    def start(self, path: str, count: int) -> tuple[bytes, int]:
        """The first `count` bytes of a file, or all it has, and the size of the file.

        Raises:
            CorruptFileError: It is gone; of `fill` also: it ends too early.
            StoreError: It cannot be read, or reached.
        """
        found, size = self._start(path, count)
        self.bytes_requested += len(found)
        return found, size

    def fill(self, path: str, ranges: Sequence[ByteRange]) -> None:
        """Reads each range into its memory; raises what `start` raises."""
        groups = merge(ranges, self.gap_bytes)
        spans = [(group[0].start, group[-1].stop) for group in groups]
        for group, (start, stop), found in zip(groups, spans, self._read(path, spans), strict=True):
            self.bytes_requested += stop - start
            if len(found) < stop - start:
                raise CorruptFileError(f"it is cut off; {CURE}")
            for each in group:
                each.memory[:] = found[each.start - start : each.stop - start]

    def forget(self, path: str) -> bool:
        """Drops a copy of a file that may be damaged; whether another read may give other bytes."""
        return False

    @abstractmethod
    def _start(self, path: str, count: int) -> tuple[bytes, int]: ...

    @abstractmethod
    def _read(self, path: str, spans: Sequence[tuple[int, int]]) -> Iterable[Buffer]:
        """The bytes of each span; fewer, where the file ends too early."""


class LocalStorage(Storage):
    """Files on a local disk or NFS; each read opens and closes its file."""

    gap_bytes = 4096  # a page: the disk reads it anyway

    def _start(self, path: str, count: int) -> tuple[bytes, int]:
        with _store_errors(), open_file(self.root / path) as file:
            return file.read(count) or b"", os.fstat(file.fileno()).st_size

    def _read(self, path: str, spans: Sequence[tuple[int, int]]) -> Iterator[Buffer]:
        with _store_errors(), open_file(self.root / path) as file:
            for start, stop in spans:
                yield _span(file.fileno(), start, stop)


class ObjectStorage(Storage):
    """Files behind an address that obstore knows: s3, gs, az, http(s), file.

    The connection is made at first use, and not taken along to another process: its runtime does
    not survive a fork (a forked worker would wait for ever).

    Args:
        address: Of the folder, like `s3://bucket/folder`.
        options: Arguments of `obstore.store.from_url`, as plain values.

    Raises:
        DependencyError: At the first read: obstore is not installed.
        ConfigurationError: At a read: this process is a fork of the one that connected.
    """

    gap_bytes = 65_536  # far cheaper than one more request

    def __init__(self, address: str, *, options: Mapping[str, Any] | None = None) -> None:
        super().__init__(address)
        self._options = dict(options or {})
        self._connection: Any = None
        self._process = 0

    def __getstate__(self) -> dict[str, Any]:
        """Without the connection."""
        return super().__getstate__() | {"_connection": None}

    def whole(self, path: str) -> bytes:
        """A whole file; raises what `start` raises."""
        return ObjectStorage.start(self, path, sys.maxsize)[0]

    def _start(self, path: str, count: int) -> tuple[bytes, int]:
        obstore = self._connect()
        with _store_errors(obstore.exceptions.BaseError):
            answer = obstore.get(self._connection, path, options={"range": (0, count)})
            return bytes(answer.bytes()), answer.meta["size"]

    def _read(self, path: str, spans: Sequence[tuple[int, int]]) -> list[memoryview]:
        """All spans travel at once."""
        obstore = self._connect()
        starts, ends = [start for start, _ in spans], [stop for _, stop in spans]
        with _store_errors(obstore.exceptions.BaseError):
            # Its own merging would fetch gaps of up to a megabyte, unseen.
            parts = obstore.get_ranges(self._connection, path, starts=starts, ends=ends, coalesce=0)
            return [memoryview(part) for part in parts]

    def _connect(self) -> Any:
        """The library, once there is a connection."""
        obstore = library(self.root)
        if self._connection is None:
            self._connection = connect(self.root, self._options)
            self._process = os.getpid()
        if self._process != os.getpid():
            raise ConfigurationError(
                f"{self.root} is read in a forked process, where its connection cannot work; give "
                "the DataLoader multiprocessing_context='spawn'"
            )
        return obstore


def open_file(path: Path) -> FileIO:
    """Opens a regular file for reading, unbuffered, or is an OSError.

    A pipe is refused, at which one would wait for ever.
    """

    def without_waiting(name: str, flags: int) -> int:
        return os.open(name, flags | os.O_NONBLOCK)

    file = open(path, "rb", buffering=0, opener=without_waiting)  # noqa: SIM115 (given away)
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(f"{path.name} is a pipe or a device; put the file there, or delete it")
    return file


def read_file(path: Path) -> bytes:
    """All of a file by `open_file`; one that is not small is an OSError too."""
    with open_file(path) as file:
        if (size := os.fstat(file.fileno()).st_size) > LARGEST_BYTES:
            raise OSError(f"{path.name} has {size} bytes, at most {LARGEST_BYTES} are expected")
        return file.readall() or b""


def is_address(where: str | os.PathLike[str]) -> bool:
    """Whether this is an address, such as `s3://bucket/folder`, and no path."""
    return "://" in os.fspath(where)


def library(address: str) -> Any:
    """obstore; a DependencyError where it is not installed."""
    try:
        import obstore
        import obstore.store
    except ImportError as error:
        raise DependencyError(
            f"{address} is in a bucket: run `pip install 'loopy-portrait[remote]'`"
        ) from error
    return obstore


def connect(address: str, options: Mapping[str, Any] | None = None) -> Any:
    """A connection by obstore (`options` of `from_url`); no forked process may use it.

    No address that obstore knows, or no such options, are a StoreError.
    """
    obstore = library(address)
    insecure = {"client_options": {"allow_http": True}} if address.startswith("http:") else {}
    try:
        return obstore.store.from_url(address, **insecure | dict(options or {}))
    except (ValueError, TypeError, obstore.exceptions.BaseError) as error:
        raise StoreError(
            f"{address} is no address that obstore knows, or its options are none "
            f"({first_line(error)})"
        ) from error


def first_line(error: Exception) -> str:
    """Of what obstore says: the rest is for its authors."""
    return str(error).strip().partition("\n")[0]


def _span(file: int, start: int, stop: int) -> bytes:
    """Bytes of an open file, of which one call gives at most 2 GiB."""
    parts = list[bytes]()
    while start < stop and (part := os.pread(file, stop - start, start)):
        parts.append(part)
        start += len(part)
    return b"".join(parts)


@contextmanager
def _store_errors(*kinds: type[Exception]) -> Iterator[None]:
    """Errors of the system, and of these kinds, as those of a store."""
    try:
        yield
    except (OSError, *kinds) as error:
        if isinstance(error, FileNotFoundError):
            words = "it is not there; check the address, or preprocess again"
            raise CorruptFileError(words) from error
        raise StoreError(
            f"it cannot be read ({first_line(error)}); check permission and connection"
        ) from error
