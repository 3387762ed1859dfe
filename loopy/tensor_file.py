"""Tensors to disk: one safetensors file, whole or not at all, for whom other new files are for."""

import os
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from loopy.drafts import check_place, hidden_beside
from loopy.errors import OutputError


def save_tensors(
    path: str | os.PathLike[str],
    tensors: Mapping[str, Tensor],
    about: Mapping[str, str] | None = None,
) -> None:
    """Writes a safetensors file, which takes the place of what was there once it is whole.

    Its permissions are those of any new file (safetensors' own are the owner's alone).

    Args:
        path: Where; its folder is there.
        tensors: By name, on any device.
        about: Text that is kept beside them.

    Raises:
        OutputError: It cannot be written; what was there stays.
    """
    check_place(path)
    path = Path(path)
    whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
    try:
        with hidden_beside(path, folder=True) as folder:  # safetensors makes a draft of its own
            hidden = folder / path.name
            hidden.touch()
            mode = hidden.stat().st_mode & 0o777
            save_file(whole, hidden, None if about is None else dict(about))
            hidden.chmod(mode)
            with hidden.open("rb") as file:
                os.fsync(file.fileno())  # else a power cut may leave the name without content
            os.replace(hidden, path)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise OutputError(
            f"{path} cannot be written ({reason}); check permission and free space"
        ) from error
