"""Dubbed toons are left out of a store on request."""

import torch

from loopy.commands.preprocess import preprocess
from loopy.data.media.video import Video
from loopy.data.store.shot_store import ShotStore
from loopy.evaluation.toon.talks import held_out_talk, pixels
from loopy.preprocess.filters import FilterOptions
from loopy.preprocess.landmarks.precomputed import Tracks, save_tracks
from loopy.preprocess.options import PreprocessOptions
from loopy.preprocess.report import store_report

FRAMES, SIZE = 125, 128
OPTIONS = PreprocessOptions(
    size_px=16,
    estimator="precomputed",
    filters=FilterOptions(fewest_frames=100, fewest_px=60, yaw=2.0),
    sync="toon",
)


def film(path, talk, frames, audio):
    Video(frames, audio=audio).save(path)
    points = talk.motion.points[:FRAMES] * (SIZE / talk.motion.size_px)
    save_tracks(path, Tracks(points, talk.motion.valid[:FRAMES], talk.motion.pose[:FRAMES]))


def test_a_dubbed_talk_and_a_late_one_are_rejected_a_true_one_is_kept(make_pipeline, tmp_path):
    (films := tmp_path / "films").mkdir()
    talk, other = (held_out_talk(6, number, seconds=FRAMES / 25) for number in range(2))
    frames = pixels(talk.frames(range(FRAMES), size_px=SIZE))
    film(films / "true.mp4", talk, frames, talk.audio)
    film(films / "dubbed.mp4", talk, frames, other.audio)
    film(
        films / "late.mp4", talk, frames, torch.cat([torch.zeros(9 * 640), talk.audio[: -9 * 640]])
    )
    make_pipeline().save_pretrained(tmp_path / "parts")
    store = tmp_path / "store"
    preprocess(str(films), store, parts=tmp_path / "parts", options=OPTIONS)
    assert len(kept := ShotStore.open(store)) == 1
    assert kept.about(0)["provenance"]["source"].endswith("true.mp4")
    rejected = store_report(store).rejected
    assert [clip.reason for clip in rejected] == ["low sync"] * 2
    assert sum("offset_frames=9" in clip.words for clip in rejected) == 1


def test_names_of_clips_change_only_where_sync_is_judged():
    assert "sync" not in PreprocessOptions().as_json()
    assert OPTIONS.as_json()["sync"] == "toon"
