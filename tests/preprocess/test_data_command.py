"""`loopy data`: what it says and shows of a store that `loopy preprocess` has made."""

import json
import shutil
from dataclasses import replace
from hashlib import sha256

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from PIL import Image

from loopy.cli import main
from loopy.commands.preprocess import preprocess
from loopy.data.media.sound import read_audio
from loopy.data.media.video_reader import iterate_frames
from loopy.data.store.shot_store import ShotStore
from loopy.preprocess.report import store_report
from loopy.preprocess.sources import probe

SIDE, FRAMES = 48, 35


@pytest.fixture(scope="module")
def chirp():
    """A tone that rises all the time, so that each moment sounds like no other; from 0.2 s on."""
    time = np.arange(round(2.2 * 16_000)) / 16_000
    return 0.5 * np.sin(2 * np.pi * (200 + 400 * time) * time)


@pytest.fixture(scope="module")
def talks(write_talk, chirp, tmp_path_factory):
    """A talk with a cut at 1 s, one that is mute, one that is too short, and no video."""
    folder = tmp_path_factory.mktemp("talks")
    write_talk(folder / "cut.mkv", pictures=60, cut=25, late_s=0.2, sound=chirp)
    write_talk(folder / "mute.mkv", silent_from_s=0)
    write_talk(folder / "short.mkv", pictures=20)
    (folder / "words.mp4").write_text("no video")
    return folder


@pytest.fixture(scope="module")
def made(talks, talk_parts, talk_options, tmp_path_factory):
    root = tmp_path_factory.mktemp("made") / "store"
    preprocess(str(talks), root, parts=talk_parts, options=talk_options)
    return root


@pytest.fixture
def store(made, tmp_path):
    """A copy of it, to change."""
    return shutil.copytree(made, tmp_path / "store")


@pytest.fixture(scope="module")
def second(made):
    """The clip behind the cut: its id and its latents."""
    store = ShotStore.open(made)
    (row,) = (r for r in range(len(store)) if store.about(r)["provenance"]["start_s"] == 1)
    return store.index.id(row), store.read(row, {"latents": slice(None)})["latents"]


@pytest.fixture(scope="module")
def shown(second, talk_parts):
    """Its pictures (f h w 3) as the autoencoder itself decodes them, 0 to 255."""
    vae = AutoencoderKL.from_pretrained(talk_parts / "vae", low_cpu_mem_usage=False).eval()
    with torch.no_grad():
        pictures = vae.decode(second[1].float() / 0.18215).sample.clamp(-1, 1)
    return (pictures.permute(0, 2, 3, 1).numpy() + 1) * 127.5


def test_a_report_as_a_file_and_a_picture(made, talks, tmp_path, capsys):
    out = tmp_path / "new" / "folder"
    assert main(["data", "report", str(made), "--out", str(out)]) == 0
    told = capsys.readouterr().out
    assert told.startswith("4 videos, 2 shots, 0.00 hours, ")
    assert told.endswith(f"report and histograms: {out}\n")
    content = json.loads((out / "report.json").read_text())
    files = list(made.glob("clips/*/*.safetensors"))
    assert content["videos"] == 4
    assert content["shots"] == len(files) == 2
    assert content["hours"] == pytest.approx((25 + FRAMES) / 25 / 3600)
    assert content["rejected"] == {"no sound": 1, "too short": 1}
    assert content["bytes"] == sum(file.stat().st_size for file in files)
    assert list(content["errors"]) == [str(talks / "words.mp4")]
    assert content["seconds by stage"]["latents"] > 0
    with Image.open(out / "histograms.png") as picture:
        assert picture.width > 3 * picture.height
        colours = {colour for _, colour in picture.convert("RGB").getcolors(2**20)}
    assert {(31, 119, 180), (255, 127, 14)} <= colours  # bars of kept and of rejected clips


def test_a_report_of_no_store_is_an_error(tmp_path, capsys):
    assert main(["data", "report", str(tmp_path / "nowhere")]) == 2
    assert "there is no shot store" in capsys.readouterr().err


