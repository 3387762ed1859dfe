"""Independent reference: VBench's score written with numpy integers, frame by frame."""

import numpy as np
import pytest
import torch

from loopy.errors import MetricError, ModelError
from loopy.metrics.smoothness import amt, linear, smoothness


def film(frames):
    return torch.randint(0, 256, (frames, 6, 8, 3), dtype=torch.uint8)


def by_numpy(frames):
    """Each odd frame but one that is last, against the mean of its neighbours."""
    frames = frames.numpy().astype(int)
    errors = []
    for odd in range(1, len(frames) - 1, 2):
        middle = np.floor((frames[odd - 1] + frames[odd + 1]) / 2 + 0.5)
        errors.append(np.abs(frames[odd] - middle).mean())
    return (255 - np.mean(errors)) / 255


@pytest.mark.parametrize("frames", [3, 4, 9, 24])
def test_equals_the_formula(frames):
    """Reference: `by_numpy`."""
    video = film(frames)
    assert smoothness(video, linear, at_once=3) == pytest.approx(by_numpy(video))


def test_what_the_interpolator_knows_is_perfectly_smooth():
    fade = torch.arange(0, 250, 10, dtype=torch.uint8)[:, None, None, None].expand(-1, 4, 4, 3)
    assert smoothness(fade, linear) == 1
    assert smoothness(film(1).expand(9, -1, -1, -1), linear) == 1  # stillness is rewarded
    flicker = torch.tensor([0, 255] * 5, dtype=torch.uint8)[:, None, None, None]
    assert smoothness(flicker.expand(-1, 4, 4, 3), linear) == 0


def test_bad_input_is_named():
    with pytest.raises(MetricError, match="needs 3 frames, got 2"):
        smoothness(film(2), linear)
    with pytest.raises(MetricError, match="must be uint8"):
        smoothness(film(5).float() / 255, linear)
    with pytest.raises(ModelError, match=r"amt-s.pt.*CC-BY-NC-4.0"):
        amt("nowhere.pt")


class Middle(torch.nn.Module):
    """Fails on sizes that AMT-S could not halve four times."""

    def forward(self, before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
        if before.shape[-1] % 16 or before.shape[-2] % 16:
            return before * 0
        return (before + after) / 2


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_a_script_sees_padded_pictures_in_range(tmp_path):
    """Reference: the mean of both, cut off to whole numbers as VBench does."""
    torch.jit.script(Middle()).save(tmp_path / "amt-s.pt")
    before, after = film(2), film(2)
    expected = (before.numpy().astype(int) + after.numpy()) // 2
    between = amt(tmp_path / "amt-s.pt")(before, after).numpy().astype(int)
    assert between.shape == expected.shape
    assert np.abs(between - expected).max() <= 1  # rounding in between
    assert (between == expected).mean() > 0.9
