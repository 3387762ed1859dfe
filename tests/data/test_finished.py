"""A result is kept as long as nothing that decided it has changed."""

import pytest

from loopy.data.finished import content_hash, is_finished, mark_finished
from loopy.errors import MediaError

RECORD = {"weights": "abc", "steps": 25}


def test_a_result_is_finished_when_it_and_its_record_are_there(tmp_path):
    out = tmp_path / "a.mp4"
    assert not is_finished(out, RECORD)
    mark_finished(out, RECORD)
    assert not is_finished(out, RECORD)  # a record without its result
    out.write_bytes(b"video")
    assert is_finished(out, RECORD)


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
