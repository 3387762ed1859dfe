"""Which bytes of a file hold the rows that are asked for, and whether they came back whole."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple
from zlib import crc32

import torch
from jaxtyping import Int
from torch import Tensor

from loopy.data.store.shot_file import CURE, TensorPlace, memory_of
from loopy.errors import CorruptFileError, StoreError

Rows = slice | Sequence[int] | Int[Tensor, " rows"]


class ByteRange(NamedTuple):
    """Bytes of a file, from an offset on, and the memory that they go to."""

    start: int
    memory: memoryview

    @property
    def stop(self) -> int:
        """Offset of the first byte after them."""
        return self.start + len(self.memory)


class RowRead:
    """Rows of one tensor, each of which is read once, in the order of the file.

    Args:
        name: The tensor's, for messages.
        place: Where the tensor is.
        checksums: Where its checksums are.
        rows: As in `tensor[rows]`: a slice, or row numbers from 0 in any order, with repeats. One
            that does not exist is a StoreError.
    """

    def __init__(self, name: str, place: TensorPlace, checksums: TensorPlace, rows: Rows) -> None:
        self._name, self._places = name, (place, checksums)
        count = place.shape[0]
        if isinstance(rows, slice):
            rows = range(*rows.indices(count))
        wanted = torch.as_tensor(rows, dtype=torch.int64)
        if wanted.numel() and not 0 <= int(wanted.min()) <= int(wanted.max()) < count:
            raise StoreError(
                f"rows {int(wanted.min())} to {int(wanted.max())} of {name} were asked for; "
                f"it has rows 0 to {count - 1}"
            )
        self._rows, self._order = torch.unique(wanted, return_inverse=True)
        self._values = torch.empty(len(self._rows), *place.shape[1:], dtype=place.dtype)
        self._sums = torch.empty(len(self._rows), dtype=torch.uint32)

    def ranges(self) -> Iterator[ByteRange]:
        """What has to be read: neighbouring rows as one."""
        ends = [0, *((self._rows.diff() != 1).nonzero()[:, 0] + 1).tolist(), len(self._rows)]
        rows = self._rows.tolist()
        for place, target in zip(self._places, (self._values, self._sums), strict=True):
            memory, size = memory_of(target), place.row_bytes
            for first, stop in pairwise(ends):
                if first < stop:
                    offset = place.start + rows[first] * size
                    yield ByteRange(offset, memory[first * size : stop * size])

    def finish(self) -> Tensor:
        """The rows in the order in which they were asked for, once they are read.

        One whose bytes are not those that were written is a CorruptFileError.
        """
        memory, size = memory_of(self._values), self._places[0].row_bytes
        sums = self._sums.tolist()
        for index, row in enumerate(self._rows.tolist()):
            if crc32(memory[index * size : (index + 1) * size]) != sums[index]:
                raise CorruptFileError(f"row {row} of {self._name} is damaged; {CURE}")
        in_order = torch.equal(self._order, torch.arange(len(self._rows)))
        return self._values if in_order else self._values[self._order]


def merge(ranges: Sequence[ByteRange], gap_bytes: int) -> list[list[ByteRange]]:
    """Ranges in the order of the file, in groups that are read as one.

    Between two ranges of a group may lie `gap_bytes` that nobody asked for: on a distant disk they
    cost less than another request.
    """
    groups: list[list[ByteRange]] = []
    for each in sorted(ranges, key=lambda each: each.start):
        if groups and each.start - groups[-1][-1].stop <= gap_bytes:
            groups[-1].append(each)
        else:
            groups.append([each])
    return groups
