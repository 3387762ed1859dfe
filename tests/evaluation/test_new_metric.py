"""A metric is added as docs/extending.md says: a function and a column."""

import re
from pathlib import Path

import pytest
import torch
from skimage.color import rgb2lab

from loopy.data.media.video import Video
from loopy.evaluation.features.extract import ExtractorSet
from loopy.evaluation.features.frames import FrameRows
from loopy.evaluation.table.evaluate import Pair, VideoEvaluator
from loopy.metrics.drift import mean_colours
from loopy.timing import FPS

PAGE = Path(__file__).parents[2] / "docs/extending.md"


@pytest.fixture(scope="module")
def page():
    """What the page's code defines."""
    section = PAGE.read_text().split("## A new metric\n")[1].split("\n## ")[0]
    (code,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    names = {}
    exec(code, names)
    return names


def save(path, levels):
    frames = torch.tensor(levels, dtype=torch.uint8)[:, None, None, None].expand(-1, 16, 16, 3)
    Video(frames, FPS, torch.zeros(len(levels) * 640)).save(path)
    return path


def test_a_column_of_the_page_is_in_the_results(page, tmp_path):
    """Reference: skimage.color.rgb2lab. A video of one frame has no figure, and says why."""
    extractors = ExtractorSet({"colours": lambda *_: FrameRows(mean_colours)})
    evaluator = VideoEvaluator(tmp_path, extractors, [page["column"]])
    made = save(tmp_path / "made.mp4", [100, 160] * 4)
    real = save(tmp_path / "real.mp4", [130] * 8)
    results = evaluator.results([Pair("a", made, real)], model="m", test_set="s", seed=0)
    low, high = (rgb2lab([[[level / 255] * 3]])[0, 0, 0] for level in (100, 160))
    assert results.figures["Flicker"].value == pytest.approx(high - low, rel=0.05)
    assert results.real_figures["Flicker"].value == pytest.approx(0, abs=0.05)
    save(tmp_path / "short.mp4", [100])
    short = evaluator.results([Pair("b", tmp_path / "short.mp4")], model="m", test_set="s", seed=0)
    assert "flicker needs 2 frames, got 1" in short.missing["Flicker"]
