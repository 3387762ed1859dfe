"""`--dtype` of every verb that makes videos."""

import json

import pytest
import torch

from loopy.cli import main
from loopy.errors import ModelError
from loopy.pipeline import LoopyPipeline
from tests.test_cli_predict import report, statuses, words, write_jobs

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # lightning and jsonargparse
ANIMATE = ["animate", "portrait.png", "speech.wav", "-o", "out.npy", "--model", "tiny"]
TOON = ["evaluate", "toon", "--quick", "--model", "tiny"]
SET = ["evaluate", "hdtf", "--data", ".", "--out", "results", "--model", "tiny"]


@pytest.mark.parametrize("verb", [ANIMATE, TOON])
def test_the_networks_get_it(desk, monkeypatch, verb):
    asked = []

    def to(pipe, device, *, dtype=None):
        asked.append(dtype)
        raise ModelError("enough")

    monkeypatch.setattr(LoopyPipeline, "to", to)
    assert main([*verb, "--dtype", "bfloat16"]) == 2
    assert main(verb) == 2
    assert asked == [torch.bfloat16, torch.float32]


@pytest.mark.parametrize("verb", [ANIMATE, TOON, SET])
def test_another_one_is_refused_in_a_line(desk, capsys, verb):
    assert main([*verb, "--dtype", "float64"]) == 2
    answer = capsys.readouterr().err
    assert "dtype" in answer
    assert answer.count("\n") == 1


@pytest.mark.parametrize("verb", [ANIMATE, SET])
@pytest.mark.parametrize("ratio", ["1e400", "nan", "-inf", ".nan"])
def test_a_ratio_that_is_no_number_is_refused_in_a_line(desk, capsys, verb, ratio):
    assert main([*verb, f"--audio_ratio={ratio}"]) == 2
    answer = capsys.readouterr().err
    assert "audio_ratio" in answer
    assert answer.count("\n") == 1
    assert not (desk / "out.npy").exists()


def test_jobs_of_another_precision_are_other_jobs(desk):
    write_jobs(desk, "portrait,sound,out", "portrait.png,speech.wav,out.npy")
    for dtype, status in (("float32", "done"), ("bfloat16", "done"), ("bfloat16", "skipped")):
        assert main([*words(desk), "--model.dtype", dtype]) == 0
        assert statuses(desk) == [status], report(desk)
    assert json.loads((desk / "out.npy.json").read_text())["dtype"] == "torch.bfloat16"
