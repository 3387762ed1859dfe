"""Toon videos, written as files, become clips of a store: once, whole, the same by any engine."""

import os
import time
from dataclasses import replace
from functools import partial

import pytest
import torch

from loopy.commands.preprocess import _description, _preparer, preprocess
from loopy.data.media.sound import read_audio
from loopy.data.media.video import Video
from loopy.data.media.video_reader import read_frames
from loopy.data.store.description import create_store
from loopy.data.store.shot_store import ShotStore
from loopy.errors import ConfigurationError, LoopyError, MediaError, OutputError
from loopy.models.latents import encode_images
from loopy.preprocess.crop import crop_frames
from loopy.preprocess.engines import part_of, prepare_all
from loopy.preprocess.filters import FilterOptions
from loopy.preprocess.options import PreprocessOptions
from loopy.preprocess.precomputed import Tracks, save_tracks
from loopy.preprocess.prepare import Preparer
from loopy.preprocess.report import report
from loopy.synthetic.talker import random_talk

SIZE, FRAMES = 64, 30
OPTIONS = PreprocessOptions(
    size_px=16,
    estimator="precomputed",
    filters=FilterOptions(fewest_frames=25, fewest_px=30, yaw=2.0),
)


def film(path, seed, *, fps=25, sound=True, tracks=True):
    """A toon talk as a video file, its true track beside it."""
    talk = random_talk(seed, seconds=FRAMES / 25)
    pictures = talk.frames(range(FRAMES), size_px=SIZE)
    pixels = ((pictures.permute(0, 2, 3, 1) + 1) * 127.5).round().to(torch.uint8)
    Video(pixels, fps=fps, audio=talk.audio if sound else None).save(path)
    if tracks:
        points = talk.motion.points[:FRAMES] * (SIZE / talk.motion.size_px)
        save_tracks(path, Tracks(points, talk.motion.valid[:FRAMES], talk.motion.pose[:FRAMES]))
    return path


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    folder = tmp_path_factory.mktemp("films")
    for seed in range(3):
        film(folder / f"{seed}.mp4", seed)
    film(folder / "silent.mp4", 3, sound=False)
    film(folder / "unknown.mp4", 4, tracks=False)
    (folder / "text.mp4").write_text("no video")
    (folder / "empty.mkv").touch()
    return folder


@pytest.fixture
def parts(make_pipeline, tmp_path):
    make_pipeline().save_pretrained(tmp_path / "parts")
    return tmp_path / "parts"


@pytest.fixture
def prepared(films, parts, tmp_path):
    preprocess(str(films), tmp_path / "store", parts=parts, options=OPTIONS)
    return tmp_path / "store"


def content(root):
    return {p.name: p.read_bytes() for p in root.glob("clips/*/*.safetensors")}


def test_a_clip_is_its_pictures_its_sound_and_its_track(prepared, films, parts):
    store = ShotStore.open(prepared)
    assert len(store) == 3
    preparer = _preparer(prepared, OPTIONS, parts, "cpu")
    for row in range(3):
        about = store.about(row)["provenance"]
        box, source = tuple(about["crop_px"]), about["source"]
        assert (about["start_s"], about["stop_s"]) == (0, FRAMES / 25)
        read = store.read(row, dict.fromkeys(("latents", "audio", "points", "valid"), slice(None)))
        pictures = crop_frames(read_frames(source, range(FRAMES)), box, size_px=16)
        expected = encode_images(preparer.networks.vae, pictures.permute(0, 3, 1, 2) / 127.5 - 1)
        torch.testing.assert_close(read["latents"], expected.half(), atol=2e-3, rtol=2e-3)
        heard = preparer.networks.audio_encoder.features(read_audio(source, zero="pictures"))
        torch.testing.assert_close(read["audio"], heard.half(), atol=2e-3, rtol=2e-3)
        points = read["points"][read["valid"]]
        assert points.min() > 0
        assert points.max() < 16
    assert not list((prepared / "work").glob("*"))


def test_what_is_no_clip_has_a_reason(prepared):
    found = report(prepared)
    assert [clip.reason for clip in found.rejected] == ["no sound"]
    reasons = {source.rsplit("/", 1)[1]: reason for source, reason in found.errors.items()}
    assert set(reasons) == {"unknown.mp4", "text.mp4", "empty.mkv"}
    assert "no tracks beside it" in reasons["unknown.mp4"]
    assert "empty" in reasons["empty.mkv"]
    assert found.hours == pytest.approx(3 * FRAMES / 25 / 3600)
    assert {"probe", "latents", "store"} <= set(found.spent_s)
    assert "1 x no sound" in str(found)


def test_what_is_finished_is_not_done_again(prepared, films, parts):
    before = {p: p.stat().st_mtime_ns for p in prepared.glob("clips/*/*")}
    lost = next(iter(before))
    lost.unlink()
    preprocess(str(films), prepared, parts=parts, options=OPTIONS)
    after = {p: p.stat().st_mtime_ns for p in prepared.glob("clips/*/*")}
    assert set(after) == set(before)
    assert [path for path in after if after[path] != before[path]] == [lost]


