"""Dubbed toons, and dubbed people, are left out of a store on request."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from loopy.commands.preprocess import preprocess
from loopy.data.media.video import Video
from loopy.data.store.shot_store import ShotStore
from loopy.errors import ModelError
from loopy.evaluation.toon.talks import held_out_talk, pixels
from loopy.metrics.sync_scores import load_judge
from loopy.preprocess import sync_scorer
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


@pytest.fixture
def films(make_pipeline, tmp_path):
    """A true talk, one with another's voice and one whose sound is late; and the true track."""
    (films := tmp_path / "films").mkdir()
    talk, other = (held_out_talk(6, number, seconds=FRAMES / 25) for number in range(2))
    frames = pixels(talk.frames(range(FRAMES), size_px=SIZE))
    film(films / "true.mp4", talk, frames, talk.audio)
    film(films / "dubbed.mp4", talk, frames, other.audio)
    film(
        films / "late.mp4", talk, frames, torch.cat([torch.zeros(9 * 640), talk.audio[: -9 * 640]])
    )
    make_pipeline().save_pretrained(tmp_path / "parts")
    return films, talk.motion.points[:FRAMES]


def check_filtered(films, options):
    """Only the true talk is left in a store."""
    store = films.with_name("store")
    preprocess(str(films), store, parts=films.with_name("parts"), options=options)
    assert len(kept := ShotStore.open(store)) == 1
    assert kept.about(0)["provenance"]["source"].endswith("true.mp4")
    rejected = store_report(store).rejected
    assert [clip.reason for clip in rejected] == ["low sync"] * 2
    assert sum("offset_frames=9" in clip.words for clip in rejected) == 1


def test_a_dubbed_talk_and_a_late_one_are_rejected_a_true_one_is_kept(films):
    check_filtered(films[0], OPTIONS)


def test_people_are_filtered_by_their_points_in_the_unit_of_their_judge(films, monkeypatch):
    """The judge of toons stands for that of people, the true track for what MediaPipe finds."""
    folder, points = films
    judge, encoder = load_judge()
    settings = SimpleNamespace(sure=0.2)
    people = SimpleNamespace(
        settings=settings, embed_sound=judge.embed_sound, embed_points=judge.embed_points
    )
    seen = list[tuple[int, ...]]()

    class Landmarks:
        def follow(self, parts):
            seen.append(tuple(torch.cat(list(parts)).shape))
            return SimpleNamespace(points=points)

    monkeypatch.setattr(sync_scorer, "load_people_judge", lambda: (people, encoder))
    monkeypatch.setattr(sync_scorer, "MediaPipe", Landmarks)
    check_filtered(folder, replace(OPTIONS, sync="people"))
    assert seen == [(FRAMES, 256, 256, 3)] * 3
    score = sync_scorer.PeopleSyncScorer()
    known = score(folder / "true.mp4", range(FRAMES), (0, 0, SIZE, SIZE))
    settings.sure = 0.4
    assert score(folder / "true.mp4", range(FRAMES), (0, 0, SIZE, SIZE)).confidence == (
        pytest.approx(known.confidence / 2)
    )
    points.fill_(torch.nan)  # nobody is there
    nothing = score(folder / "true.mp4", range(FRAMES), (0, 0, SIZE, SIZE))
    assert nothing.confidence != nothing.confidence
    short = score(folder / "true.mp4", range(20), (0, 0, SIZE, SIZE))
    assert short.confidence != short.confidence


def test_without_the_face_networks_people_are_no_option(films, monkeypatch):
    monkeypatch.setattr(sync_scorer, "load_people_judge", lambda: (None, None))
    with pytest.raises(ModelError, match="loopy faces install"):
        check_filtered(films[0], replace(OPTIONS, sync="people"))


def test_names_of_clips_change_only_where_sync_is_judged():
    assert "sync" not in PreprocessOptions().as_json()
    assert OPTIONS.as_json()["sync"] == "toon"
    assert replace(OPTIONS, sync="people").as_json()["sync"] == "people"
