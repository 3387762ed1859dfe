"""Whether a result is there already: beside it stands a record of all that decided it."""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from loopy.data.media.container import existing_file
from loopy.data.media.sound import Sound
from loopy.data.media.writer import Writer, draft_of, writer_of
from loopy.drafts import check_name, has_name, writing
from loopy.timing import FPS


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


def tree_hash(path: Path) -> str:
    """SHA-256 of a file, or of all names and contents in a folder.

    Raises:
        OSError: It cannot be read.
    """
    if not path.is_dir():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    inside = sorted(each.relative_to(path) for each in path.rglob("*") if each.is_file())
    told = [f"{each.as_posix()} {tree_hash(path / each)}" for each in inside]
    return hashlib.sha256(os.fsencode("\n".join(told))).hexdigest()


def is_finished(out: Path, record: Mapping[str, Any]) -> bool:
    """Whether a result is there, made of just this, and nobody has changed it since."""
    if not has_name(out):
        return False
    try:
        return record_path(out).read_bytes() == _bytes(out, record)
    except OSError:  # one of them is not there, or cannot be read
        return False


@contextmanager
def open_result(
    out: Path, record: Mapping[str, Any], *, sound: Sound | None = None, crf: int = 18
) -> Iterator[Writer]:
    """`loopy.data.media.writer.open_writer` for a result with a record.

    The record takes its place first. It holds the hash of the result that it is about, so that
    killed in between, what was there before is not taken for this result. A folder that is there
    is replaced if its record says that it is as it was made.

    Args:
        out: The result.
        record: Hashes of its inputs, options, fingerprint of the weights: plain values.
        sound: See `open_writer`.
        crf: See `open_writer`.

    Yields:
        The writer.

    Raises:
        OutputError: It cannot be written there.
        MediaError: The sound cannot be read.
    """
    check_name(out)
    with draft_of(out, crf=crf, replace=_is_as_made(out)) as hidden:
        with writer_of(hidden, out, FPS, sound, crf) as writer:
            yield writer
        with writing(record_path(out)) as hidden_record:
            hidden_record.write_bytes(_bytes(hidden, record))


def mark_finished(out: Path, record: Mapping[str, Any]) -> None:
    """Writes ``<out>.json`` beside a result; do it last.

    Args:
        out: The result, a file or a folder.
        record: As of `open_result`.

    Raises:
        OutputError: It cannot be written, or the result is gone.
    """
    with writing(record_path(out)) as hidden:
        hidden.write_bytes(_bytes(out, record))


def _is_as_made(out: Path) -> bool:
    """Whether a result has not been changed since its record was written."""
    try:
        record = json.loads(record_path(out).read_bytes())
        return isinstance(record, dict) and record.get("result") == tree_hash(out)
    except (OSError, ValueError, RecursionError):
        return False


def record_path(out: Path) -> Path:
    """Where the record of a result is."""
    return out.with_name(f"{out.name}.json")


def _bytes(out: Path, record: Mapping[str, Any]) -> bytes:
    return json.dumps({**record, "result": tree_hash(out)}, indent=2).encode()
