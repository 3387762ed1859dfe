"""The bytes of a shot's file: safetensors in which every row can be read, and checked, alone.

Beside each tensor stands `<name>.crc32`, one checksum a row; the header carries a checksum of
itself. So nothing of a file goes unseen when it is damaged, and nothing else needs to be read.
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

import torch
from torch import Tensor

from loopy.errors import CorruptFileError, StoreError
from loopy.paths import AnyPath
from loopy.typed_values import plain_values

SCHEMA = 1
DTYPES = {"U32": torch.uint32, "F32": torch.float32, "F16": torch.float16, "BOOL": torch.bool}
CODES = {dtype: code for code, dtype in DTYPES.items()}
ALIGNMENT = 8
CHECKSUM = ".crc32"
"""Behind the name of a tensor: that of the checksums of its rows."""
# The checksum comes first, so that its eight hexadecimal digits are at bytes 26 to 33 of the text.
BEFORE_CHECKSUM = b'{"__metadata__":{"crc32":"'
NO_CHECKSUM = b"00000000"
AFTER_CHECKSUM = len(BEFORE_CHECKSUM) + len(NO_CHECKSUM)
LONGEST_HEADER = 2**24
"""Bytes; it is read whole."""
CURE = "delete the file and preprocess its video again"


@contextmanager
def naming(path: AnyPath) -> Iterator[None]:
    """Puts the name of a file before what is wrong with it."""
    try:
        yield
    except StoreError as error:
        raise type(error)(f"{path}: {error}") from error


class TensorPlace(NamedTuple):
    """Where a tensor is in its file: its rows, from a byte of the file on."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return prod(self.shape[1:]) * self.dtype.itemsize

    @property
    def stop(self) -> int:
        """Offset of the first byte after it."""
        return self.start + self.shape[0] * self.row_bytes


class Header(NamedTuple):
    """What the start of a file says: `ShotRecord.about`, and the place of each tensor by name."""

    about: dict[str, Any]
    tensors: dict[str, TensorPlace]


def write_shot_file(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
    """Writes tensors, their checksums and the header, and waits until the disk has them.

    The same tensors, of the types in `DTYPES`, give the same bytes. Errors are those of the disk.
    """
    rows = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    sums = {f"{name}{CHECKSUM}": row_checksums(tensor) for name, tensor in rows.items()}
    # Wide types first keeps all of them aligned; checksums first keeps them near each other.
    order = sorted((sums | rows).items(), key=lambda entry: list(CODES).index(entry[1].dtype))
    with path.open("wb") as file:
        file.write(_encode_header(dict(order), about))
        for _, tensor in order:
            file.write(memory_of(tensor))
        file.flush()
        os.fsync(file.fileno())


def header_length(start: bytes, size: int) -> int:
    """Bytes of the header's text, by the first eight bytes of a file of this size."""
    length = int.from_bytes(start[:8], "little")
    if len(start) < 8 or length > min(size - 8, LONGEST_HEADER):
        raise CorruptFileError(f"it is damaged or cut off ({size} bytes); {CURE}")
    return length


def parse_header(text: bytes, size: int) -> Header:
    """What the text of a header says, once its checksum, schema and sizes fit a file of this size.

    One that is damaged or cut off is a CorruptFileError, one of another schema a StoreError.
    """
    digits = text[len(BEFORE_CHECKSUM) : AFTER_CHECKSUM]
    if not text.startswith(BEFORE_CHECKSUM) or digits != _checksum(text):
        raise CorruptFileError(f"its header is damaged, or it is no shot of a store; {CURE}")
    try:
        header = plain_values(text)
        metadata = header.pop("__metadata__")
        check_schema(int(metadata["schema"]))
        data = 8 + len(text)
        places = {name: _tensor_place(entry, data) for name, entry in header.items()}
        for name, place in places.items():
            sums = places[name if name.endswith(CHECKSUM) else f"{name}{CHECKSUM}"]
            if sums.dtype != torch.uint32 or sums.shape != place.shape[:1]:
                raise ValueError(f"{name} has no checksum for each row")
        about = plain_values(metadata["clip"])
        if not isinstance(about, dict):
            raise ValueError(f"it tells {about!r:.80} of its shot")
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        if isinstance(error, StoreError):
            raise
        raise CorruptFileError(f"its header makes no sense ({error}); {CURE}") from error
    end = max((place.stop for place in places.values()), default=data)
    if end != size:
        raise CorruptFileError(f"it has {size} bytes, expected {end}; {CURE}")
    return Header(about, places)


def _tensor_place(entry: Mapping[str, Any], data: int) -> TensorPlace:
    """Where a tensor is, of a file whose data begin there; what makes no sense raises anything."""
    start, stop = entry["data_offsets"]
    shape = tuple(entry["shape"])
    if not shape or not all(type(size) is int for size in (start, stop, *shape)):
        raise ValueError(f"shape {shape!r:.80} at {start!r:.40} to {stop!r:.40}")
    place = TensorPlace(DTYPES[entry["dtype"]], shape, data + start)
    if start < 0 or min(shape) < 1 or place.stop != data + stop:
        raise ValueError(f"shape {shape!r:.80} does not fit {start:,} to {stop:,}")
    return place


def check_schema(schema: int) -> None:
    """Refuses, by a StoreError, what this version of loopy does not read."""
    if schema < SCHEMA:
        raise StoreError(f"its schema is {schema}, older than {SCHEMA}; preprocess again")
    if schema > SCHEMA:
        raise StoreError(f"its schema is {schema}, newer than {SCHEMA}; upgrade loopy")


def row_checksums(tensor: Tensor) -> Tensor:
    """CRC-32 (that of zlib, PNG and gzip) of the bytes of each row, uint32."""
    data, row_bytes = memory_of(tensor), prod(tensor.shape[1:]) * tensor.dtype.itemsize
    sums = [crc32(data[row * row_bytes : (row + 1) * row_bytes]) for row in range(len(tensor))]
    return torch.tensor(sums, dtype=torch.uint32)


def memory_of(tensor: Tensor) -> memoryview:
    """The memory of a contiguous tensor on the CPU, not a copy."""
    return tensor.reshape(-1).view(torch.uint8).numpy().data


def _encode_header(tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> bytes:
    """Length, then text, padded with spaces as safetensors asks."""
    metadata = {
        "crc32": NO_CHECKSUM.decode(),
        "schema": str(SCHEMA),
        "clip": json.dumps(about, sort_keys=True, allow_nan=False),
    }
    header: dict[str, Any] = {"__metadata__": metadata}
    end = 0
    for name, tensor in tensors.items():
        start, end = end, end + tensor.nbytes
        code, shape = CODES[tensor.dtype], list(tensor.shape)
        header[name] = {"dtype": code, "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    text = text.replace(NO_CHECKSUM, _checksum(text), 1)
    return len(text).to_bytes(8, "little") + text


def _checksum(text: bytes) -> bytes:
    """CRC-32 of a header whose eight digits for it are zeros, as such digits."""
    zeroed = text[: len(BEFORE_CHECKSUM)] + NO_CHECKSUM + text[AFTER_CHECKSUM:]
    return f"{crc32(zeroed):08x}".encode()
