"""Test sets: what is drawn, what is left out and why, and that a draw holds."""

import os
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from loopy.data.media.video import Video
from loopy.errors import ConfigurationError, MediaError
from loopy.evaluation.sets.draw import Draw, DrawOptions, open_draw
from loopy.evaluation.sets.layouts import SETS

ROOT = Path(__file__).parents[3]


def write_video(path, seconds=1.2, *, fps=25, sound=True, loud=0.3, seed=0):
    dice = torch.Generator().manual_seed(seed)
    frames = torch.randint(256, (round(seconds * fps), 16, 16, 3), generator=dice).byte()
    noise = loud * torch.randn(round(16_000 * seconds), generator=dice)
    path.parent.mkdir(parents=True, exist_ok=True)
    Video(frames, fps, noise.clamp(-1, 1) if sound else None).save(path)


@pytest.fixture
def folder(tmp_path):
    for number in range(6):
        write_video(tmp_path / "data" / f"{number}.mp4", seed=number)
    return tmp_path / "data"


@pytest.fixture
def out(tmp_path):
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def drawn(folder, out, name="celebv-hq", *, seed=0, **options):
    return open_draw(SETS[name], folder, out, seed=seed, options=DrawOptions(**options))


def names(draw):
    return [item.name for item in draw.items]


def test_a_draw_is_a_function_of_its_seed(folder, out, tmp_path):
    first = drawn(folder, out, items=3)
    others = []
    for seed in range(4):
        (tmp_path / f"{seed}").mkdir()
        others.append(names(drawn(folder, tmp_path / f"{seed}", seed=seed, items=3)))
    assert names(first) == others[0]
    assert len({tuple(each) for each in others}) > 1
    assert len(set(names(first))) == 3


def test_a_draw_is_read_back(folder, out):
    first = drawn(folder, out, items=2)
    written = (out / "draw.json").read_bytes()
    assert drawn(folder, out, items=2) == first == Draw.read(out / "draw.json")
    assert (out / "draw.json").read_bytes() == written


def test_another_draw_in_the_same_folder_is_refused(folder, out):
    drawn(folder, out, items=2)
    with pytest.raises(ConfigurationError, match="seed is 0, not 1"):
        drawn(folder, out, seed=1, items=2)
    with pytest.raises(ConfigurationError, match="options"):
        drawn(folder, out, items=3)


def test_a_changed_folder_is_refused(folder, out):
    chosen = drawn(folder, out, items=2).items[0].picture
    kept = (folder / chosen).read_bytes()
    write_video(folder / "new.mp4")
    with pytest.raises(MediaError, match="has other files"):
        drawn(folder, out, items=2)
    (folder / "new.mp4").unlink()
    (folder / chosen).write_bytes(kept[:-1] + b"?")  # the same size
    with pytest.raises(MediaError, match=f"changed, for one {chosen}"):
        drawn(folder, out, items=2)
    (folder / chosen).write_bytes(kept)
    drawn(folder, out, items=2)


def test_what_cannot_be_judged_is_named_and_replaced(folder, out):
    bad = folder / "bad"
    write_video(bad / "mute.mp4", sound=False)
    write_video(bad / "silent.mp4", loud=0.0)
    write_video(bad / "short.mp4", seconds=0.4)
    (bad / "broken.mp4").write_bytes(b"no video")
    draw = drawn(folder, out)
    assert names(draw) == [str(number) for number in range(6)]  # fewer than 100: all that are fit
    reasons = {Path(name).stem: reason for name, reason in draw.left_out.items()}
    assert "no sound stream" in reasons["mute"]
    assert "silent" in reasons["silent"]
    assert "lasts 0.4" in reasons["short"]
    assert "cannot be decoded" in reasons["broken"]
    assert len(reasons) == 4


def test_nothing_fit_is_an_error(tmp_path, out):
    write_video(tmp_path / "data/mute.mp4", sound=False)
    with pytest.raises(MediaError, match=r"none of 1 files .* no sound stream"):
        drawn(tmp_path / "data", out)
    assert not any(out.iterdir())


def test_a_longer_video_gives_a_span(folder, out):
    write_video(folder / "long.mp4", seconds=4)
    draw = drawn(folder, out, "hdtf", longest_s=1.2)
    spans = {item.name: (item.first, item.frames) for item in draw.items}
    assert len(spans) == 7  # all of them
    assert spans["0"] == (0, 30)
    first, frames = spans["long"]
    assert frames == 30
    assert 0 < first <= 70
    assert next(i for i in draw.items if i.name == "long").portrait_frame == first


