import torch

from loopy.pixels import from_pixels, to_pixels


def test_every_level_comes_back():
    levels = torch.arange(256, dtype=torch.uint8).view(4, 64)
    pictures = from_pixels(levels)
    assert pictures.dtype == torch.float32
    assert (pictures.min(), pictures.max()) == (-1, 1)
    assert torch.equal(to_pixels(pictures), levels)


def test_the_nearest_level():
    pictures = torch.linspace(-1, 1, 5101)
    exact = (pictures.double() + 1) * 127.5
    assert (to_pixels(pictures) - exact).abs().max() <= 0.5 + 1e-5


def test_half_precision_loses_no_more_than_its_own():
    pictures = torch.linspace(-1, 1, 513).bfloat16()
    assert torch.equal(to_pixels(pictures), to_pixels(pictures.float()))
