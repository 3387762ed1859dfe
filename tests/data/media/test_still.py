"""Which pictures are opened at all, and what is said of the others."""

import numpy as np
import pytest
import torch
from PIL import EpsImagePlugin, Image

from loopy.data.media.portrait import read_portrait
from loopy.data.media.still import HEIC_BRANDS, PICTURE_FORMATS
from loopy.errors import MediaError


def face(mode="RGB"):
    return Image.fromarray(np.full((32, 32, 3), (200, 120, 40), np.uint8)).convert(mode)


@pytest.fixture
def no_program(monkeypatch):
    """Fails where Pillow would start Ghostscript, installed or not."""
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *_, **__: pytest.fail("it starts"))


def one_line(raised):
    (line,) = str(raised.value).splitlines()
    return line


@pytest.mark.parametrize("form", [*PICTURE_FORMATS, "MPO"])
def test_a_file_is_known_by_what_it_holds(tmp_path, form):
    face().save(tmp_path / "face.txt", format=form)
    assert read_portrait(tmp_path / "face.txt", size_px=16).shape == (3, 16, 16)


@pytest.mark.parametrize("suffix", ["png", "eps", "jpg"])
def test_postscript_starts_no_program(tmp_path, suffix, no_program):
    face().save(tmp_path / f"face.{suffix}", format="EPS")
    with pytest.raises(MediaError, match=r"neither PNG, JPEG, .* save it as PNG or JPEG") as raised:
        read_portrait(tmp_path / f"face.{suffix}", size_px=16)
    assert f"face.{suffix}" in one_line(raised)
    with (
        Image.open(tmp_path / f"face.{suffix}") as lazy,
        pytest.raises(MediaError, match="picture is EPS, for which a program would start"),
    ):
        read_portrait(lazy, size_px=16)


@pytest.mark.parametrize("form", ["MSP", "PCX", "IM", "SGI", "XBM", "PDF", "ICNS", "DDS"])
def test_rarities_are_refused_with_the_list(tmp_path, form):
    modes = {"MSP": "1", "XBM": "1"}
    face(modes.get(form, "RGB")).save(tmp_path / "face.png", format=form)
    with pytest.raises(MediaError, match=r"neither PNG, .*AVIF.* nor TGA") as raised:
        read_portrait(tmp_path / "face.png", size_px=16)
    one_line(raised)


@pytest.mark.parametrize("brand", HEIC_BRANDS)
def test_pictures_of_phones_are_named(tmp_path, brand):
    data = b"\x00\x00\x00\x18ftyp" + brand + b"\x00\x00\x00\x00mif1heic" + bytes(64)
    (tmp_path / "IMG_0001.HEIC").write_bytes(data)
    with pytest.raises(MediaError, match=r"it is HEIC, .* save it as PNG or JPEG") as raised:
        read_portrait(tmp_path / "IMG_0001.HEIC", size_px=16)
    one_line(raised)


class TestInMemory:
    @pytest.mark.parametrize("of", [np.array, torch.tensor])
    @pytest.mark.parametrize("channels", [1, 3, 4])
    def test_pixels_in_any_order(self, of, channels):
        pixels = np.random.default_rng(0).integers(0, 256, (32, 48, channels), np.uint8)
        one = pixels[..., 0] if channels == 1 else pixels
        expected = read_portrait(Image.fromarray(one), size_px=16)
        assert torch.equal(read_portrait(of(pixels), size_px=16), expected)
        assert torch.equal(read_portrait(of(pixels.transpose(2, 0, 1)), size_px=16), expected)
        assert torch.equal(read_portrait(of(one), size_px=16), expected)

    def test_pixels_of_a_view(self):
        """OpenCV's blue, green, red, exchanged by a step back."""
        pixels = np.random.default_rng(0).integers(0, 256, (32, 48, 3), np.uint8)
        pixels.flags.writeable = False
        expected = read_portrait(Image.fromarray(pixels[..., ::-1].copy()), size_px=16)
        assert torch.equal(read_portrait(pixels[..., ::-1], size_px=16), expected)
        assert torch.equal(read_portrait(torch.tensor(pixels).flip(2), size_px=16), expected)

    @pytest.mark.parametrize(
        ("picture", "named"),
        [
            (np.zeros((32, 32, 3)), r"float64 of shape \(32, 32, 3\)"),
            (torch.zeros(3, 32, 32), r"float32 of shape \(3, 32, 32\)"),
            (torch.zeros(3, 32, 32, dtype=torch.bfloat16), "bfloat16"),
            (np.zeros((32, 32), np.uint16), "uint16"),
            (np.zeros((32, 32), bool), "bool"),
            (np.zeros((32, 32, 2), np.uint8), r"uint8 of shape \(32, 32, 2\)"),
            (np.zeros((1, 32, 32, 3), np.uint8), r"uint8 of shape \(1, 32, 32, 3\)"),
            (np.zeros((0, 32, 3), np.uint8), r"uint8 of shape \(0, 32, 3\)"),
            (np.zeros((), np.uint8), r"uint8 of shape \(\)"),
            (np.zeros(3, object), "object"),
            ([[1, 2, 3]], "of type list"),
            (b"\x89PNG", "of type bytes"),
            (None, "of type NoneType"),
            (3, "of type int"),
        ],
    )
    def test_anything_else_is_named(self, picture, named):
        with pytest.raises(
            MediaError, match=named + r".*; give a file, a picture of Pillow"
        ) as raised:
            read_portrait(picture, size_px=16)
        one_line(raised)


@pytest.mark.parametrize("form", [*PICTURE_FORMATS, "MPO"])
def test_damage_anywhere_is_seen_or_named(tmp_path, form):
    """Bytes overwritten or cut off: a portrait all the same, or a MediaError, and nothing else."""
    path, random = tmp_path / "damaged", np.random.default_rng(0)
    face().save(path, format=form)
    whole, told = np.frombuffer(path.read_bytes(), np.uint8), []
    for places in (1, 3, 30) * 20:
        data = whole[: random.integers(len(whole) // 2, len(whole)) if places == 3 else None].copy()
        data[random.integers(0, len(data), places)] = random.integers(0, 256, places)
        path.write_bytes(data.tobytes())
        try:
            assert read_portrait(path, size_px=16).shape == (3, 16, 16)
        except MediaError as error:
            told.append(str(error))
    assert told
    assert "\n" not in "".join(told)
