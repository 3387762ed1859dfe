"""Where the files of a store are: a folder, or a bucket. Both give exact ranges of bytes."""

import os
import stat
import sys
from collections.abc import Mapping, Sequence
from io import FileIO
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

from loopy.data.store.rows import Piece, merge
from loopy.data.store.shot_file import CURE
from loopy.errors import ConfigurationError, CorruptFileError, DependencyError, StoreError

FOLDER_GAP_BYTES = 4096  # a page: the disk reads it anyway
BUCKET_GAP_BYTES = 65_536  # far cheaper than one more request

LARGEST_BYTES = 2**28
"""Of files that are read whole: descriptions and ledgers, in JSON."""


class Place(Protocol):
    """What the reader needs; `shot_file.naming` puts the file's name before its errors."""

    @property
    def root(self) -> Any:
        """Address or folder, for messages."""
        ...

    @property
    def bytes_requested(self) -> int:
        """Bytes asked for by this process, gaps within merged ranges included."""
        ...

    def start(self, path: str, count: int) -> tuple[bytes, int]:
        """The first `count` bytes of a file, or all it has, and the size of the file."""
        ...

    def fill(self, path: str, pieces: Sequence[Piece]) -> None:
        """Reads each piece into its memory."""
        ...

    def forget(self, path: str) -> bool:
        """Drops what may be a damaged copy of a file; whether another read may give another one."""
        ...


class Folder:
    """Files on a local disk or NFS; each read opens and closes its file.

    Args:
        root: The folder.
        gap_bytes: See `rows.merge`.
    """

    def __init__(self, root: Path, *, gap_bytes: int = FOLDER_GAP_BYTES) -> None:
        self.root, self.gap_bytes, self.bytes_requested = root, gap_bytes, 0

    def __getstate__(self) -> dict[str, Any]:
        """Each process counts its own bytes."""
        return self.__dict__ | {"bytes_requested": 0}

    def start(self, path: str, count: int) -> tuple[bytes, int]:
        """The first `count` bytes of a file, or all it has, and the size of the file.

        Raises:
            CorruptFileError: There is no such file.
            StoreError: It cannot be read.
        """
        try:
            with open_file(self.root / path) as file:
                found = file.read(count) or b""
                size = os.fstat(file.fileno()).st_size
        except OSError as error:
            raise _unreadable(error) from error
        self.bytes_requested += len(found)
        return found, size

    def fill(self, path: str, pieces: Sequence[Piece]) -> None:
        """Reads each piece into its memory.

        Raises:
            CorruptFileError: The file is gone, or ends too early.
            StoreError: It cannot be read.
        """
        try:
            with open_file(self.root / path) as file:
                for group in merge(pieces, self.gap_bytes):
                    self.bytes_requested += group[-1].stop - group[0].start
                    _read_group(file.fileno(), group)
        except OSError as error:
            raise _unreadable(error) from error

    def forget(self, path: str) -> bool:
        """The files here are no copies: what is damaged stays so."""
        return False


