import json
import math

import pytest
import torch
from PIL import Image

from loopy.commands.evaluate import run
from loopy.diffusion.guidance import GuidanceScales
from loopy.errors import ConfigurationError, ModelError, OutputError
from loopy.evaluation.report import Report, sheet, sheet_rows
from loopy.evaluation.toon import Tracks, film, held_out_portrait, held_out_talk, score
from loopy.evaluation.tracker import OUTPUTS, Tracker, read_card
from loopy.randomness import generator
from loopy.synthetic.face import CONTROLS

MOUTH = OUTPUTS.index("open")


def true_track(number):
    talk = held_out_talk(5, number, seconds=4)
    return talk.controls[:, [CONTROLS.index(name) for name in OUTPUTS]]


@pytest.fixture
def pipeline(make_pipeline):
    """One step and one branch: fast, and it has learned nothing."""
    return make_pipeline(rollout={"steps": 1, "guidance": GuidanceScales(1.0, 1.0)})


@pytest.fixture(scope="module")
def truths():
    return [true_track(number) for number in range(3)]


def perfect(truth, **fields):
    """Tracks of a model that makes the truth, read without error."""
    same = dict.fromkeys(("drawn", "round_trip", "made"), truth)
    return Tracks(truth, **same | {"still": truth[:1].expand_as(truth)} | fields)


def test_talks_are_held_out_and_repeat():
    talk, again, other = (held_out_talk(0, n, seconds=1) for n in (0, 0, 1))
    assert torch.equal(talk.controls, again.controls)
    assert torch.equal(talk.audio, again.audio)
    assert not torch.equal(talk.identity.skin, other.identity.skin)


def test_portrait_has_a_shut_mouth_and_an_open_eye():
    talk = held_out_talk(0, 3, seconds=1)
    portrait = held_out_portrait(talk, generator(0), size_px=128)
    read = dict(zip(OUTPUTS, Tracker.from_pretrained().track(portrait[None])[0], strict=True))
    assert portrait.shape == (128, 128, 3)
    assert read["open"] < 0.15
    assert read["blink"] < 0.3


def test_a_model_that_makes_the_truth_scores_one(truths):
    for each in score([perfect(truth) for truth in truths]):
        assert each.r == pytest.approx(1)
        assert each.tracked == each.ceiling_drawn == pytest.approx(1)
        assert each.lag == 0
        assert each.others < 0.5
        assert each.floor_another < 0.5
        assert math.isnan(each.floor_still)


def test_a_late_model_is_found_out(truths):
    late = [perfect(truth, made=truth.roll(2, 0)) for truth in truths]
    assert [each.lag for each in score(late)] == [2, 2, 2]


def test_a_model_that_speaks_with_another_voice_has_no_r(truths):
    swapped = [
        perfect(truth, made=other)
        for truth, other in zip(truths, truths[1:] + truths[:1], strict=True)
    ]
    assert all(each.r < 0.5 < each.others + 0.5 for each in score(swapped))


def test_a_silent_model_has_no_figures_but_a_report(truths):
    scores = score([perfect(truth, made=torch.zeros_like(truth)) for truth in truths])
    report = Report("mute", 4.0, 5, read_card()["accuracy"], scores)
    assert report.as_json()["pairs"][0]["r"] is None
    assert report.as_json()["summary"]["r"]["median"] is None
    assert report.summary()["ceiling_drawn"].median == pytest.approx(1)
    json.dumps(report.as_json(), allow_nan=False)
    assert "-" in str(report).splitlines()[3]


def test_takes_hold_truth_and_film_frame_by_frame(pipeline):
    takes = list(film(pipeline, Tracker.from_pretrained(), pairs=2, seconds=1))
    for take in takes:
        assert take.truth.shape == take.made.shape == (25, 16, 16, 3)
        assert take.truth.dtype == take.made.dtype == torch.uint8
        assert all(track.shape == (25, len(OUTPUTS)) for track in take.tracks)
    shown = sheet([sheet_rows(take) for take in takes])
    assert shown.size == (9 * 16, 4 * 16)


def test_the_command_writes_report_sheet_and_videos(pipeline, tmp_path, capsys):
    pipeline.save_pretrained(tmp_path / "model")
    out = tmp_path / "new" / "folder"
    words = ["evaluate", "toon", "--model", str(tmp_path / "model"), "--pairs", "2"]
    run([*words, "--seconds", "1", "--out", str(out)])
    report = json.loads((out / "report.json").read_text())
    assert len(report["pairs"]) == 2
    assert report["summary"]["others"]["low"] is None or abs(report["summary"]["r"]["median"]) < 0.8
    assert sorted(path.name for path in out.iterdir()) == [
        "00.mp4",
        "01.mp4",
        "report.json",
        "sheet.png",
    ]
    with Image.open(out / "sheet.png") as picture:
        assert picture.size == (9 * 16, 4 * 16)
    printed = capsys.readouterr().out
    assert "median" in printed
    assert "^vae" in printed


@pytest.mark.parametrize("words", [["--pairs", "1"], ["--seconds", "0.5"], ["--sidewise", "3"]])
def test_senseless_options_are_refused(pipeline, tmp_path, words):
    pipeline.save_pretrained(tmp_path)
    with pytest.raises(ConfigurationError):
        run(["evaluate", "toon", "--model", str(tmp_path), *words])


def test_an_unknown_model_or_benchmark_and_a_lost_folder_are_refused(tmp_path):
    with pytest.raises(ModelError):
        run(["evaluate", "toon", "--model", "nobody"])
    with pytest.raises(ConfigurationError, match="help"):
        run(["evaluate", "reality"])
    (tmp_path / "file").touch()
    with pytest.raises(OutputError):
        run(["evaluate", "toon", "--out", str(tmp_path / "file" / "below")])
