"""What is judged of a video although something about it fails."""

import pytest
import torch

from loopy.data.media.video import Video
from loopy.evaluation.features.extract import ExtractorSet
from loopy.evaluation.features.frames import PartSmoothness
from loopy.evaluation.table.columns import COLUMNS
from loopy.evaluation.table.evaluate import Pair, VideoEvaluator
from loopy.metrics.smoothness import linear
from loopy.timing import FPS


def test_figures_stand_without_a_strip(tmp_path):
    frames = torch.randint(256, (6, 16, 16, 3), generator=torch.Generator().manual_seed(0)).byte()
    Video(frames, FPS, torch.zeros(6 * 640)).save(tmp_path / "a.mp4")
    more = {"size": lambda *_: torch.tensor([99, 16, 16])}  # frames that nobody can show
    extractors = ExtractorSet({"linear": lambda *_: PartSmoothness(linear)}, derived=more)
    columns = [column for column in COLUMNS if column.name == "Smooth, linear"]
    with pytest.warns(UserWarning, match="a has no strip of frames: .* ends before frame"):
        result = VideoEvaluator(tmp_path, extractors, columns).video(Pair("a", tmp_path / "a.mp4"))
    assert (result.problem, result.strip) == ("", "")
    assert result.values.keys() == {"Smooth, linear"}
