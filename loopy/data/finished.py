"""Whether a result is there already: beside it stands a record of all that decided it."""

import hashlib
import json
from pathlib import Path
from typing import Any

from loopy.data.media import existing_file
from loopy.data.writer import draft


def content_hash(path: Path, kind: str) -> str:
    """SHA-256 of a file.

    Args:
        path: The file.
        kind: The word for it in messages.

    Raises:
        MediaError: No such file.
    """
    with existing_file(path, kind).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_finished(out: Path, record: dict[str, Any]) -> bool:
    """Whether a result is there, made of just this."""
    beside = _beside(out)
    return out.exists() and beside.is_file() and beside.read_bytes() == _bytes(record)


def mark_finished(out: Path, record: dict[str, Any]) -> None:
    """Writes ``<out>.json`` beside a result; do it last.

    Args:
        out: The result.
        record: Hashes of its inputs, options, fingerprint of the weights: plain values.

    Raises:
        OutputError: It cannot be written.
    """
    with draft(_beside(out)) as hidden:
        hidden.write_bytes(_bytes(record))


def _beside(out: Path) -> Path:
    return out.with_name(f"{out.name}.json")


def _bytes(record: dict[str, Any]) -> bytes:
    return json.dumps(record, indent=2).encode()
