"""No result goes over an input or over another result, by whatever way its path leads there."""

import os

import pytest

from loopy.data.media.outputs import check_outputs
from loopy.drafts import draft
from loopy.errors import OutputError


@pytest.fixture
def room(tmp_path, monkeypatch):
    """A folder with a file, a link to it, and a folder that is read."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "talk.mp4").write_text("talk")
    (tmp_path / "link.mp4").symlink_to("talk.mp4")
    os.link(tmp_path / "talk.mp4", tmp_path / "twin.mp4")
    (tmp_path / "model").mkdir()
    (tmp_path / "door").symlink_to(".")
    return tmp_path


@pytest.mark.parametrize(
    "out",
    ["talk.mp4", "./talk.mp4", "model/../talk.mp4", "link.mp4", "twin.mp4", "door/talk.mp4"],
)
def test_a_result_is_no_input(room, out):
    with pytest.raises(OutputError, match=f"video {out} would replace sound talk.mp4"):
        check_outputs({"video": out}, {"sound": "talk.mp4"})
    with pytest.raises(OutputError, match="would replace"):
        check_outputs({"video": "talk.mp4"}, {"sound": out})


def test_results_are_apart(room):
    for one, other in [("a.mp4", "x/../a.mp4"), ("a.mp4", room / "a.mp4"), ("door/a", "a")]:
        with pytest.raises(OutputError, match="are one place"):
            check_outputs({"video": one, "sheet": other}, {})
    with pytest.raises(OutputError, match=r"sheet frames/s\.png is inside video frames"):
        check_outputs({"sheet": "frames/s.png", "video": "frames"}, {})
    check_outputs({"video": "frames", "sheet": "frames.png", "record": "frames.json"}, {})


def test_folders_that_are_read_are_left_alone(room):
    with pytest.raises(OutputError, match=r"video door/model/a\.mp4 is inside model model"):
        check_outputs({"video": "door/model/a.mp4"}, {"model": "model"})
    with pytest.raises(OutputError, match=r"portrait new/a\.png is inside video new"):
        check_outputs({"video": "new"}, {"portrait": "new/a.png"})
    check_outputs({"video": "models/a.mp4"}, {"model": "model", "sound": "talk.mp4"})


@pytest.mark.parametrize("out", ["", ".", "..", "/", "a/..", "a\0.mp4"])
def test_what_is_no_name(room, out):
    for call in (lambda: check_outputs({"video": out}, {}), draft(out).__enter__):
        with pytest.raises(
            OutputError, match=r"is no name of a file; give one|an empty path|NUL|null"
        ):
            call()


def test_an_input_that_cannot_be_is_said_by_who_reads_it(room):
    check_outputs({"video": "a.mp4"}, {"sound": "a\0.wav", "portrait": "x" * 5000})


def test_many(room):
    """Three thousand rows take no longer than a look at each."""
    inputs = {f"line {n}: sound": f"sounds/{n}.wav" for n in range(3_000)}
    check_outputs({f"line {n}: out": f"videos/{n}.mp4" for n in range(3_000)}, inputs)
