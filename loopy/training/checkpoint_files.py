"""Checkpoints on disk: whole at any moment, read without a trainer and without running code.

A checkpoint is a file, or under FSDP2 a folder in the form of `torch.distributed.checkpoint`, to
which each rank writes its parts. A folder cannot take the place of another in one move, a link to
it can: `last.ckpt` is then a link to one of two folders, and the other one is written to.

A folder's table of contents, `.metadata`, is a pickle that torch reads with whatever is in it, and
so are the plain values beside the tensors. Here both are read with a short list of names that a
pickle may use; what this reading accepts is harmless for torch's own, which a resumed run does.
"""

import io
import os
import pickle
import shutil
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from traceback import walk_tb
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor
from torch.distributed.checkpoint import FileSystemReader, load, metadata
from torch.distributed.checkpoint.filesystem import _StorageInfo
from torch.distributed.checkpoint.metadata import (
    BytesStorageMetadata,
    Metadata,
    TensorStorageMetadata,
)

from loopy.errors import ConfigurationError, LoopyError, ModelError
from loopy.models.tensor_files import told

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

RESTORING = {"_restore_modules_and_callbacks", "restore_training_state"}
"""Steps of lightning's trainer in which a checkpoint is read and put in."""


class StraightToDisk(TorchCheckpointIO):
    """Writes a file as it goes, where lightning has all of it in memory and in TMPDIR first."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None
    ) -> None:
        """Writes to a path that is never read: what is cut off stays."""
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        torch.save(checkpoint, path)


def last_checkpoint(run: Path) -> Path:
    """Where the last checkpoint of a run is, by the folder of the run."""
    return run / "checkpoints" / "last.ckpt"


def check_whole(path: Path) -> None:
    """Makes sure that a checkpoint is not cut off, without reading all of it.

    Raises:
        ModelError: It is; or a folder holds what could run code.
    """
    fault = ""
    try:
        if path.is_dir():
            fault = _fault(path)
        elif not zipfile.is_zipfile(path):  # torch's format ends with its table of contents
            fault = "it has no end"
    except Exception as error:  # a pickle of others can fail in any way
        fault = f"it cannot be read: {' '.join(str(error).split())[:200] or type(error).__name__}"
    if fault:
        raise ModelError(
            f"the checkpoint {path} is cut off or no checkpoint ({fault}); give another one by "
            "--ckpt_path, or delete it to start anew"
        )


def check_form(path: Path, trainer: pl.Trainer) -> None:
    """Makes sure that the strategy of a run reads the form of a checkpoint.

    Raises:
        ConfigurationError: Another kind of strategy wrote it.
    """
    sharded = isinstance(trainer.strategy, ModelParallelStrategy)
    if path.is_dir() != sharded:
        names = ["another strategy", "ModelParallelStrategy"]
        its, ours = names if sharded else names[::-1]
        raise ConfigurationError(
            f"{path} was written by {its}, and the run has {ours}: go on with the strategy it was "
            "begun with, or export the checkpoint and start anew with init_from"
        )


def checkpoint_weights(path: Path) -> dict[str, Tensor]:
    """Weights in a checkpoint, whole and by name: averaged where it has averages.

    Raises:
        ModelError: It cannot be read, has none, or holds more than tensors and plain values.
    """
    try:
        if path.is_dir():
            return _folder_weights(path)
        zipped = zipfile.is_zipfile(path)  # only such files can be mapped
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
        averages = checkpoint[AVERAGE]["averages"] if AVERAGE in checkpoint else {}
        return checkpoint["state_dict"] | averages
    except ModelError:
        raise
    except Exception as error:  # a pickle of others can fail in any way
        raise ModelError(
            f"no weights can be read from {path} ({told(error, path)}); give another of its run"
        ) from error


@contextmanager
def restore_errors(checkpoint: Callable[[], str | None]) -> Iterator[None]:
    """Turns what torch and lightning say of a checkpoint that cannot be restored into ModelError.

    Args:
        checkpoint: Says where it is, when it is known.
    """
    try:
        yield
    except LoopyError:
        raise
    except Exception as error:
        steps = {frame.f_code.co_name for frame, _ in walk_tb(error.__traceback__)}
        if not steps & RESTORING:
            raise
        path = Path(checkpoint() or "")
        raise ModelError(
            f"the checkpoint {path} cannot be restored ({told(error, path)}); go on with the "
            "recipe that wrote it, or give another one by --ckpt_path"
        ) from error


def write_checkpoint(trainer: pl.Trainer, path: Path) -> None:
    """Saves, by all ranks; what was there before stays until the new one is whole.

    Args:
        trainer: What is saved.
        path: Where; under FSDP2 it becomes a link.
    """
    hidden = path.with_name(f".{path.name}")
    slot = _free_slot(path) if trainer.is_global_zero else path
    if isinstance(trainer.strategy, ModelParallelStrategy):
        trainer.save_checkpoint(slot)  # to the slot of the first rank
        if trainer.is_global_zero:
            for written in (*slot.iterdir(), slot):
                _sync(written)
            hidden.unlink(missing_ok=True)
            hidden.symlink_to(slot.name)
    else:
        if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
            trainer.strategy.checkpoint_io = StraightToDisk()
        trainer.save_checkpoint(hidden)  # by all ranks; the first one writes
        if trainer.is_global_zero:
            _sync(hidden)
    if trainer.is_global_zero:
        os.replace(hidden, path)
        _sync(path.parent)
        _free_slot(path)
    trainer.strategy.barrier()  # a rank that leaves makes launchers end the others


def _free_slot(path: Path) -> Path:
    """A folder that a link does not point to, emptied; for one rank alone."""
    slots = [path.with_name(f".{path.stem}.{number}{path.suffix}") for number in (0, 1)]
    if path.is_dir() and not path.is_symlink():  # copied from elsewhere
        shutil.rmtree(slots[1], ignore_errors=True)
        path.rename(slots[1])
        path.symlink_to(slots[1].name)
    current = path.readlink().name if path.is_symlink() else None
    free = [slot for slot in slots if slot.name != current]
    for slot in free:
        shutil.rmtree(slot, ignore_errors=True)
    return free[0]


def _sync(path: Path) -> None:
    """Makes sure that a file's content, or a folder's list of names, is on disk."""
    number = os.open(path, os.O_RDONLY)
    os.fsync(number)
    os.close(number)


class _Unpickler(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str, /) -> Any:
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


def _folder_weights(path: Path) -> dict[str, Tensor]:
    check_whole(path)
    reader = Reader(path)
    stored = {
        key.removeprefix(f"{WEIGHTS}."): about
        for key, about in reader.read_metadata().state_dict_metadata.items()
        if key.startswith(f"{WEIGHTS}.") and isinstance(about, TensorStorageMetadata)
    }
    names = [name for name in stored if not name.startswith(f"{AVERAGE}.")]
    taken = {n: f"{AVERAGE}.{n}" if f"{AVERAGE}.{n}" in stored else n for n in names}
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
    needs = sum(
        about.size.numel() * about.properties.dtype.itemsize
        for about in contents.state_dict_metadata.values()
        if isinstance(about, TensorStorageMetadata)
    )
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