def test_equal_names_of_different_files_stay_apart(folder, out):
    write_video(folder / "0.mov")
    write_video(folder / "inner/0.mp4")
    drawn_names = names(drawn(folder, out))
    assert {"1", "inner__0"} <= set(drawn_names)
    assert len(set(drawn_names)) == 8


def test_names_that_fall_together_stay_apart(folder, out):
    write_video(folder / "a/b.mp4")
    write_video(folder / "a__b.mp4")
    items = drawn(folder, out).items
    both = {item.picture: item.name for item in items if item.name.startswith("a__b")}
    assert both.keys() == {"a/b.mp4", "a__b.mp4"}
    assert len({item.name for item in items}) == 8
    assert {str(number) for number in range(6)} < {item.name for item in items}


def test_crossed_names_that_fall_together_stay_apart(tmp_path, out, write_speech):
    for inner in ("portraits", "sounds"):
        (tmp_path / "data" / inner).mkdir(parents=True)
    for name in ("a", "a--b"):
        Image.new("RGB", (20, 20)).save(tmp_path / f"data/portraits/{name}.png")
    for number, name in enumerate(("b--c", "c")):
        write_speech(tmp_path / f"data/sounds/{name}.wav", 1.1, number)
    draw = drawn(tmp_path / "data", out, "open-set")
    assert len(set(names(draw))) == 4
    assert {"a--c", "a--b--b--c"} < set(names(draw))  # the others keep theirs


def test_a_name_that_is_no_utf_8_is_refused(folder, out):
    (folder / os.fsdecode(b"caf\xe9.mp4")).write_bytes(b"")
    with pytest.raises(MediaError, match=r"caf\\xe9.mp4' is no name in UTF-8; rename it"):
        drawn(folder, out)


def test_an_out_in_the_folder_of_the_set_is_refused(folder):
    for out in (folder, folder / "inner/judged"):
        out.mkdir(parents=True, exist_ok=True)
        with pytest.raises(ConfigurationError, match="give another --out"):
            drawn(folder, out)
        assert not (out / "draw.json").exists()


def test_an_open_set_is_every_portrait_with_every_sound(tmp_path, out, write_speech):
    data = tmp_path / "data"
    for inner in ("portraits", "sounds"):
        (data / inner).mkdir(parents=True)
    for number in range(3):
        pixels = np.full((20, 20, 3), number, np.uint8)
        Image.fromarray(pixels).save(data / f"portraits/p{number}.png")
        write_speech(data / f"sounds/s{number}.wav", 1.1, number)
    (data / "portraits/broken.png").write_bytes(b"?")
    draw = drawn(data, out, "open-set")
    assert set(names(draw)) == {f"p{i}--s{j}" for i in range(3) for j in range(3)}
    assert "broken.png" in str(draw.left_out)
    assert not any(item.filmed for item in draw.items)


def test_ravdess_takes_speech_with_sound_alone(tmp_path, out):
    good = "01-01-05-01-02-01-12.mp4"
    for name in (good, good.replace("01-01", "02-01"), good.replace("01-01", "01-02")):
        write_video(tmp_path / "data/Actor_12" / name)
    assert names(drawn(tmp_path / "data", out, "ravdess")) == ["Actor_12__" + Path(good).stem]


def test_a_folder_without_the_layout_is_named(tmp_path, out):
    (tmp_path / "data").mkdir()
    with pytest.raises(MediaError, match=r"holds no videos of ravdess .*01-01"):
        drawn(tmp_path / "data", out, "ravdess")
    with pytest.raises(MediaError, match="portraits holds no portraits of open-set"):
        drawn(tmp_path / "data", out, "open-set")
    with pytest.raises(MediaError, match="is no folder"):
        drawn(tmp_path / "lost", out)


@pytest.mark.parametrize("layout", sorted(SETS))
def test_toons_come_in_each_layout(tmp_path, out, layout, monkeypatch):
    words = ["--layout", layout, "--videos", "2", "--seconds", "1.2", "--size", "16"]
    monkeypatch.setattr(sys, "argv", ["toon_videos.py", str(tmp_path / "data"), *words])
    runpy.run_path(str(ROOT / "examples/toon_videos.py"), run_name="__main__")
    draw = drawn(tmp_path / "data", out, layout)
    assert len(draw.items) == (4 if layout == "open-set" else 2)
    assert not draw.left_out