def test_the_same_video_under_two_names_counts_once(write_talk, talk_parts, talk_options, tmp_path):
    path = write_talk(tmp_path / "one.mkv").path
    for end in ("", ".tracks.safetensors"):
        shutil.copy(f"{path}{end}", tmp_path / f"two.mkv{end}")
    preprocess(str(tmp_path), tmp_path / "store", parts=talk_parts, options=talk_options)
    found = store_report(tmp_path / "store")
    assert (found.videos, len(found.kept)) == (2, 1)
    assert len(ShotStore.open(tmp_path / "store")) == 1
    assert found.hours == pytest.approx(30 / 25 / 3600)


def test_a_view_shows_the_clip_and_plays_its_sound(
    made, talk_parts, second, shown, chirp, tmp_path, capsys
):
    video, sheet = tmp_path / "clip.mp4", tmp_path / "clip.png"
    words = ["data", "view", str(made), "--parts", str(talk_parts), "--clip", second[0]]
    assert main([*words, "--video", str(video), "--sheet", str(sheet)]) == 0
    assert f"shot {second[0]}: {FRAMES} frames of " in capsys.readouterr().out

    about, frames = probe(video), np.stack(list(iterate_frames(video))).astype(float)
    assert (about.fps, about.width_px, about.height_px) == (25, SIDE, SIDE)
    assert len(frames) == FRAMES
    apart = np.abs(frames[:, None] - shown).mean((2, 3, 4))
    assert apart.argmin(1).tolist() == list(range(FRAMES))  # each is most like its own latents

    heard = read_audio(video).numpy()
    assert 0 <= len(heard) - FRAMES * 640 < 1024  # the last block of AAC is full
    heard, wanted = heard[: FRAMES * 640], chirp[round((1 - 0.2) * 16_000) :][: FRAMES * 640]
    lags = range(-40, 41)
    alike = [np.corrcoef(np.roll(heard, lag)[50:-50], wanted[50:-50])[0, 1] for lag in lags]
    assert abs(lags[int(np.argmax(alike))]) <= 1
    assert max(alike) > 0.98

    with Image.open(sheet) as picture:
        assert picture.size == (8 * SIDE, 3 * SIDE)
        tiles = np.asarray(picture, float).reshape(3, SIDE, 8, SIDE, 3).swapaxes(1, 2)
    places = np.linspace(0, FRAMES - 1, 24).round().astype(int)
    assert np.abs(tiles.reshape(24, SIDE, SIDE, 3) - shown[places]).max() <= 1


def test_without_a_name_the_first_clip_is_shown(made, talk_parts, tmp_path, capsys):
    words = ["data", "view", str(made), "--parts", str(talk_parts)]
    assert main([*words, "--sheet", str(tmp_path / "first.png")]) == 0
    assert ShotStore.open(made).index.id(0) in capsys.readouterr().out
    assert main(words) == 2
    assert "--video out.mp4, --sheet out.png, or both" in capsys.readouterr().err


def test_an_unknown_clip_is_an_error(made, talk_parts, tmp_path, capsys):
    words = ["data", "view", str(made), "--parts", str(talk_parts), "--clip", "0" * 32]
    assert main([*words, "--video", str(tmp_path / "clip.mp4")]) == 2
    assert "0" * 32 in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_view_without_the_source_is_silent(store, talks, talk_parts, write_talk, tmp_path):
    """And so is one of a video that never had a sound."""
    words = ["data", "view", "--parts", str(talk_parts), "--video", str(tmp_path / "clip.mp4")]
    moved = tmp_path / "moved.mkv"
    (talks / "cut.mkv").rename(moved)
    try:
        assert main([*words, str(store)]) == 0
    finally:
        moved.rename(talks / "cut.mkv")
    assert not probe(tmp_path / "clip.mp4").has_sound


def test_a_view_plays_no_other_file(store, talks, talk_parts, chirp, tmp_path, capsys):
    """Whoever made the store may have named any file; only the very one of the clip is opened."""
    video = tmp_path / "clip.mp4"
    words = ["data", "view", str(store), "--parts", str(talk_parts), "--video", str(video)]
    assert main(words) == 0
    assert f"sound: {talks / 'cut.mkv'}, from " in capsys.readouterr().out
    moved = tmp_path / "moved.mkv"
    (talks / "cut.mkv").rename(moved)
    try:
        shutil.copy(moved, talks / "cut.mkv")
        with (talks / "cut.mkv").open("ab") as file:
            file.write(b"another one")
        assert main(words) == 0
    finally:
        moved.replace(talks / "cut.mkv")
    assert "is not the file that the shot was made of" in capsys.readouterr().out
    assert not probe(video).has_sound


