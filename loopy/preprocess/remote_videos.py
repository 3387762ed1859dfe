"""Videos in buckets: which there are, whether one has changed, and a copy of one for a while."""

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import quote, unquote

import av
from av import time_base as TICKS  # noqa: N812 (a second, on the clock of a file)
from av.error import FFmpegError

from loopy.data.media.container import SAFELY
from loopy.data.store.storage import connect, first_line, is_address, library
from loopy.drafts import output_errors
from loopy.errors import MediaError, StoreError
from loopy.preprocess.landmarks.precomputed import tracks_path

Source = Path | str
"""A video: a file; or, as a string, an address that obstore knows (s3, gs, az, http(s), file)."""

MISSING = "missing"


class NotThereError(MediaError):
    """There is no file at an address."""


def list_files(address: str) -> list[str]:
    """Addresses of all files in a folder and the folders in it, but for hidden ones.

    Raises:
        MediaError: It cannot be listed, as most web servers.
        DependencyError: obstore is not installed.
    """
    try:
        with _naming(address):
            found = library(address).list(connect(address))
            paths = [file["path"] for chunk in found for file in chunk]
    except MediaError as error:
        raise MediaError(f"{error}; or give a list (.txt) of addresses") from error
    seen = [path for path in paths if not any(part.startswith(".") for part in path.split("/"))]
    return [f"{address.rstrip('/')}/{quote(path)}" for path in seen]


def tracks_of(source: Source) -> Source:
    """The file of the precomputed face tracks of a video; see `tracks_path`."""
    if not is_address(source):
        return tracks_path(source)
    return f"{source}{tracks_path('a').name.removeprefix('a')}"


def facts_of(source: Source) -> str:
    """What changes when a file does: its size, and its time of change or tag; or ``missing``.

    An address that cannot be reached is a MediaError.
    """
    try:
        if not is_address(source):
            status = Path(source).stat()
            return f"{status.st_size} {status.st_mtime_ns}"
        with _naming(str(source)):
            about = library(str(source)).head(*_place(str(source)))
        return f"{about['size']} {about['e_tag'] or about['last_modified'].isoformat()}"
    except (OSError, NotThereError):
        return MISSING


@contextmanager
def local_copy(
    source: Source, *, tracks: bool = False, scratch: Path | None = None
) -> Iterator[Path]:
    """A file with the video: itself, or a copy that is there as long as the ``with`` block.

    Args:
        source: The video.
        tracks: Whether its face tracks are wanted too, in `tracks_path` of the copy. There may be
            none.
        scratch: Folder for copies; None takes that of the system for temporary files.

    Raises:
        MediaError: Nothing is at the address, or it cannot be reached.
        OutputError: No room for the copy.
        DependencyError: obstore is not installed.
    """
    if not is_address(source):
        yield Path(source)
        return
    with output_errors(scratch or "the folder for temporary files"):
        folder = TemporaryDirectory(prefix="loopy-", dir=scratch, ignore_cleanup_errors=True)
    with folder as name:
        copy = Path(name, f"video{PurePosixPath(unquote(str(source))).suffix}")
        _fetch(str(source), copy)
        if tracks and facts_of(tracks_of(source)) != MISSING:
            _fetch(str(tracks_of(source)), tracks_path(copy))
        yield copy


def remote_seconds(address: str) -> Fraction | None:
    """Length of a video by its header, of which little more than that travels; None: unknown.

    An address that cannot be reached is a MediaError.
    """
    with _naming(address):
        file = library(address).open_reader(*_place(address))
        try:
            with av.open(_Readable(file), "r", options=SAFELY) as container:
                return Fraction(container.duration, TICKS) if container.duration else None
        except FFmpegError:  # its ledger will say so
            return None


class _Readable:
    """A file of obstore as PyAV wants it: giving ``bytes``."""

    def __init__(self, file: Any) -> None:
        self.seek, self.tell, self._read = file.seek, file.tell, file.read

    def read(self, count: int) -> bytes:
        return bytes(self._read(count))


def _place(address: str) -> tuple[Any, str]:
    """A connection to the folder, and the name in it."""
    folder, _, name = address.rpartition("/")
    return connect(folder), unquote(name)


def _fetch(address: str, path: Path) -> None:
    with output_errors(path), path.open("wb") as file:
        for part in _parts(address):
            file.write(part)


def _parts(address: str) -> Iterator[bytes]:
    with _naming(address):
        yield from library(address).get(*_place(address)).stream()


@contextmanager
def _naming(address: str) -> Iterator[None]:
    obstore = library(address)
    try:
        yield
    except FileNotFoundError as error:
        raise NotThereError(f"there is nothing at {address}; check the address") from error
    except StoreError as error:
        raise MediaError(str(error)) from error
    except (OSError, obstore.exceptions.BaseError) as error:
        raise MediaError(
            f"{address} cannot be read ({first_line(error)}); check permission and connection"
        ) from error
