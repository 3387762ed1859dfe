import contextlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from loopy.data.media.portrait import read_portrait
from loopy.errors import ConfigurationError, MediaError


def ramp(width, height):
    """Red grows to the right, green grows downwards, blue is constant."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0] = np.linspace(0, 255, width)[None]
    pixels[..., 1] = np.linspace(0, 255, height)[:, None]
    pixels[..., 2] = 51
    return Image.fromarray(pixels)


def test_file_and_open_picture_give_the_same(tmp_path):
    ramp(64, 64).save(tmp_path / "face.png")
    portrait = read_portrait(tmp_path / "face.png", size_px=64)
    assert portrait.dtype == torch.float32
    assert portrait.shape == (3, 64, 64)
    assert torch.equal(portrait, read_portrait(ramp(64, 64), size_px=64))
    assert torch.equal(portrait, read_portrait(str(tmp_path / "face.png"), size_px=64))
    exact = torch.from_numpy(np.array(ramp(64, 64))).permute(2, 0, 1) / 127.5 - 1
    assert portrait.numpy() == pytest.approx(exact.numpy(), abs=1e-6)
    assert (portrait.min(), portrait.max()) == (-1, 1)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tiff"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_flag_is_honoured(tmp_path, orientation, suffix):
    stored = {
        1: [],
        2: [Image.Transpose.FLIP_LEFT_RIGHT],
        3: [Image.Transpose.ROTATE_180],
        4: [Image.Transpose.FLIP_TOP_BOTTOM],
        5: [Image.Transpose.TRANSPOSE],
        6: [Image.Transpose.ROTATE_90],
        7: [Image.Transpose.TRANSVERSE],
        8: [Image.Transpose.ROTATE_270],
    }[orientation]
    image = ramp(96, 64)
    for step in stored:
        image = image.transpose(step)
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(tmp_path / f"face.{suffix}", exif=exif, quality=95)
    portrait = read_portrait(tmp_path / f"face.{suffix}", size_px=32)
    assert portrait.numpy() == pytest.approx(
        read_portrait(ramp(96, 64), size_px=32).numpy(), abs=0.08
    )


@pytest.mark.parametrize("mode", ["RGBA", "LA", "RGBa"])
def test_transparent_becomes_white(mode):
    image = Image.new("RGBA", (32, 32), (0, 0, 0, 255))
    image.paste((0, 0, 0, 0), (16, 0, 32, 32))
    portrait = read_portrait(image.convert(mode), size_px=32)
    assert (portrait[:, :, :16] == -1).all()
    assert (portrait[:, :, 16:] == 1).all()


@pytest.mark.parametrize("suffix", ["gif", "png"])
def test_palette_with_a_transparent_colour(tmp_path, suffix):
    image = Image.new("P", (32, 32), 0)
    image.putpalette([0, 0, 0, 255, 0, 0])
    image.paste(1, (16, 0, 32, 32))
    image.save(tmp_path / f"clear.{suffix}", transparency=1)
    portrait = read_portrait(tmp_path / f"clear.{suffix}", size_px=32)
    assert (portrait[:, :, :16] == -1).all()
    assert (portrait[:, :, 16:] == 1).all()


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr", "HSV", "I", "I;16", "I;16B"])
def test_every_mode_shows_the_same_grey(mode):
    level = 255 if mode == "1" else 102
    if mode.startswith("I"):
        image = Image.fromarray(np.full((32, 32), level * 257, np.uint16))
        image = image.convert("I") if mode == "I" else image.convert("I").convert(mode)
    elif mode == "CMYK":
        image = Image.new("CMYK", (32, 32), (0, 0, 0, 255 - level))
    else:
        image = Image.new("RGB", (32, 32), (level, level, level)).convert(mode)
    assert image.mode == mode
    portrait = read_portrait(image, size_px=32)
    assert portrait.numpy() == pytest.approx(level / 127.5 - 1, abs=0.02)


def test_sixteen_bit_file_keeps_its_range(tmp_path):
    deep = np.linspace(0, 65535, 64).astype(np.uint16)[None].repeat(64, 0)
    for suffix in ("png", "tiff", "pgm"):
        Image.fromarray(deep).save(tmp_path / f"deep.{suffix}")
        portrait = read_portrait(tmp_path / f"deep.{suffix}", size_px=64)
        assert portrait.numpy() == pytest.approx(
            np.broadcast_to(deep / 32767.5 - 1, (3, 64, 64)), abs=0.006
        )


@settings(max_examples=60, deadline=None)
@given(st.integers(16, 200), st.integers(16, 200), st.integers(8, 96), st.data())
def test_nothing_is_ever_stretched(width, height, size_px, data):
    """One step to the right changes red by as much as the source says, and down likewise green."""
    box = None
    if data.draw(st.booleans()):
        left, top = data.draw(st.integers(0, width - 16)), data.draw(st.integers(0, height - 16))
        right = data.draw(st.integers(left + 16, width))
        box = (left, top, right, data.draw(st.integers(top + 16, height)))
    portrait = (read_portrait(ramp(width, height), size_px=size_px, box=box) + 1) * 127.5
    left, top, right, bottom = box or (0, 0, width, height)
    side = min(max(right - left, bottom - top), width, height)
    middle = slice(size_px // 4, -(size_px // 4))
    red, green = portrait[0, 0, middle].diff().mean(), portrait[1, middle, 0].diff().mean()
    rounding = 1 / (size_px - 2 * (size_px // 4) - 1) + 0.05  # half a level at both ends
    assert red == pytest.approx(side / size_px * 255 / (width - 1), rel=0.1, abs=rounding)
    assert green == pytest.approx(side / size_px * 255 / (height - 1), rel=0.1, abs=rounding)
    if size_px % 2 == 0:  # the centre stays, unless the square had to move inside the picture
        centre_x = min(max((left + right) / 2, side / 2), width - side / 2)
        seen = portrait[0, 0, size_px // 2 - 1 : size_px // 2 + 1].mean()
        assert seen == pytest.approx((centre_x - 0.5) * 255 / (width - 1), abs=3)


def test_box_of_the_size_wanted_is_cut_out_untouched():
    portrait = read_portrait(ramp(100, 80), size_px=32, box=(10, 20, 42, 52))
    cut = np.array(ramp(100, 80))[20:52, 10:42].transpose(2, 0, 1) / 127.5 - 1
    assert portrait.numpy() == pytest.approx(cut, abs=1e-6)


def test_strong_reduction_averages_every_pixel():
    fine = np.indices((1024, 1024)).sum(0) % 2 * 255  # a checkerboard of single pixels
    portrait = read_portrait(Image.fromarray(fine.astype(np.uint8)), size_px=32)
    assert portrait.numpy() == pytest.approx(0, abs=0.02)


def test_callers_picture_is_left_alone():
    image = ramp(64, 32)
    before = image.tobytes()
    read_portrait(image, size_px=16)
    assert (image.size, image.tobytes()) == ((64, 32), before)


def test_bad_pictures_are_named(tmp_path, monkeypatch):
    (tmp_path / "empty.png").touch()
    (tmp_path / "words.png").write_text("no picture at all")
    ramp(64, 64).save(tmp_path / "whole.png")
    whole = (tmp_path / "whole.png").read_bytes()
    (tmp_path / "half.png").write_bytes(whole[: len(whole) // 2])
    ramp(15, 64).save(tmp_path / "tiny.png")
    Image.fromarray(np.zeros((32, 32), np.float32)).save(tmp_path / "float.tiff")
    for name, words in {
        "missing.png": "does not exist",
        ".": "is a folder",
        "empty.png": "is empty",
        "words.png": "cannot be used",
        "half.png": "cannot be used",
        "tiny.png": "15 x 64 px; give at least 16",
        "float.tiff": "floating point",
    }.items():
        with pytest.raises(MediaError, match=words) as raised:
            read_portrait(tmp_path / name, size_px=32)
        assert "\n" not in str(raised.value)
    limit = Image.MAX_IMAGE_PIXELS
    for pixels in (4_000, 1_000):  # Pillow warns over its limit and fails over twice of it
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", pixels)
        with pytest.raises(MediaError, match=f"safe limit of Pillow \\({pixels}\\)"):
            read_portrait(tmp_path / "whole.png", size_px=32)
    assert limit > 4_000


@pytest.mark.parametrize("suffix", ["jpg", "png", "gif", "webp", "tiff", "ppm"])
def test_damage_is_seen_or_named(tmp_path, suffix):
    """Bytes overwritten anywhere: a portrait all the same, or a MediaError, and nothing else."""
    exif = Image.Exif()
    exif[0x0112] = 6
    ramp(64, 48).save(tmp_path / f"face.{suffix}", exif=exif)
    whole = np.frombuffer((tmp_path / f"face.{suffix}").read_bytes(), np.uint8)
    random = np.random.default_rng(0)
    for places in (1, 3, 30) * 20:
        data = whole.copy()
        data[random.integers(0, min(len(data), 2_000), places)] = random.integers(0, 256, places)
        (tmp_path / f"damaged.{suffix}").write_bytes(data.tobytes())
        with contextlib.suppress(MediaError):
            assert read_portrait(tmp_path / f"damaged.{suffix}", size_px=16).shape == (3, 16, 16)


@pytest.mark.parametrize(
    ("box", "words"),
    [
        ((-1, 0, 40, 40), r"box \(-1, 0, 40, 40\) is not inside picture of 100 x 80 px"),
        ((0, 0, 101, 40), "not inside"),
        ((0, 50, 40, 81), "not inside"),
        ((40, 0, 20, 40), "left < right"),
        ((0, 0, float("nan"), 40), "not inside"),
        ((0, 0, 15, 40), "too small"),
        ((0, 0, float("inf"), 40), "not inside"),
        ((0, 0, 40), r"box is \(0, 0, 40\); give left, top, right, bottom in pixels, as in"),
        ("0 0 40 40", "box is '0 0 40 40'; give left, top"),
        (40, "box is 40; give left, top"),
        ((0, 0, "a", "b"), "give left, top, right, bottom"),
    ],
)
def test_bad_boxes_are_explained(box, words):
    with pytest.raises(MediaError, match=words):
        read_portrait(ramp(100, 80), size_px=32, box=box)


def test_size_must_be_positive():
    with pytest.raises(ConfigurationError, match="size_px is 0"):
        read_portrait(ramp(32, 32), size_px=0)
