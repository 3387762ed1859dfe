"""`loopy evaluate --compare` as a user sees it."""

import json

import pytest

from loopy.commands.evaluate import run
from loopy.errors import ConfigurationError, MediaError
from loopy.evaluation.table.results import ColumnInfo, Results, VideoResult


@pytest.fixture
def folders(tmp_path):
    """Two evaluations of eight videos; the second one is one better in each."""
    for place, model in enumerate(("before", "after")):
        folder = tmp_path / model
        folder.mkdir()
        videos = tuple(
            VideoResult(f"v{i}", {"lips": float(i + place)}, video=f"v{i}.mp4") for i in range(8)
        )
        for video in videos:
            (folder / video.video).write_bytes(model.encode())
        Results(model, "set", 0, (ColumnInfo("lips", "higher"),), videos, {}).write(folder)
    return [str(tmp_path / "before"), str(tmp_path / "after")]


def test_two_evaluations_are_compared(folders, tmp_path, capsys):
    run(["evaluate", "--compare", *folders, "--out", str(tmp_path / "new" / "folder")])
    assert "B is better beyond noise in: lips." in capsys.readouterr().out
    found = json.loads((tmp_path / "new/folder/comparison.json").read_text())
    assert found["differences"][0]["winner"] == "b"


@pytest.mark.parametrize(
    "words",
    [
        ["--compare", "a"],
        ["--compare", "a", "b", "--seed", "x"],
        ["--compare", "a", "b", "--sidewise"],
    ],
)
def test_senseless_options_are_refused(words):
    with pytest.raises(ConfigurationError):
        run(["evaluate", *words])


def test_what_is_not_there_is_said_in_one_line(tmp_path, folders):
    with pytest.raises(MediaError, match="nowhere"):
        run(["evaluate", "--compare", folders[0], str(tmp_path / "nowhere")])


def test_words_of_before_say_where_studies_are():
    for word, way in (("--study", "pages"), ("--votes", "votes")):
        with pytest.raises(ConfigurationError, match=f"python -m tools.study {way}"):
            run(["evaluate", word, "a", "b"])


def test_help_names_the_options(capsys):
    with pytest.raises(SystemExit):
        run(["evaluate", "--compare", "--help"])
    told = capsys.readouterr().out
    assert all(option in told for option in ("--compare", "--out", "--seed"))