def test_a_kill_behind_the_ledger_leaves_nothing_for_good(films, parts, tmp_path, monkeypatch):
    store = tmp_path / "store"
    with monkeypatch.context() as patch:
        patch.setattr(Preparer, "_forget", lambda *_: None)
        preprocess(str(films), store, parts=parts, options=OPTIONS)
    assert len([*store.glob("work/*.done.*")]) == 3
    assert any(store.glob("work/*.json"))
    preprocess(str(films), store, parts=parts, options=OPTIONS)
    assert not any(store.glob("work/*"))


def test_other_options_need_another_store(prepared, films, parts):
    with pytest.raises(ConfigurationError, match="other"):
        preprocess(str(films), prepared, parts=parts, options=replace(OPTIONS, longest_gap=0))


def test_two_processes_and_shards_make_the_same_store(prepared, films, parts, tmp_path):
    preprocess(str(films), tmp_path / "pool", parts=parts, options=OPTIONS, workers=2)
    for part in ("0/2", "1/2"):
        preprocess(str(films), tmp_path / "shards", parts=parts, options=OPTIONS, shard=part)
    assert not (tmp_path / "shards" / "index").exists()  # jobs do not wait for each other
    assert content(prepared) == content(tmp_path / "pool") == content(tmp_path / "shards")


def test_each_process_builds_its_networks_once(films, parts, tmp_path):
    store, built = tmp_path / "store", tmp_path / "built"
    create_store(store, _description(_preparer(store, OPTIONS, parts, "cpu"), OPTIONS))
    built.mkdir()
    list(
        prepare_all(partial(_counted, store, parts, built), sorted(films.glob("?.mp4")), workers=1)
    )
    assert len(list(built.iterdir())) == 1


def _counted(store, parts, built):
    (built / f"{os.getpid()} {time.monotonic_ns()}").touch()
    return _preparer(store, OPTIONS, parts, "cpu")


def test_an_error_that_has_passed_is_forgotten(films, parts, tmp_path):
    """Tracks that were missing are there now; other tracks make other clips."""
    folder, store = tmp_path / "films", tmp_path / "store"
    folder.mkdir()
    path = film(folder / "late.mp4", 4, tracks=False)
    with pytest.raises(MediaError, match="not one clip"):
        preprocess(str(folder), store, parts=parts, options=OPTIONS)
    talk = random_talk(4, seconds=FRAMES / 25)
    points = talk.motion.points[:FRAMES] * (SIZE / talk.motion.size_px)
    save_tracks(path, Tracks(points))
    preprocess(str(folder), store, parts=parts, options=OPTIONS)
    first = content(store)
    assert len(first) == 1
    save_tracks(path, Tracks(points + 3))
    preprocess(str(folder), store, parts=parts, options=OPTIONS)
    assert len(content(store)) == 2


def test_silent_clips_are_let_in_on_request(films, parts, tmp_path):
    options = replace(OPTIONS, filters=replace(OPTIONS.filters, need_sound=False))
    preprocess(str(films / "silent.mp4"), tmp_path / "store", parts=parts, options=options)
    audio = ShotStore.open(tmp_path / "store").read(0, {"audio": slice(None)})["audio"]
    assert len(audio) == FRAMES
    assert not audio.any()


@pytest.mark.parametrize("part", ["2/2", "-1/2", "one"])
def test_an_impossible_shard_is_refused(part):
    with pytest.raises(LoopyError, match=r"i goes from|a shard is"):
        part_of([], part)


def test_options_of_the_store(films, parts, tmp_path):
    options = replace(OPTIONS, mirrored=True, log_variance=True, audio_rate_hz=50)
    preprocess(str(films / "0.mp4"), tmp_path / "all", parts=parts, options=options)
    store = ShotStore.open(tmp_path / "all")
    names = ("latents", "latents_mirrored", "log_variance", "audio")
    read = store.read(0, dict.fromkeys(names, slice(None)))
    assert len(read["audio"]) == 2 * FRAMES
    assert read["log_variance"].shape == read["latents"].shape
    assert not torch.equal(read["latents_mirrored"], read["latents"])


def test_a_disk_that_refuses_stops_the_run(films, parts, tmp_path):
    store = tmp_path / "store"
    preparer = _preparer(store, OPTIONS, parts, "cpu")
    create_store(store, _description(preparer, OPTIONS))
    (store / "clips").write_text("in the way")
    with pytest.raises(OutputError, match="clips"):
        preparer(films / "0.mp4")


def test_no_clip_at_all_is_an_error(films, parts, tmp_path):
    with pytest.raises(MediaError, match="not one clip came of 1 videos"):
        preprocess(str(films / "silent.mp4"), tmp_path / "none", parts=parts, options=OPTIONS)
