"""Pictures as the world has them, each against numbers from the standard that it follows."""

import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms, features

from loopy.data.media.portrait import read_portrait
from tests.data.media.profiles import (
    adobe_profile,
    adobe_to_srgb,
    cmyk_profile,
    encoded,
    grey_profile,
    lab_to_srgb,
    p3_profile,
    p3_to_srgb,
)
from tests.memory import PEAK

SIDE = 32
TRUE = {"png": {}, "jpg": {"quality": 100, "subsampling": 0}, "webp": {"lossless": True},
        "tiff": {}, "avif": {"quality": 100, "subsampling": "4:4:4"}}  # fmt: skip
"""How a format stores colours as they are, or nearly."""
P3_COLOURS = [(200, 120, 40), (40, 200, 90), (250, 20, 30), (12, 14, 16), (128, 128, 128)]


def read(source):
    """Levels of 0 to 255, as height, width, colour."""
    return ((read_portrait(source, size_px=SIDE).permute(1, 2, 0).numpy() + 1) * 127.5).round()


def plain(colour, mode="RGB"):
    return Image.new(mode, (SIDE, SIDE), colour)


def noise(height=SIDE, width=SIDE):
    """Blocks of 8 pixels, no two alike."""
    random = np.random.default_rng(0).integers(0, 256, (height // 8, width // 8, 3), np.uint8)
    return random.repeat(8, 0).repeat(8, 1)


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(path, depth, kind, row, **chunks):
    """A PNG of 32 equal rows, with chunks that Pillow does not write (PNG, third edition, 11)."""
    head = struct.pack(">IIBBBBB", SIDE, SIDE, depth, kind, 0, 0, 0)
    data = b"".join(chunk(name.encode(), body) for name, body in chunks.items())
    pixels = chunk(b"IDAT", zlib.compress((b"\0" + row) * SIDE))
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + data + pixels + chunk(b"IEND", b"")
    )
    return path


@pytest.mark.parametrize("suffix", TRUE)
@pytest.mark.parametrize("colour", P3_COLOURS)
def test_display_p3_of_any_format(tmp_path, suffix, colour):
    path = tmp_path / f"face.{suffix}"
    plain(colour).save(path, icc_profile=p3_profile(), **TRUE[suffix])
    assert read(path) == pytest.approx(np.broadcast_to(p3_to_srgb(colour), (SIDE, SIDE, 3)), abs=3)


def test_the_numbers_of_the_standards():
    """Those that others print: red of sRGB in Display P3 and Adobe RGB (1998), and in Lab."""
    assert p3_to_srgb((233.96, 51.08, 35.34)) == pytest.approx([255, 0, 0], abs=0.5)
    assert p3_to_srgb((128, 128, 128)) == pytest.approx([128] * 3, abs=0.05)
    assert adobe_to_srgb((218.9, 0, 0)) == pytest.approx([255, 0, 0], abs=0.5)
    assert lab_to_srgb((54.29, 80.81, 69.89)) == pytest.approx([255, 0, 0], abs=1)


@pytest.mark.parametrize("colour", P3_COLOURS)
def test_a_picture_in_memory_has_its_profile(colour):
    image = plain(colour)
    image.info["icc_profile"] = adobe_profile()
    assert read(image)[0, 0] == pytest.approx(adobe_to_srgb(colour), abs=1.5)
    assert image.info["icc_profile"] == adobe_profile()
    image.info["icc_profile"] = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert read(image)[0, 0] == pytest.approx(np.array(colour), abs=1.01)


def test_colours_are_converted_before_transparency_is_filled(tmp_path):
    image = plain((200, 120, 40, 102), "RGBA")
    image.save(tmp_path / "face.png", icc_profile=p3_profile())
    expected = 0.4 * p3_to_srgb((200, 120, 40)) + 0.6 * 255
    assert read(tmp_path / "face.png")[0, 0] == pytest.approx(expected, abs=1.5)


def test_a_palette_has_a_profile(tmp_path):
    image = Image.new("P", (SIDE, SIDE), 0)
    image.putpalette([200, 120, 40, 0, 0, 0])
    image.paste(1, (16, 0, 32, 32))
    image.save(tmp_path / "face.png", icc_profile=p3_profile(), transparency=bytes([102, 0]))
    expected = 0.4 * p3_to_srgb((200, 120, 40)) + 0.6 * 255
    assert read(tmp_path / "face.png")[0, 0] == pytest.approx(expected, abs=1.5)
    assert read(tmp_path / "face.png")[0, 31] == pytest.approx(255)


@pytest.mark.parametrize("mode", ["L", "LA", "I;16"])
@pytest.mark.parametrize("gamma", [1.0, 1.8])
def test_grey_has_a_profile(tmp_path, mode, gamma):
    levels = np.full((SIDE, SIDE), 90, np.uint8)
    image = (
        Image.fromarray(levels) if mode != "I;16" else Image.fromarray(levels.astype("u2") * 257)
    )
    image.convert(mode).save(tmp_path / "face.png", icc_profile=grey_profile(gamma))
    assert read(tmp_path / "face.png") == pytest.approx(
        float(encoded((90 / 255) ** gamma)), abs=1.5
    )


@pytest.mark.parametrize("suffix", ["jpg", "tiff"])
def test_inks_have_a_profile(tmp_path, suffix):
    mixtures = np.random.default_rng(3).integers((35, -25, -25), (86, 26, 26), (16, 3))
    mixtures[0], mixtures[1::2] = (100, 0, 0), (0, 0, 0)  # paper; black covers all
    profile = cmyk_profile(mixtures)
    for inks, lab in zip(np.ndindex(2, 2, 2, 2), mixtures, strict=True):
        image = plain(tuple(255 * ink for ink in inks), "CMYK")
        image.save(tmp_path / f"face.{suffix}", icc_profile=profile, **TRUE[suffix])
        assert read(tmp_path / f"face.{suffix}")[5, 5] == pytest.approx(lab_to_srgb(lab), abs=3)


@pytest.mark.parametrize("lab", [(60, 20, -30), (30, -10, 20), (90, 5, 5)])
def test_lab_needs_no_profile(tmp_path, lab):
    light, a, b = lab
    plain((round(2.55 * light), a + 128, b + 128), "LAB").save(tmp_path / "face.tiff")
    assert read(tmp_path / "face.tiff")[0, 0] == pytest.approx(lab_to_srgb(lab), abs=3)


@pytest.mark.parametrize(
    ("mode", "profile"),
    [
        ("RGB", b""),
        ("RGB", b"no profile at all"),
        ("RGB", p3_profile()[:200]),
        ("RGB", p3_profile()[:-900]),
        ("RGB", grey_profile(1.0)),
        ("RGB", ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()),
        ("RGB", ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ")).tobytes()),
        ("L", p3_profile()),
        ("CMYK", p3_profile()),
        ("CMYK", cmyk_profile([(50, 0, 0)] * 16)[:400]),
    ],
)
def test_what_is_no_profile_of_the_picture_counts_as_none(tmp_path, mode, profile):
    image = Image.fromarray(noise()).convert(mode)
    image.save(tmp_path / "with.tiff", icc_profile=profile)
    assert np.array_equal(read(tmp_path / "with.tiff"), read(image))


def test_damage_in_a_profile_never_ends_it():
    random, image = np.random.default_rng(0), plain((200, 120, 40))
    for whole in (p3_profile(), cmyk_profile([(50, 0, 0)] * 16), grey_profile(1.8)):
        mode = {b"RGB ": "RGB", b"CMYK": "CMYK", b"GRAY": "L"}[whole[16:20]]
        for places in (1, 5, 30) * 8:
            data = np.frombuffer(whole, np.uint8).copy()
            data[random.integers(0, len(data), places)] = random.integers(0, 256, places)
            image = plain((9, 8, 7, 6)[: len(mode)] if mode != "L" else 9, mode)
            image.info["icc_profile"] = data.tobytes()
            assert read(image).shape == (SIDE, SIDE, 3)


@pytest.mark.parametrize("suffix", TRUE)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientations_of_exif(tmp_path, orientation, suffix):
    """CIPA DC-008, 4.6.5.1.6: on which visual side row 0 and column 0 of the stored pixels are."""
    row, column = ["top left", "top right", "bottom right", "bottom left", "left top",
                   "right top", "right bottom", "left bottom"][orientation - 1].split()  # fmt: skip
    stored = noise(SIDE, 48)
    seen = stored if row in ("top", "bottom") else stored.swapaxes(0, 1)
    seen = seen[::-1] if "bottom" in (row, column) else seen
    seen = seen[:, ::-1] if "right" in (row, column) else seen
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(stored).save(tmp_path / f"face.{suffix}", exif=exif, **TRUE[suffix])
    box = (8, 0, 40, 32) if row in ("top", "bottom") else (0, 8, 32, 40)
    portrait = read_portrait(tmp_path / f"face.{suffix}", size_px=SIDE, box=box)
    left, top, right, bottom = box
    exact = seen[top:bottom, left:right].transpose(2, 0, 1) / 127.5 - 1
    assert portrait.numpy() == pytest.approx(exact, abs=4 / 127.5)


@pytest.mark.parametrize(
    "block", [b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0" + bytes(99)]
)
def test_damaged_exif_counts_as_none(tmp_path, block):
    Image.fromarray(noise()).save(tmp_path / "face.png", exif=block)
    assert np.array_equal(read(tmp_path / "face.png"), noise())


@pytest.mark.parametrize(
    ("depth", "row", "clear", "levels"),
    [
        (1, b"\x55" * 4, 1, (0, 255)),
        (2, b"\x66" * 8, 2, (85, 255)),
        (4, b"\x5a" * 16, 10, (85, 255)),
        (8, b"\x40\xc8" * 16, 200, (64, 255)),
        (16, b"\x40\x40\xc8\xc8" * 16, 0xC8C8, (64, 255)),
    ],
)
def test_grey_of_any_depth_with_one_clear_level(tmp_path, depth, row, clear, levels):
    path = png(tmp_path / "face.png", depth, 0, row, tRNS=struct.pack(">H", clear))
    assert read(path)[:, ::2] == pytest.approx(levels[0], abs=0.6)
    assert read(path)[:, 1::2] == pytest.approx(levels[1])


@pytest.mark.parametrize("depth", [8, 16])
def test_colours_with_a_clear_one(tmp_path, depth):
    code = ">3B" if depth == 8 else ">3H"
    scale = 1 if depth == 8 else 257
    row = struct.pack(code, *(scale * level for level in (10, 20, 30)))
    row += struct.pack(code, *(scale * level for level in (40, 50, 60)))
    clear = struct.pack(">3H", *(scale * level for level in (40, 50, 60)))
    path = png(tmp_path / "face.png", depth, 2, row * 16, tRNS=clear)
    assert read(path)[0, 0] == pytest.approx([10, 20, 30], abs=0.6)
    assert read(path)[0, 1] == pytest.approx([255] * 3)


@pytest.mark.parametrize(("kind", "colours"), [(4, 1), (6, 3)])
@pytest.mark.parametrize("depth", [8, 16])
def test_transparency_of_every_pixel(tmp_path, depth, kind, colours):
    code, scale = (">B", 1) if depth == 8 else (">H", 257)
    row = b"".join(struct.pack(code, scale * level) for level in [100] * colours + [102])
    path = png(tmp_path / "face.png", depth, kind, row * SIDE)
    assert read(path) == pytest.approx(0.4 * 100 + 0.6 * 255, abs=1)


def test_inks_without_a_profile(tmp_path):
    for suffix in ("jpg", "tiff"):
        plain((30, 60, 90, 0), "CMYK").save(tmp_path / f"face.{suffix}", **TRUE[suffix])
        expected = [225, 195, 165]
        assert read(tmp_path / f"face.{suffix}")[5, 5] == pytest.approx(expected, abs=2)


@pytest.mark.parametrize("suffix", ["gif", "png", "webp", "avif", "tiff"])
def test_of_many_pictures_the_first(tmp_path, suffix):
    assert features.check("avif")
    first, second = plain((255, 0, 0)), plain((0, 0, 255))
    options = TRUE.get(suffix, {})
    first.save(tmp_path / f"face.{suffix}", save_all=True, append_images=[second], **options)
    with Image.open(tmp_path / f"face.{suffix}") as written:
        assert written.n_frames == 2
    assert read(tmp_path / f"face.{suffix}")[5, 5] == pytest.approx([255, 0, 0], abs=2)


def test_of_icons_the_largest(tmp_path):
    plain((255, 0, 0)).save(tmp_path / "face.ico", sizes=[(16, 16), (32, 32)])
    assert read(tmp_path / "face.ico")[5, 5] == pytest.approx([255, 0, 0])


def test_a_large_picture_is_not_copied_whole():
    """4 bytes a pixel for the result, 1 for a palette; copies of it as RGBA would be 4 each."""
    child = subprocess.run(
        [sys.executable, "-c", LARGE], check=True, capture_output=True, text=True, timeout=120
    )
    assert float(child.stdout) < 8


LARGE = f"""
{PEAK}
from PIL import Image
from loopy.data.media.still import upright_srgb
small, side = Image.new("P", (600, 600)), 4000
small.info["transparency"] = 0
upright_srgb(small)
before = peak_kib()
image = Image.new("P", (side, side))
image.info["transparency"] = 0
upright_srgb(image)
print(1024 * (peak_kib() - before) / side**2)
"""
