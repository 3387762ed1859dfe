"""Checkpoints of FSDP2, folders in torch's distributed form, read without running code.

Their table of contents, `.metadata`, is a pickle that torch reads with whatever is in it, and so
are the plain values beside the tensors. Here both are read with a short list of names that a
pickle may use; what this reading accepts is harmless for torch's own, which a resumed run does.
"""

import io
import pickle
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint import FileSystemReader, load, metadata
from torch.distributed.checkpoint.filesystem import _StorageInfo
from torch.distributed.checkpoint.metadata import (
    BytesStorageMetadata,
    Metadata,
    TensorStorageMetadata,
)

from loopy.errors import ModelError

AVERAGE = "moving_average"
"""Key of the averaged weights in a file, and what their names begin with in a folder."""

WEIGHTS = "state_dict"
"""Key of the weights, averaged ones included, in a folder."""

ALLOWED = {
    "torch.distributed.checkpoint.metadata": {
        name for name in metadata.__all__ if isinstance(getattr(metadata, name), type)
    }
    | {"_MEM_FORMAT_ENCODING"},
    "torch.distributed.checkpoint.filesystem": {_StorageInfo.__name__},
    "torch.serialization": {"_get_layout"},
    "torch": {"Size"} | {name for name, kind in vars(torch).items() if type(kind) is torch.dtype},
    "pathlib": {"PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath"},
}
"""Module -> names that `.metadata` may use: records, sizes, types, and where it was written."""


class _Unpickler(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str, /) -> Any:
        """Only what is allowed; names with a dot would reach into it."""
        if global_name in ALLOWED.get(module_name, ()):
            return super().find_class(module_name, global_name)
        raise pickle.UnpicklingError(f"it names {module_name}.{global_name}, which could run code")


class Reader(FileSystemReader):
    """torch's reader, with a table of contents that cannot run code."""

    def read_metadata(self, *_: Any, **__: Any) -> Metadata:
        """The table of contents."""
        with (Path(self.path) / ".metadata").open("rb") as file:
            found = _Unpickler(file).load()
        if not isinstance(found, Metadata):
            raise pickle.UnpicklingError(f"it holds a {type(found).__name__}")
        return found


def check_folder(path: Path) -> None:
    """Makes sure that a folder is whole, and that nothing in it can run code.

    Raises:
        ModelError: It is not, or something can.
    """
    try:
        fault = _fault(path)
    except Exception as error:  # a pickle of others can fail in any way
        fault = f"it cannot be read: {' '.join(str(error).split())[:200] or type(error).__name__}"
    if fault:
        raise ModelError(
            f"the checkpoint {path} is cut off or no checkpoint ({fault}); give another one by "
            "--ckpt_path, or delete it to start anew"
        )


def folder_weights(path: Path) -> dict[str, Tensor]:
    """Weights in a folder, whole and by name: averaged where it has averages.

    Raises:
        ModelError: It is cut off, or something in it could run code.
    """
    check_folder(path)
    reader = Reader(path)
    stored = {
        key.removeprefix(f"{WEIGHTS}."): about
        for key, about in reader.read_metadata().state_dict_metadata.items()
        if key.startswith(f"{WEIGHTS}.") and isinstance(about, TensorStorageMetadata)
    }
    names = [name for name in stored if not name.startswith(f"{AVERAGE}.")]
    averaged = {name: f"{AVERAGE}.{name}" for name in names if f"{AVERAGE}.{name}" in stored}
    taken = {name: averaged.get(name, name) for name in names}
    tensors = {
        key: torch.empty(stored[key].size, dtype=stored[key].properties.dtype)
        for key in taken.values()
    }
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*in a single process", UserWarning)  # it is meant
        load({WEIGHTS: tensors}, storage_reader=reader, no_dist=True)
    return {name: tensors[key] for name, key in taken.items()}


def _fault(path: Path) -> str:
    """What is wrong with a folder; nothing if it is whole."""
    contents = Reader(path).read_metadata()
    ends: dict[str, int] = {}
    for part in (contents.storage_data or {}).values():
        ends[part.relative_path] = max(ends.get(part.relative_path, 0), part.offset + part.length)
    if strange := [name for name in ends if Path(name).name != name]:
        return f"it reaches for {strange[0]}"
    for file, end in ends.items():
        if not (path / file).is_file() or (path / file).stat().st_size < end:
            return f"{file} is not whole"
    if not zipfile.is_zipfile(path / "meta.pt"):
        return "meta.pt is not whole"
    tensors = [
        about
        for about in contents.state_dict_metadata.values()
        if isinstance(about, TensorStorageMetadata)
    ]
    needs = sum(about.size.numel() * about.properties.dtype.itemsize for about in tensors)
    if needs > sum(ends.values()):
        return f"it tells of {needs} bytes of tensors and has {sum(ends.values())}"
    for key, part in (contents.storage_data or {}).items():
        if isinstance(contents.state_dict_metadata.get(key.fqn), BytesStorageMetadata):
            if part.transform_descriptors:
                return f"{key.fqn} is stored in a way that is not ours"
            with (path / part.relative_path).open("rb") as file:
                file.seek(part.offset)
                torch.load(io.BytesIO(file.read(part.length)), weights_only=True)
    return ""
