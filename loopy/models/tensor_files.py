"""Files of tensors that others have made: safetensors, whole or in shards, and pickles.

Nothing is copied before it is used (files are mapped), and no code of a pickle is run.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from zipfile import is_zipfile

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

from loopy.errors import ModelError

NAMES = (
    "diffusion_pytorch_model.safetensors",
    "diffusion_pytorch_model.safetensors.index.json",
    "diffusion_pytorch_model.fp16.safetensors",
    "diffusion_pytorch_model.bin",
    "diffusion_pytorch_model.fp16.bin",
)
"""The weights of a diffusers folder, the best ones first."""
HARMLESS = ("pytorch_lightning.", "lightning.", "lightning_fabric.", "numpy.", "omegaconf.")
"""Libraries whose objects old checkpoints hold beside their tensors."""
DEEPEST = 3
"""How often a state_dict may lie in another one."""
LFS_POINTER = b"version https://git-lfs"


@dataclass(frozen=True)
class Weights:
    """Tensors out of files.

    Args:
        files: Where they were.
        tensors: By name.
        skipped: Names in the files that by design are not among them.
    """

    files: tuple[Path, ...]
    tensors: Mapping[str, Tensor]
    skipped: tuple[str, ...] = ()


class NotTaken:
    """Stands for an object that a checkpoint holds beside its tensors; never the object itself."""

    def __init__(self, *_: object) -> None: ...

    def __setstate__(self, _: object) -> None:
        """Takes nothing."""


def read_tensors(path: Path) -> Weights:
    """All tensors of a file, or of a diffusers folder.

    Args:
        path: ``.safetensors``, a pickle of any suffix, or a folder with ``config.json``.

    Raises:
        ModelError: No such file, one that is damaged, or a pickle of more than tensors.
    """
    if path.is_dir():
        path = _inside(path)
    if path.name.endswith(".index.json"):
        files = tuple(path.parent / name for name in _shards(path))
        shards = [_tensors(file) for file in files]
        return Weights(files, {name: t for shard in shards for name, t in shard.items()})
    return Weights((path,), _tensors(path))


def read_config(folder: Path) -> dict[str, Any]:
    """``config.json`` of a diffusers folder; empty for a single file, which has none.

    Raises:
        ModelError: It is missing or no JSON.
    """
    return read_object(folder / "config.json") if folder.is_dir() else {}


def _inside(folder: Path) -> Path:
    for name in NAMES:
        if (folder / name).is_file():
            return folder / name
    raise ModelError(f"{folder} has no weights; expected one of {', '.join(NAMES)}")


def _shards(index: Path) -> list[str]:
    """Files that an index names: all in its own folder."""
    placed = read_object(index).get("weight_map")
    names = [*placed.values()] if isinstance(placed, dict) else []
    if not names or any(not isinstance(name, str) or Path(name).name != name for name in names):
        raise ModelError(f"{index} has no weight_map of files beside it; copy the folder again")
    return sorted({*names})


def _tensors(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise ModelError(f"no file {path}; give one that is there")
    loaded: dict[str, Any]
    try:
        loaded = {**load_file(path)} if path.suffix == ".safetensors" else _unpickled(path)
    except ModelError:
        raise
    except Exception as error:  # a pickle of others can fail in any way
        raise ModelError(f"{path} cannot be read ({told(error, path)}); copy it again") from error
    for _ in range(DEEPEST):
        if isinstance(loaded.get("state_dict"), dict):
            loaded = loaded["state_dict"]
    return {n: value for n, value in loaded.items() if isinstance(value, Tensor) and type(n) is str}


def told(error: Exception, path: Path) -> str:
    """What went wrong with weights or a checkpoint, without torch's advice to trust them."""
    if path.is_file():
        with path.open("rb") as file:
            if file.read(len(LFS_POINTER)) == LFS_POINTER:
                return "it is Git's pointer to a large file, not the file: git lfs pull"
    if isinstance(error, UnpicklingError):
        return "it is damaged, or holds more than tensors and plain values"
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def _unpickled(path: Path) -> dict[str, Any]:
    zipped = is_zipfile(path)
    foreign = get_unsafe_globals_in_checkpoint(path) if zipped else []
    if strange := [name for name in foreign if not name.startswith(HARMLESS)]:
        raise ModelError(
            f"{path} holds {', '.join(strange)}, which could run code; give the same weights as "
            ".safetensors"
        )
    with safe_globals([(NotTaken, name) for name in foreign]):
        loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    if not isinstance(loaded, dict):
        raise ModelError(f"{path} holds no tensors by name; is it a file of weights?")
    return loaded


def read_object(path: Path) -> dict[str, Any]:
    """A JSON object in a folder of a model.

    Raises:
        ModelError: It is missing, or no JSON object.
    """
    check_there(path)
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(
            f"{path} cannot be read: it is not readable JSON ({error}); copy it again"
        ) from error
    if not isinstance(content, dict):
        raise ModelError(f"{path} cannot be read: it holds no JSON object; copy it again")
    return content


def check_there(path: Path) -> None:
    """Make sure that a model has a file.

    Raises:
        ModelError: It has not.
    """
    if not path.is_file():
        raise ModelError(f"the model lacks {path}; copy the whole folder, or export it again")
