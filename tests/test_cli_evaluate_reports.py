"""`loopy evaluate --compare`, `--study` and `--votes` as a user sees them."""

import csv
import json

import pytest

from loopy.commands.evaluate import run
from loopy.errors import ConfigurationError, ManifestError, MediaError
from loopy.evaluation.study.pages import DIMENSIONS, HEAD, StudyKey, trials_of
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


def test_a_study_is_written_and_its_votes_summed_up(folders, tmp_path, capsys):
    out = tmp_path / "study"
    run(["evaluate", "--study", *folders, "--out", str(out), "--raters", "6", "--trials", "7"])
    assert "8 videos of each of 2, for 6 raters" in capsys.readouterr().out
    key = StudyKey.read(out / "key.json")
    for rater in key.raters:
        with (out / f"{rater}.csv").open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(HEAD)
            for number, (left, right) in enumerate(trials_of(key, rater)[:7], 1):
                choice = "left" if key.clips[left].model == "after" else "right"
                rows.writerow([key.study, rater, number, left, right, "lip-sync", choice])
    votes = [str(out / f"{rater}.csv") for rater in key.raters]
    run(["evaluate", "--votes", *votes, "--key", str(out / "key.json"), "--out", str(tmp_path)])
    [row] = json.loads((tmp_path / "study.json").read_text())["preferences"]
    assert (row["dimension"], row["winner"], row["votes"]) == ("lip-sync", "after", 42)
    assert "lip-sync" in DIMENSIONS
    assert "study.json" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words",
    [
        ["--compare", "a"],
        ["--compare", "a", "b", "--study", "a", "b"],
        ["--study", "a", "b"],
        ["--votes", "a.csv"],
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
    with pytest.raises(ManifestError, match="nowhere"):
        run(["evaluate", "--votes", "a.csv", "--key", str(tmp_path / "nowhere")])


def test_help_names_the_options(capsys):
    with pytest.raises(SystemExit):
        run(["evaluate", "--compare", "--help"])
    told = capsys.readouterr().out
    assert all(option in told for option in ("--study", "--votes", "--key", "--raters"))
