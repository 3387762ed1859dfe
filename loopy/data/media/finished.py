"""Whether a result exists already: a record next to it holds all that decided it."""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from loopy.data.media.container import existing_file
from loopy.data.media.sound import Sound
from loopy.data.media.writer import Writer, open_writer
from loopy.drafts import check_output_name, has_name, writing


def content_hash(path: Path, kind: str) -> str:
    """SHA-256 of a file, or a MediaError; `kind` is the word for it in messages."""
    return tree_hash(existing_file(path, kind))


def tree_hash(path: Path) -> str:
    """SHA-256 of a file, or of all names and contents in a folder; or an OSError."""
    if not path.is_dir():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    inside = sorted(each.relative_to(path) for each in path.rglob("*") if each.is_file())
    lines = [f"{each.as_posix()} {tree_hash(path / each)}" for each in inside]
    return hashlib.sha256(os.fsencode("\n".join(lines))).hexdigest()


def record_path(out: Path) -> Path:
    """Where the record of a result is."""
    return out.with_name(f"{out.name}.json")


def is_finished(out: Path, record: Mapping[str, Any]) -> bool:
    """Whether a result exists, made of just this, and is unchanged since."""
    if not has_name(out):
        return False
    try:
        return record_path(out).read_bytes() == _bytes(out, record)
    except OSError:  # one of them is missing, or cannot be read
        return False


@contextmanager
def open_result(
    out: Path, record: Mapping[str, Any], *, sound: Sound | None = None, crf: int = 18
) -> Iterator[Writer]:
    """`open_writer` for a result with a record.

    The record takes its place first. It holds the hash of its result, so that after a kill in
    between the older result does not pass for this one. A folder that exists is replaced if its
    record says that it is as it was made.

    Args:
        out: The result.
        record: Hashes of its inputs, options, fingerprint of the weights: plain values.
        sound: As of `open_writer`, whose writer and errors these are.
        crf: Likewise.
    """
    check_output_name(out)

    def whole(hidden: Path) -> None:
        mark_finished(out, record, made=hidden)

    replace = _is_as_made(out)
    with open_writer(out, sound=sound, crf=crf, replace=replace, when_whole=whole) as writer:
        yield writer


def mark_finished(out: Path, record: Mapping[str, Any], *, made: Path | None = None) -> None:
    """Writes the record of a result, a file or a folder, or is an OutputError; do it last."""
    with writing(record_path(out)) as hidden:
        hidden.write_bytes(_bytes(made or out, record))


def _is_as_made(out: Path) -> bool:
    """Whether a result is unchanged since its record was written."""
    try:
        record = json.loads(record_path(out).read_bytes())
        return isinstance(record, dict) and record.get("result") == tree_hash(out)
    except (OSError, ValueError, RecursionError):
        return False


def _bytes(out: Path, record: Mapping[str, Any]) -> bytes:
    return json.dumps({**record, "result": tree_hash(out)}, indent=2).encode()
