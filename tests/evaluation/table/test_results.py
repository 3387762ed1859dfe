"""results.json comes back as it went, and says what is wrong where it does not."""

import json
import math

import pytest

from loopy.errors import MediaError, OutputError
from loopy.evaluation.table.results import ColumnInfo, Results, SetFigure, VideoResult

RESULTS = Results(
    "toon",
    "hdtf",
    3,
    (ColumnInfo("FID", "lower", "", "Inception"), ColumnInfo("Sync-C", "higher", "", "SyncNet")),
    (
        VideoResult("a", {"Glo": 0.25}, {"Glo": 0.5}, {"mouth": [0.0, 1.0]}, "videos/a.mp4"),
        VideoResult("b", problem="video b.mp4 has no sound stream; give a file with sound"),
    ),
    {"FID": SetFigure(12.5, 10.0, 15.0, 2)},
    {"FID": SetFigure(0.0, 0.0, 0.0, 2)},
    {"Sync-C": "not available: needs SyncNet's weights"},
)


def test_what_was_written_is_read(tmp_path):
    RESULTS.write(tmp_path)
    assert Results.read(tmp_path) == RESULTS
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]  # no draft stays


def test_files_of_before_are_read(tmp_path):
    RESULTS.write(tmp_path)
    values = json.loads((tmp_path / "results.json").read_text())
    del values["judges"]
    for figure in values["figures"].values():
        del figure["note"]
    (tmp_path / "results.json").write_text(json.dumps(values))
    assert Results.read(tmp_path) == RESULTS


def test_what_is_undefined_is_null_and_comes_back_as_nan(tmp_path):
    alone = VideoResult("a", {"r": math.nan}, curves={"mouth": [1.0, math.inf]})
    Results("m", "hdtf", 0, (), (alone,), {"FID": SetFigure(1.0, n=1)}).write(tmp_path)
    text = (tmp_path / "results.json").read_text()
    json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    back = Results.read(tmp_path)
    assert back.figures["FID"].value == 1
    assert back.videos[0].curves["mouth"][0] == 1
    undefined = back.figures["FID"].low, back.videos[0].values["r"]
    assert all(map(math.isnan, [*undefined, back.videos[0].curves["mouth"][1]]))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "holds no results.json"),
        ("{", "cannot be read"),
        ('{"version": 1, "model": "m"}', "cannot be read"),
        ('{"version": 99}', "its version is 99, expected 1"),
        ("[]", "cannot be read"),
        ("[" * 100_000, "nested too deeply"),
        ('{"version": 1, "seed": true}', "seed is True, expected int|model is missing"),
    ],
)
def test_a_damaged_file_is_named(tmp_path, text, reason):
    if text is not None:
        (tmp_path / "results.json").write_text(text)
    with pytest.raises(MediaError, match=reason) as error:
        Results.read(tmp_path)
    assert str(tmp_path) in str(error.value)


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(OutputError, match="does not exist"):
        RESULTS.write(tmp_path / "nowhere")


@pytest.mark.parametrize("group", ["videos", "columns"])
def test_a_name_that_stands_there_twice_is_refused(tmp_path, group):
    RESULTS.write(tmp_path)
    values = json.loads((tmp_path / "results.json").read_text())
    values[group].append(values[group][0])
    (tmp_path / "results.json").write_text(json.dumps(values))
    with pytest.raises(MediaError, match="twice"):
        Results.read(tmp_path)
