"""Points and sync of people in an evaluation, and what is said where networks are missing."""

from types import SimpleNamespace

import pytest
import torch

from loopy.data.media.video import Video
from loopy.errors import ModelError
from loopy.evaluation.features import people
from loopy.evaluation.features.extract import VideoFeatures, VideoInput
from loopy.evaluation.table.columns import PEOPLE_COLUMNS
from loopy.evaluation.toon.talks import held_out_talk
from loopy.metrics.sync_scores import load_judge

FRAMES = 60


class Mesh:
    """Finds the true track of a talk, and somebody smaller; nobody in the first frame."""

    def __init__(self, points):
        self.points, self.sizes = points, set()

    def follow(self, frames):
        for number, frame in enumerate(frames):
            self.sizes.add(tuple(frame.shape))
            own = SimpleNamespace(area=9.0, points=self.points[number])
            other = SimpleNamespace(area=4.0, points=torch.zeros(68, 2))
            yield {0: other, 1: own} if number else {}


@pytest.fixture
def talk(tmp_path):
    """A film of 96 x 64 whose pictures nobody looks at, with the sound of a talk and its track."""
    talk = held_out_talk(8, 1, seconds=FRAMES / 25)
    path = tmp_path / "a.mp4"
    Video(torch.zeros(FRAMES, 64, 96, 3, dtype=torch.uint8), 25, talk.audio).save(path)
    return VideoInput(path), talk.motion.points


def test_columns_of_people_say_what_they_lack(monkeypatch):
    found = people.people_extractors()  # no test sees installed networks unless it asks
    assert "loopy faces install" in found.missing["people_sync"]
    assert {need for column in PEOPLE_COLUMNS for need in column.needs} == set(found.missing)

    def lost():
        raise ModelError("no judge")

    monkeypatch.setattr(people, "installed", lambda: True)
    monkeypatch.setattr(people, "load_people_judge", lost)
    assert people.people_extractors().missing == {"people_sync": "no judge"}


def test_the_largest_face_is_judged_in_pictures_large_enough(talk, monkeypatch):
    """The judge of toons stands for that of people: it reads the same points."""
    video, points = talk
    judge, encoder = load_judge()
    judge.settings = SimpleNamespace(audio_encoder="0")
    mesh = Mesh(points)
    monkeypatch.setattr(people, "installed", lambda: True)
    monkeypatch.setattr(people, "load_people_judge", lambda: (judge, encoder))
    monkeypatch.setattr(people, "FaceMesh", lambda *_, iris: mesh)
    extractors = people.people_extractors()
    found = extractors.extract(video)
    assert mesh.sizes == {(256, 384, 3)}
    assert found.get("people_points")[0].isnan().all()
    torch.testing.assert_close(found.get("people_points")[1:], points[1:FRAMES])
    sync, offset = (column.figure(found) for column in PEOPLE_COLUMNS)
    assert (sync > 0.3, offset) == (True, 0)
    early = VideoFeatures({"people_sync": torch.tensor([0.5, 1.0, -7.0])})
    assert PEOPLE_COLUMNS[1].figure(early) == 7
    assert extractors.record["people"]["audio_encoder"] == "0"


def test_a_film_that_is_too_short_or_without_a_face_has_no_figure(talk, monkeypatch, tmp_path):
    video, points = talk
    judge, encoder = load_judge()
    features = VideoFeatures({"people_points": points[:34]})
    with pytest.raises(people.MetricError, match="34 frames are too short"):
        people._sync(judge, encoder, video, features)
    features = VideoFeatures({"people_points": torch.full((FRAMES, 68, 2), torch.nan)})
    with pytest.raises(people.MetricError, match="no window is whole"):
        people._sync(judge, encoder, video, features)
