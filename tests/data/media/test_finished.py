"""A result is kept as long as nothing that decided it has changed."""

import json
import os

import numpy as np
import pytest

from loopy.data.media.finished import (
    content_hash,
    is_finished,
    mark_finished,
    open_result,
    tree_hash,
)
from loopy.errors import MediaError, OutputError

RECORD = {"weights": "abc", "steps": 25}


def test_a_result_is_finished_when_it_and_its_record_are_there(tmp_path):
    out = tmp_path / "a.mp4"
    assert not is_finished(out, RECORD)
    with pytest.raises(OutputError, match=r"a\.mp4\.json cannot be written"):
        mark_finished(out, RECORD)
    out.write_bytes(b"video")
    assert not is_finished(out, RECORD)
    mark_finished(out, RECORD)
    assert is_finished(out, RECORD)
    out.unlink()
    assert not is_finished(out, RECORD)  # a record without its result


def test_a_result_that_somebody_else_put_there_is_not_finished(tmp_path):
    out, frames = tmp_path / "a.mp4", tmp_path / "frames"
    out.write_bytes(b"video")
    frames.mkdir()
    (frames / "0.png").write_bytes(b"picture")
    for result in (out, frames):
        mark_finished(result, RECORD)
        assert is_finished(result, RECORD)
    out.write_bytes(b"other")
    (frames / "0.png").rename(frames / "1.png")
    assert not is_finished(out, RECORD)
    assert not is_finished(frames, RECORD)
    (tmp_path / "a.mp4.json").write_text(json.dumps(RECORD, indent=2))  # of an earlier version
    assert not is_finished(out, RECORD)


def write(out, record, value):
    with open_result(out, record) as writer:
        writer.write(np.full((1, 16, 16, 3), value, np.uint8))


@pytest.mark.parametrize("name", ["a.npy", "frames"])
def test_killed_between_the_two_a_result_is_made_again(tmp_path, monkeypatch, name):
    out, others = tmp_path / name, RECORD | {"seed": 1}
    write(out, RECORD, 0)
    before = tree_hash(out)
    assert is_finished(out, RECORD)
    replaced, died = os.replace, []

    def die_at_the_result(hidden, path):
        if path.name == name and not died:
            died.append(path)
            raise OSError(0, "killed")
        replaced(hidden, path)

    with monkeypatch.context() as patch:
        patch.setattr("loopy.drafts.os.replace", die_at_the_result)
        with pytest.raises(OutputError, match="killed"):
            write(out, others, 1)
    assert tree_hash(out) == before
    assert not is_finished(out, RECORD)
    assert not is_finished(out, others)


def test_a_folder_is_replaced_while_it_is_as_it_was_made(tmp_path):
    out, others = tmp_path / "frames", RECORD | {"seed": 1}
    write(out, RECORD, 0)
    write(out, others, 1)
    assert is_finished(out, others)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["frames", "frames.json"]
    (out / "mine.txt").write_text("of the user")
    with pytest.raises(OutputError, match="is there and not an empty folder"):
        write(out, RECORD, 0)
    assert (out / "mine.txt").exists()


def test_another_record_is_another_result(tmp_path):
    out = tmp_path / "a.mp4"
    out.write_bytes(b"video")
    mark_finished(out, RECORD)
    assert not is_finished(out, RECORD | {"steps": 24})


def test_the_hash_is_of_the_content(tmp_path):
    for name, content in (("a", b"1"), ("b", b"1"), ("c", b"2")):
        (tmp_path / name).write_bytes(content)
    first, same, other = (content_hash(tmp_path / name, "sound") for name in "abc")
    assert first == same != other
    with pytest.raises(MediaError, match=r"sound .* does not exist"):
        content_hash(tmp_path / "d", "sound")


def test_a_name_that_is_no_utf8_is_hashed_too(tmp_path):
    (tmp_path / os.fsdecode(b"caf\xe9.png")).write_bytes(b"1")
    first = tree_hash(tmp_path)
    (tmp_path / os.fsdecode(b"caf\xe9.png")).write_bytes(b"2")
    assert tree_hash(tmp_path) != first