@pytest.mark.parametrize("place", ["file/report", "file", "full"])
def test_a_report_that_cannot_be_written_is_one_line(store, tmp_path, capsys, place):
    (store / "index/current.json").unlink()  # a report without the motion scale is quick
    (tmp_path / "file").write_text("mine")
    (tmp_path / "full/histograms.png").mkdir(parents=True)
    assert main(["data", "report", str(store), "--out", str(tmp_path / place)]) == 2
    said = capsys.readouterr().err
    assert str(tmp_path / place) in said
    assert said.startswith("loopy: error: ")
    assert said.count("\n") == 1
    assert (tmp_path / "file").read_text() == "mine"
    assert not list(tmp_path.glob("full/.*"))


@pytest.mark.parametrize("kind", ["video", "sheet"])
@pytest.mark.parametrize("name", ["nowhere/clip", "file/clip"])
def test_a_view_that_cannot_be_written_is_one_line(made, talk_parts, tmp_path, capsys, kind, name):
    (tmp_path / "file").write_text("mine")
    out = tmp_path / f"{name}{'.mp4' if kind == 'video' else '.png'}"
    words = ["data", "view", str(made), "--parts", str(talk_parts), f"--{kind}", str(out)]
    assert main(words) == 2
    said = capsys.readouterr().err
    assert str(out) in said
    assert said.count("\n") == 1


def test_a_view_of_a_mute_clip(talks, talk_parts, talk_options, tmp_path):
    filters = replace(talk_options.filters, need_sound=False)
    options = replace(talk_options, filters=filters)
    preprocess(str(talks / "mute.mkv"), tmp_path / "store", parts=talk_parts, options=options)
    video = tmp_path / "clip.mp4"
    words = ["data", "view", str(tmp_path / "store"), "--parts", str(talk_parts)]
    assert main([*words, "--video", str(video)]) == 0
    assert not probe(video).has_sound


def test_other_shares_are_another_index(store, capsys):
    """Of one person all clips are on one side; which one, his hash and the shares say."""
    before = ShotStore.open(store)
    (person,) = {before.about(row)["provenance"]["identity"] for row in range(2)}
    place = int.from_bytes(sha256(person.encode()).digest()[:8], "big") / 2**64
    more, less = (place + 1) / 2, place / 2
    for validation, test in [(0.0, more), (more, 0.0), (0.0, less)]:
        shares = [f"--validation={validation}", f"--test={test}"]
        assert main(["data", "index", str(store), *shares]) == 0
        assert capsys.readouterr().out == "2 shots\n"
        side = 2 if place < test else int(validation > 0)
        index = ShotStore.open(store).index
        assert index["split"].tolist() == [side, side]
        assert index["id"].tolist() == before.index["id"].tolist()
        about = json.loads((index.folder / "columns.json").read_text())
        assert (about["validation"], about["test"]) == (validation, test)


def test_impossible_shares_change_nothing(store, capsys):
    current = (store / "index/current.json").read_text()
    assert main(["data", "index", str(store), "--validation=0.9", "--test=0.9"]) == 2
    assert "at most 1 together, got 0.9 and 0.9" in capsys.readouterr().err
    assert (store / "index/current.json").read_text() == current


@pytest.mark.parametrize("words", [[], ["sing"], ["view", "store"], ["index"]])
def test_what_makes_no_sense_is_one_line(words, capsys):
    assert main(["data", *words]) == 2
    said = capsys.readouterr().err
    assert said.startswith("loopy: error: ")
    assert said.count("\n") == 1


def test_a_view_does_not_replace_the_video_of_its_clip(store, talks, talk_parts, capsys):
    source = talks / "cut.mkv"
    before = source.read_bytes()
    words = ["data", "view", str(store), "--parts", str(talk_parts), "--video"]
    assert main([*words, str(source)]) == 2
    assert "would replace source" in capsys.readouterr().err
    assert source.read_bytes() == before
    assert main([*words, str(store / "view.mp4")]) == 2
    assert "is inside store" in capsys.readouterr().err
    words = ["data", "view", store.as_uri(), "--parts", str(talk_parts)]
    assert main([*words, "--sheet", str(store / "sheet.png")]) == 2
    assert "is inside store" in capsys.readouterr().err
    assert not (store / "sheet.png").exists()
