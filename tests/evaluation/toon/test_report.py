"""`loopy evaluate` as a user sees it."""

import json

import pytest
from PIL import Image

from loopy.commands.evaluate import run
from loopy.errors import ConfigurationError, ModelError, OutputError
from loopy.evaluation.toon.rows import ROWS, SOURCES


@pytest.fixture
def model(make_pipeline, tmp_path):
    """One step and one branch: fast, and it has learned nothing."""
    pipe = make_pipeline(sampling={"steps": 1, "audio_ratio": 1.0, "reference_ratio": 1.0})
    pipe.save_pretrained(tmp_path / "model")
    return str(tmp_path / "model")


def test_the_command_writes_report_sheet_and_videos(model, tmp_path, capsys):
    out = tmp_path / "new" / "folder"
    words = ["evaluate", "toon", "--model", model, "--quick", "--seconds", "2", "--videos"]
    run([*words, "--workers", "1", "--out", str(out)])
    report = json.loads((out / "report.json").read_text())
    assert report["talks"] == {"long": 1, "speech": 2, "silence": 1, "noise": 1}
    rows = {row["name"]: row for row in report["rows"]}
    assert list(rows) == [row.name for row in ROWS]
    assert set(rows["clip border: head speed"]["sources"]) == set(SOURCES) - {"mismatched"}
    assert set(rows["opening: r with truth"]["sources"]) == set(SOURCES) - {"no_past"}
    assert not rows["opening: r with truth"]["reached"]
    assert len(rows["sound, keys: loss when mismatched"]["sources"]["made"]["talks"][0]) == 4
    assert sorted(path.name for path in out.iterdir()) == [
        "long_100.mp4",
        "noise_300.mp4",
        "report.json",
        "sheet.png",
        "silence_200.mp4",
        "speech_000.mp4",
        "speech_001.mp4",
    ]
    with Image.open(out / "sheet.png") as picture:
        assert picture.size == (9 * 16, 2 * 5 * 16)
    printed = capsys.readouterr().out
    assert all(row.name in printed for row in ROWS)


@pytest.mark.parametrize(
    "words",
    [["--seconds", "0.5"], ["--sidewise", "3"], ["--videos"], ["--workers", "-1"], ["--quick=3"]],
)
def test_senseless_options_are_refused(model, words):
    with pytest.raises(ConfigurationError):
        run(["evaluate", "toon", "--model", model, *words])


def test_an_unknown_model_or_benchmark_and_a_lost_folder_are_refused(tmp_path):
    with pytest.raises(ModelError):
        run(["evaluate", "toon", "--model", "nobody"])
    with pytest.raises(ConfigurationError, match="help"):
        run(["evaluate", "reality"])
    (tmp_path / "file").touch()
    with pytest.raises(OutputError):
        run(["evaluate", "toon", "--out", str(tmp_path / "file" / "below")])
