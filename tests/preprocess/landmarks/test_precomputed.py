import pytest
import torch
from safetensors.torch import save_file

from loopy.commands.evaluate_sets import known_track
from loopy.errors import ConfigurationError, MediaError, MetricError, OutputError
from loopy.preprocess.landmarks import estimator
from loopy.preprocess.landmarks.precomputed import Tracks, load_tracks, save_tracks, tracks_path

FRAMES = 10


@pytest.fixture
def video(tmp_path):
    return tmp_path / "a.mp4"


@pytest.fixture
def points():
    return torch.rand(FRAMES, 68, 2) * 100


def frames(count):
    return torch.zeros(count, 128, 128, 3, dtype=torch.uint8)


def test_tracks_come_back(video, points):
    valid = torch.rand(FRAMES, 68) < 0.5
    pose = torch.randn(FRAMES, 3)
    save_tracks(video, Tracks(points, valid, pose))
    assert [path.name for path in video.parent.iterdir()] == ["a.mp4.tracks.safetensors"]
    back = load_tracks(video)
    assert torch.equal(back.points, points)
    assert torch.equal(back.valid, valid)
    assert torch.equal(back.pose, pose)


def test_a_span_is_looked_up(video, points):
    save_tracks(video, Tracks(points))
    faces = estimator("precomputed", video=video, first=4)(frames(3))
    assert torch.equal(faces.points, points[4:7])
    assert faces.valid.all()
    assert (faces.scores == 1).all()
    assert faces.people.tolist() == [1, 1, 1]
    torch.testing.assert_close(faces.boxes[:, :2], points[4:7].amin(1))
    torch.testing.assert_close(faces.boxes[:, 2:], points[4:7].amax(1))


def test_the_track_beside_a_video_is_read_once(video, points):
    save_tracks(video, Tracks(points))
    find = known_track(video)
    first = find(frames(4))
    tracks_path(video).unlink()
    assert torch.equal(torch.cat([first, find(frames(6))]), points)
    with pytest.raises(MetricError, match="portrait"):
        known_track(None)


def test_unknown_points_are_missing_and_never_zero(video, points):
    valid = torch.ones(FRAMES, 68, dtype=torch.bool)
    valid[2] = False
    valid[3, 7] = False
    points[3, 7] = 1e6
    save_tracks(video, Tracks(points, valid))
    faces = estimator("precomputed", video=video)(frames(FRAMES))
    assert torch.equal(faces.valid, valid)
    assert faces.points[3, 7].isnan().all()
    assert (faces.scores == valid).all()
    assert faces.people.tolist() == [1, 1, 0] + [1] * 7
    assert faces.boxes[2].isnan().all()
    assert faces.boxes[3].max() <= 100


def test_no_tracks_says_where_it_looked(video):
    with pytest.raises(MediaError, match=r"looked for .*a\.mp4\.tracks\.safetensors"):
        estimator("precomputed", video=video)


@pytest.mark.parametrize(("first", "count"), [(0, 11), (8, 3), (-1, 2), (50, 1)])
def test_frames_outside_the_tracks_are_refused(video, points, first, count):
    save_tracks(video, Tracks(points))
    with pytest.raises(MediaError, match="10 frames"):
        estimator("precomputed", video=video, first=first)(frames(count))


def test_tracks_of_a_larger_picture_are_refused(video, points):
    save_tracks(video, Tracks(points * 4 + 100))
    with pytest.raises(MediaError, match="128 x 128"):
        estimator("precomputed", video=video)(frames(FRAMES))


@pytest.mark.parametrize(
    "fields",
    [
        {"pose": torch.zeros(3, 3)},
        {"points": torch.zeros(3, 70, 2)},
        {"points": torch.zeros(())},
        {"points": torch.full((3, 68, 2), torch.nan)},
        {"points": torch.zeros(3, 68, 2), "valid": torch.ones(3, 68)},
        {"points": torch.zeros(3, 68, 2), "valid": torch.ones(2, 68, dtype=torch.bool)},
        {"points": torch.zeros(3, 68, 2), "pose": torch.zeros(3, 2)},
        {"points": torch.zeros(3, 68, 2), "landmarks": torch.zeros(3)},
    ],
)
def test_ill_formed_tracks_are_refused(video, fields):
    save_file(fields, tracks_path(video))
    with pytest.raises(MediaError, match=r"a\.mp4\.tracks\.safetensors"):
        load_tracks(video)


def test_a_file_cut_off_is_refused(video, points):
    save_tracks(video, Tracks(points))
    path = tracks_path(video)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(MediaError, match="not a file of tracks"):
        load_tracks(video)


def test_ill_formed_tracks_are_not_written(video, points):
    with pytest.raises(OutputError, match="finite"):
        save_tracks(video, Tracks(points / 0))
    assert not tracks_path(video).exists()
    with pytest.raises(OutputError, match="does not exist; make it first"):
        save_tracks(video / "no" / "folder.mp4", Tracks(points))


def test_a_video_must_be_named():
    with pytest.raises(ConfigurationError, match="video"):
        estimator("precomputed")
