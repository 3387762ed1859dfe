"""Files of a bucket, copied to this disk at their first use, up to a bound."""

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

from loopy.data.media.container import AnyPath
from loopy.data.store.rows import Piece
from loopy.data.store.storage import Bucket, Folder
from loopy.drafts import draft
from loopy.errors import OutputError, StoreError

Answer = TypeVar("Answer")

SLACK = 0.005
"""Share of the bound that a process may add before it looks at the folder again."""


class Copies:
    """A bucket behind a folder of whole files; those unused for longest make room for others.

    It pays where all clips fit, or are read often: a file is some ten times what a sample needs.
    Processes and stores may share the folder.

    Args:
        bucket: Where the files come from.
        folder: Where they are kept.
        most_bytes: The bound; each process exceeds it by 0.5 % at most, and by one file.
    """

    def __init__(self, bucket: Bucket, folder: AnyPath, *, most_bytes: int) -> None:
        name = sha256(bucket.root.encode()).hexdigest()[:16]
        self.bucket, self.folder, self.most_bytes = bucket, Path(folder), most_bytes
        self._copies, self._added = Folder(self.folder / name), most_bytes

    @property
    def root(self) -> Any:
        """Address of the bucket, for messages."""
        return self.bucket.root

    @property
    def bytes_requested(self) -> int:
        """Bytes that have travelled."""
        return self.bucket.bytes_requested

    def start(self, path: str, count: int) -> tuple[bytes, int]:
        """The first `count` bytes of a file, or all it has, and the size of the file.

        Raises:
            StoreError: There is no such file, or it cannot be reached.
            OutputError: The folder cannot be written.
        """
        return self._here(path, lambda: self._copies.start(path, count))

    def fill(self, path: str, pieces: Sequence[Piece]) -> None:
        """Reads each piece into its memory.

        Raises:
            StoreError: The file is gone, ends too early, or cannot be reached.
            OutputError: The folder cannot be written.
        """
        self._here(path, lambda: self._copies.fill(path, pieces))

    def forget(self, path: str) -> bool:
        """Deletes the copy of a file, so that the next read fetches it again.

        Returns:
            Whether there was one.

        Raises:
            OutputError: It cannot be deleted.
        """
        copy = self._copies.root / path
        there = copy.is_file()
        try:
            copy.unlink(missing_ok=True)
        except OSError as error:
            raise OutputError(
                f"{copy} is damaged and cannot be deleted: {error.strerror}"
            ) from error
        return there

    def _here(self, path: str, read: Callable[[], Answer]) -> Answer:
        """Reads from the copy; makes it where there is none, or another process deleted it."""
        copy = self._copies.root / path
        if copy.is_file():
            try:
                with suppress(OSError):  # a folder that one may read only keeps its order
                    os.utime(copy)
                return read()
            except StoreError:
                if copy.is_file():
                    raise
        self._fetch(path, copy)
        return read()

    def _fetch(self, path: str, copy: Path) -> None:
        content = self.bucket.whole(path)
        self._added += len(content)
        if self._added > SLACK * self.most_bytes:
            self._make_room(len(content))
            self._added = 0
        try:
            copy.parent.mkdir(parents=True, exist_ok=True)
            with draft(copy) as hidden:
                hidden.write_bytes(content)
        except OSError as error:
            raise OutputError(f"{copy} cannot be written: {error.strerror}; make room") from error

    def _make_room(self, needed: int) -> None:
        found = list[tuple[float, int, Path]]()
        # only folders of the names that __init__ gives: a store beside them stays whole
        for path in self.folder.glob(f"{'[0-9a-f]' * 16}/clips/*/*.safetensors"):
            try:
                status = path.stat()
            except FileNotFoundError:  # another process makes room too
                continue
            found.append((status.st_mtime, status.st_size, path))
        over = needed + sum(size for _, size, _ in found) - self.most_bytes
        for _, size, path in sorted(found):
            if over <= 0:
                return
            path.unlink(missing_ok=True)
            over -= size