class Bucket:
    """Files behind an address that obstore knows: s3, gs, az, http(s), file.

    The connection is made at first use, and not taken along to another process: its runtime does
    not survive a fork (a forked worker would wait for ever).

    Args:
        address: Of the folder, like `s3://bucket/folder`.
        gap_bytes: See `rows.merge`.
        options: Arguments of `obstore.store.from_url`, as plain values.
    """

    def __init__(
        self,
        address: str,
        *,
        gap_bytes: int = BUCKET_GAP_BYTES,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self.root, self.gap_bytes, self.bytes_requested = address, gap_bytes, 0
        self._options: dict[str, Any] = dict(options or {})
        self._connection: Any = None
        self._process = 0

    def __getstate__(self) -> dict[str, Any]:
        """Leaves the connection behind; each process counts its own bytes."""
        return self.__dict__ | {"bytes_requested": 0, "_connection": None}

    def start(self, path: str, count: int) -> tuple[bytes, int]:
        """The first `count` bytes of a file, or all it has, and the size of the file.

        Raises:
            CorruptFileError: There is no such file.
            StoreError: It cannot be reached.
            DependencyError: obstore is not installed.
            ConfigurationError: This process is a fork of the one that connected.
        """
        obstore = self._connect()
        try:
            answer = obstore.get(self._connection, path, options={"range": (0, count)})
            found, size = bytes(answer.bytes()), answer.meta["size"]
        except (OSError, obstore.exceptions.BaseError) as error:
            raise _unreadable(error) from error
        self.bytes_requested += len(found)
        return found, size

    def whole(self, path: str) -> bytes:
        """A whole file; raises what `start` raises."""
        return self.start(path, sys.maxsize)[0]

    def fill(self, path: str, pieces: Sequence[Piece]) -> None:
        """Reads each piece into its memory; ranges travel side by side.

        Raises:
            CorruptFileError: The file is gone, or ends too early.
            StoreError: It cannot be reached.
            DependencyError: obstore is not installed.
            ConfigurationError: This process is a fork of the one that connected.
        """
        obstore = self._connect()
        groups = merge(pieces, self.gap_bytes)
        starts, ends = [g[0].start for g in groups], [g[-1].stop for g in groups]
        try:
            # Its own merging would fetch gaps of up to a megabyte, unseen.
            answers = obstore.get_ranges(
                self._connection, path, starts=starts, ends=ends, coalesce=0
            )
        except (OSError, obstore.exceptions.BaseError) as error:
            raise _unreadable(error) from error
        for group, answer in zip(groups, answers, strict=True):
            self.bytes_requested += group[-1].stop - group[0].start
            found = memoryview(answer)
            if len(found) != group[-1].stop - group[0].start:  # obstore gives what is there
                raise CorruptFileError(f"it is cut off; {CURE}")
            for piece in group:
                first = piece.start - group[0].start
                piece.memory[:] = found[first : first + len(piece.memory)]

    def forget(self, path: str) -> bool:
        """Nothing of a file is kept here: it is read as it is."""
        return False

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
    """Opens a file for reading, unbuffered; a pipe is refused, at which one would wait for ever.

    Raises:
        OSError: It cannot be opened, or is no regular file.
    """
    file = open(path, "rb", buffering=0, opener=_without_waiting)  # noqa: SIM115 (given away)
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(f"{path.name} is a pipe or a device; put the file there, or delete it")
    return file


def read_file(path: Path) -> bytes:
    """All of a small file.

    Raises:
        OSError: See `open_file`; or it is not small.
    """
    with open_file(path) as file:
        if (size := os.fstat(file.fileno()).st_size) > LARGEST_BYTES:
            raise OSError(f"{path.name} has {size} bytes, at most {LARGEST_BYTES} are expected")
        return file.readall() or b""


def is_address(where: str | os.PathLike[str]) -> bool:
    """Whether this is an address, such as `s3://bucket/folder`, and no path."""
    return "://" in os.fspath(where)


def library(address: str) -> Any:
    """obstore, which not everybody needs.

    Raises:
        DependencyError: It is not installed.
    """
    try:
        import obstore
        import obstore.store
    except ImportError as error:
        raise DependencyError(
            f"{address} is in a bucket: run `pip install 'loopy-portrait[remote]'`"
        ) from error
    return obstore


def connect(address: str, options: Mapping[str, Any] | None = None) -> Any:
    """A connection to a folder by obstore; it must not be taken along to a forked process.

    Args:
        address: Of the folder.
        options: Arguments of `obstore.store.from_url`.

    Raises:
        StoreError: No address that obstore knows, or no such options.
        DependencyError: It is not installed.
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


def _read_group(file: int, group: Sequence[Piece]) -> None:
    """Fills the memories of neighbouring pieces by as few calls as the system allows."""
    memories, offset = [group[0].memory], group[0].start
    for before, piece in pairwise(group):
        if piece.start > before.stop:
            memories.append(memoryview(bytearray(piece.start - before.stop)))
        memories.append(piece.memory)
    while memories:
        read = os.preadv(file, memories[:1024], offset)  # 1024: the most that Linux takes
        if read == 0:
            raise CorruptFileError(f"it is cut off; {CURE}")
        offset += read
        while memories and read >= len(memories[0]):
            read -= len(memories.pop(0))
        if read:
            memories[0] = memories[0][read:]


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def _unreadable(error: Exception) -> StoreError:
    if isinstance(error, FileNotFoundError):
        return CorruptFileError("it is not there; check the address, or preprocess again")
    return StoreError(f"it cannot be read ({first_line(error)}); check permission and connection")


def first_line(error: Exception) -> str:
    """Of what obstore says: the rest is for its authors."""
    return str(error).strip().partition("\n")[0]
