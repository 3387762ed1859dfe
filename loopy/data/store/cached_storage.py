"""Files of a bucket, copied to this disk at their first use, up to a bound."""

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

from loopy.data.store.rows import ByteRange
from loopy.data.store.storage import LocalStorage, ObjectStorage
from loopy.drafts import existing_folder, output_errors, writing
from loopy.errors import StoreError
from loopy.paths import AnyPath

T = TypeVar("T")

SLACK = 0.005
"""Share of the bound that a process may add before it looks at the folder again."""


class CachedStorage(ObjectStorage):
    """A bucket, and a folder of whole files of it; those unused for longest make room for others.

    It pays where all shots fit, or are read often: a file is some ten times what a sample needs.
    Processes and stores may share the folder.

    Args:
        address: Of the bucket's folder.
        folder: Where copies are kept.
        most_bytes: The bound; each process exceeds it by 0.5 % at most, and by one file.
        options: Arguments of `obstore.store.from_url`.
    """

    def __init__(
        self,
        address: str,
        folder: AnyPath,
        *,
        most_bytes: int,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(address, options=options)
        self.folder, self.most_bytes = Path(folder), most_bytes
        self._local = LocalStorage(self.folder / sha256(address.encode()).hexdigest()[:16])
        self._added = most_bytes

    def start(self, path: str, count: int) -> tuple[bytes, int]:
        """See `Storage.start`; a folder that cannot be written is an OutputError."""
        return self._from_copy(path, lambda: self._local.start(path, count))

    def fill(self, path: str, ranges: Sequence[ByteRange]) -> None:
        """See `Storage.fill`, and `start`."""
        self._from_copy(path, lambda: self._local.fill(path, ranges))

    def forget(self, path: str) -> bool:
        """Deletes the copy of a file, so that the next read fetches it again; or an OutputError."""
        copy = self._local.root / path
        existed = copy.is_file()
        with output_errors(copy):
            copy.unlink(missing_ok=True)
        return existed

    def _from_copy(self, path: str, read: Callable[[], T]) -> T:
        """Reads from the copy; makes it where there is none, or another process deleted it."""
        copy = self._local.root / path
        if copy.is_file():
            try:
                with suppress(OSError):  # in a folder that is read-only the order stays
                    os.utime(copy)
                return read()
            except StoreError:
                if copy.is_file():
                    raise
        self._fetch(path, copy)
        return read()

    def _fetch(self, path: str, copy: Path) -> None:
        content = self.whole(path)
        self._added += len(content)
        if self._added > SLACK * self.most_bytes:
            self._make_room(len(content))
            self._added = 0
        existing_folder(copy.parent)
        with writing(copy) as hidden:
            hidden.write_bytes(content)

    def _make_room(self, needed: int) -> None:
        found = list[tuple[float, int, Path]]()
        # only folders of the names that __init__ gives: a store beside them stays whole
        for path in self.folder.glob(f"{'[0-9a-f]' * 16}/clips/*/*.safetensors"):
            with suppress(FileNotFoundError):  # another process makes room too
                found.append(((status := path.stat()).st_mtime, status.st_size, path))
        over = needed + sum(size for _, size, _ in found) - self.most_bytes
        for _, size, path in sorted(found):
            if over <= 0:
                return
            path.unlink(missing_ok=True)
            over -= size
