"""Checkpoints on disk: whole at any moment, and read without a trainer.

A checkpoint is a file, or under FSDP2 a folder in the form of `torch.distributed.checkpoint`, to
which each rank writes its parts. A folder cannot take the place of another in one move, a link to
it can: `last.ckpt` is then a link to one of two folders, and the other one is written to.
"""

import os
import shutil
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

from loopy.errors import ConfigurationError, LoopyError, ModelError
from loopy.models.tensor_files import told
from loopy.training.sharded_files import AVERAGE, check_folder, folder_weights

RESTORING = {"_restore_modules_and_callbacks", "restore_training_state"}
"""Steps of lightning's trainer in which a checkpoint is read and put in."""


class StraightToDisk(TorchCheckpointIO):
    """Writes a file as it goes, where lightning has all of it in memory and in TMPDIR first."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None
    ) -> None:
        """Writes; what is cut off stays behind, so the path is one that is never read."""
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
    if path.is_dir():
        check_folder(path)
    elif not zipfile.is_zipfile(path):  # torch's format ends with its table of contents
        raise ModelError(
            f"the checkpoint {path} is cut off or no checkpoint; give another one by --ckpt_path, "
            "or delete it to start anew"
        )


def check_form(path: Path, trainer: pl.Trainer) -> None:
    """Makes sure that the strategy of a run reads the form of a checkpoint.

    Raises:
        ConfigurationError: Another kind of strategy wrote it.
    """
    sharded = isinstance(trainer.strategy, ModelParallelStrategy)
    if path.is_dir() != sharded:
        here, there = "ModelParallelStrategy", "another strategy"
        ours, its = (here, there) if sharded else (there, here)
        raise ConfigurationError(
            f"{path} was written by {its}, and the run has {ours}: go on with the strategy it was "
            "begun with, or export the checkpoint and start anew with init_from"
        )


def read_weights(path: Path) -> dict[str, Tensor]:
    """Weights in a checkpoint, whole and by name: averaged where it has averages.

    Raises:
        ModelError: It cannot be read, has none, or holds more than tensors and plain values.
    """
    try:
        if path.is_dir():
            return folder_weights(path)
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
    """Turns what torch and lightning say of a checkpoint that they cannot restore into one line.

    Args:
        checkpoint: Says where it is, when it is known.

    Raises:
        ModelError: It cannot be restored.
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
    slot = path
    if trainer.is_global_zero:
        slot = _free_slot(path)
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
    try:
        os.fsync(number)
    finally:
        os.close(number)
