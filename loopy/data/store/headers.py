"""Headers of shots, read from a storage; whatever they say is checked here, once."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from loopy.data.store.description import StoreDescription
from loopy.data.store.shot_file import (
    CURE,
    Header,
    TensorPlace,
    header_length,
    naming,
    parse_header,
)
from loopy.data.store.shots import Provenance, checked_id, shot_path
from loopy.data.store.storage import LocalStorage, Storage
from loopy.errors import CorruptFileError, StoreError
from loopy.paths import AnyPath
from loopy.typed_values import record_of

FIRST_BYTES = 4096  # one page; most headers fit
LARGEST_MEASURE = torch.finfo(torch.float32).max


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
        _check_kind(header.tensors, description.tensors(about.frames))
    except ValueError as error:
        raise CorruptFileError(f"its header makes no sense ({error}); {CURE}") from error
    if path != (right := shot_path(about.id)):
        raise CorruptFileError(f"it holds shot {about.id}; give it that name again, {right}")
    return header


def read_abouts(
    root: AnyPath, description: StoreDescription, *, keep: Collection[str] | None = None
) -> tuple[list[dict[str, Any]], list[StoreError]]:
    """What shots on this disk say of themselves, by id, and what is wrong with the others.

    Of those named by `keep`, as far as they exist; None takes all.

    Raises:
        StoreError: There are some, and not one can be read.
    """
    storage, abouts, damaged = LocalStorage(Path(root)), list[dict[str, Any]](), list[StoreError]()
    for path in sorted(Path(root).glob("clips/*/[!.]*.safetensors")):
        if keep is not None and path.stem not in keep:
            continue
        try:
            with naming(path):
                header = read_header(storage, path.relative_to(root).as_posix(), description)
        except StoreError as error:
            damaged.append(error)
            continue
        abouts.append(header.about)
    if damaged and not abouts:
        raise StoreError(f"{len(damaged)} shots cannot be read: {'; '.join(map(str, damaged))}")
    return sorted(abouts, key=lambda about: about["id"]), damaged


def _check_kind(tensors: Mapping[str, TensorPlace], expected: Mapping[str, Any]) -> None:
    """Raises a ValueError where a tensor lacks, or is of another type or shape than the store's."""
    for name, kind in expected.items():
        if name not in tensors:
            raise ValueError(f"it has no {name}")
        if (found := (tensors[name].dtype, tensors[name].shape)) != kind:
            raise ValueError(f"{name} is {found}, expected {kind}")
