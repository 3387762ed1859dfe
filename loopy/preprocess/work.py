"""Files of a clip on its way: each says that a stage is done with a part of it."""

import json
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from zlib import crc32

import torch
from jaxtyping import Shaped
from safetensors import SafetensorError, safe_open
from torch import Tensor

from loopy.data.media.container import AnyPath
from loopy.errors import MediaError, OutputError
from loopy.tensor_file import save_tensors


def work_path(root: AnyPath, clip: str, part: str) -> Path:
    """Where a part of a clip waits for the others: ``track``, ``audio``, ``pictures-000064``."""
    return Path(root) / "work" / f"{clip}.{part}.safetensors"


def keep(path: Path, tensors: Mapping[str, Tensor], *, spent_s: Mapping[str, float]) -> None:
    """Writes a part, whole or not at all.

    Args:
        path: See `work_path`.
        tensors: What it holds.
        spent_s: Seconds of work that it took, by stage.

    Raises:
        OutputError: It cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{path} cannot be written ({error}); make room") from error
    whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
    about = {"spent_s": dict(spent_s), "crc32": _checksums(whole)}
    save_tensors(path, whole, {"about": json.dumps(about)})


def kept(path: Path) -> tuple[dict[str, Tensor], dict[str, float]] | None:
    """A part and the seconds it took.

    Returns:
        None if it is not there, or damaged: then it is deleted, to be made anew.
    """
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            about = json.loads((file.metadata() or {})["about"])
        if about["crc32"] == _checksums(tensors):
            return tensors, about["spent_s"]
    except FileNotFoundError:
        return None
    except (SafetensorError, ValueError, KeyError):
        pass
    path.unlink(missing_ok=True)
    return None


def forget(root: AnyPath, clips: Collection[str]) -> None:
    """Deletes what is kept of clips on their way."""
    for path in (Path(root) / "work").glob("[!.]*.safetensors"):
        if path.name.partition(".")[0] in clips:
            path.unlink(missing_ok=True)


def sweep(root: AnyPath, wanted: Collection[str], *, older_than_s: float = 3600) -> None:
    """Deletes parts of clips that nobody wants any more.

    Args:
        root: The store.
        wanted: Ids of clips on their way.
        older_than_s: Younger parts are spared: another process may be about to name them.
    """
    latest = time.time() - older_than_s
    for path in (Path(root) / "work").glob("[!.]*.safetensors"):
        with suppress(FileNotFoundError):  # finished by another process in between
            if path.name.partition(".")[0] not in wanted and path.stat().st_mtime < latest:
                path.unlink()


def _checksums(tensors: Mapping[str, Tensor]) -> dict[str, int]:
    return {name: crc32(tensor.numpy().tobytes()) for name, tensor in tensors.items()}


def rows_of(
    spans: Sequence[range], stream: Iterable[Shaped[Tensor, "n ..."]]
) -> Iterator[Shaped[Tensor, "rows ..."]]:
    """Rows of spans out of a stream, which is held no further than to the end of a span.

    Args:
        spans: In ascending order, none into another.
        stream: All rows from the first on, some at a time.

    Yields:
        The rows of each span, fewer where the stream ends before it.

    Raises:
        MediaError: The stream is empty, so that nobody knows what a row is.
    """
    parts, held, first = iter(stream), list[Tensor](), 0
    for span in spans:
        end = first + sum(map(len, held))
        while (end < span.stop or not held) and (part := next(parts, None)) is not None:
            held.append(part)
            end += len(part)
            while len(held) > 1 and first + len(held[0]) <= span.start:
                first += len(held.pop(0))
        if not held:
            raise MediaError("the sound gives no rows of features; give a longer one")
        yield torch.cat(held)[max(span.start - first, 0) : max(span.stop - first, 0)]
