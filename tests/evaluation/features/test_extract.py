"""Extractors that take a video part by part give what the figures take from the whole video."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open

from loopy.data.media.video import Video
from loopy.data.media.video_pictures import READING
from loopy.errors import MediaError, MetricError
from loopy.evaluation.features.extract import (
    PART,
    ExtractorSet,
    VideoFeatures,
    VideoInput,
    cached_features,
    cached_tensor,
)
from loopy.evaluation.features.faces import (
    NEEDED,
    TEMPLATE,
    SyncNetScores,
    align,
    crop,
    steady_face,
    sync_boxes,
)
from loopy.evaluation.features.frames import FrameRows, PartSmoothness, SegmentMean
from loopy.evaluation.features.networks import EvaluationModels, build_extractors
from loopy.evaluation.features.toon import FEATURES, toon_extractors
from loopy.evaluation.table.columns import COLUMNS, TOON_COLUMNS
from loopy.evaluation.toon.talks import held_out_talk, pixels
from loopy.metrics.drift import mean_colours
from loopy.metrics.smoothness import linear, smoothness
from loopy.metrics.sync_scores import load_judge, sync_scores
from loopy.metrics.syncnet import SyncNet
from loopy.metrics.video_features import segments
from loopy.models.weights import fingerprint
from loopy.tensor_file import save_tensors


def noise(frames, size=8, seed=0):
    dice = torch.Generator().manual_seed(seed)
    return torch.randint(256, (frames, size, size, 3), generator=dice, dtype=torch.uint8)


def computed(extractor, frames, part_frames=PART):
    for part in frames.split(part_frames):
        extractor.update(part)
    return extractor.compute()


def stretch_network(segments):
    """Notices order within a stretch, and which frames are in it."""
    weights = torch.arange(1, segments.shape[1] + 1)
    return (segments.double().mean((2, 3)) * weights[:, None]).mean(1)


LENGTHS = st.sampled_from([16, 17, 31, PART - 1, PART, PART + 1, PART + 15, 2 * PART + 16, 150])


PARTS = st.sampled_from([16, 32, 48, PART])


@given(LENGTHS, PARTS)
def test_stretches_are_those_of_the_whole_video(length, part_frames):
    frames = noise(length)
    torch.testing.assert_close(
        computed(SegmentMean(stretch_network), frames, part_frames).double(),
        stretch_network(segments(frames)).mean(0),
        rtol=1e-5,
        atol=1e-3,
    )


@given(st.integers(3, 2 * PART + 3), PARTS)
def test_every_second_frame_is_made_up_once(length, part_frames):
    frames = noise(length)
    seen = float(computed(PartSmoothness(linear), frames, part_frames))
    assert seen == pytest.approx(smoothness(frames, linear), abs=1e-7)


def test_a_video_too_short_says_so():
    for extractor, frames in ((SegmentMean(stretch_network), 15), (PartSmoothness(linear), 2)):
        with pytest.raises(MetricError):
            computed(extractor, noise(frames))


def test_features_that_are_no_numbers_are_refused():
    broken = SegmentMean(lambda segments: stretch_network(segments) / 0 * 0)
    with pytest.raises(MetricError, match="of segments hold NaN"):
        computed(broken, noise(40))


@pytest.mark.parametrize("frames", [34, 35, 60])
def test_the_sync_of_toons_wants_35_frames_of_any_size(tmp_path, frames):
    talk = held_out_talk(8, 1, seconds=3.0)
    found = []
    for size_px in (128, 192):
        path = tmp_path / f"{size_px}.mp4"
        pictures = pixels(talk.frames(range(frames), size_px=size_px))
        Video(pictures, 25, talk.audio).save(path)  # whose sound is longer
        found.append(toon_extractors().extract(VideoInput(path, pictures[0])))
    if frames < 35:
        assert "34 frames are too short" in found[0].problems["toon_sync"]
        return
    (own, _, offset), (large, _, _) = (each.get("toon_sync").tolist() for each in found)
    assert large == pytest.approx(own, abs=0.1)
    assert offset == 0 or frames == 35  # which is too little to be sure


@pytest.fixture
def video(tmp_path):
    Video(noise(PART + 6, 32), 25, torch.randn(16_000 * 3).clamp(-1, 1) * 0.1).save(
        tmp_path / "a.mp4"
    )
    return VideoInput(tmp_path / "a.mp4", noise(1, 32)[0])


class Fails:
    """An extractor that fails at the second part."""

    def __init__(self):
        self.parts = 0

    def update(self, part):
        self.parts += 1
        if self.parts == 2:
            raise MetricError("no face")

    def compute(self):
        raise AssertionError


def test_an_extractor_that_fails_says_why_and_the_others_go_on(video):
    extractors = ExtractorSet(
        {"fails": lambda *_: Fails(), "colours": lambda *_: FrameRows(mean_colours)},
        {"less": lambda _, f: FrameRows(lambda n, colours: colours, f.get("colours") - 1)},
        {"after": lambda _, f: f.get("colours").mean(0), "lost": lambda _, f: f.get("fails")},
    )
    told = extractors.extract(video)
    assert told.problems == {"fails": "no face", "lost": "no face"}
    torch.testing.assert_close(told.get("less"), told.get("colours") - 1)
    whole = torch.cat(list(video.parts()))
    torch.testing.assert_close(told.get("colours"), mean_colours(whole))
    torch.testing.assert_close(told.get("after"), mean_colours(whole).mean(0))
    assert told.get("size").tolist() == [PART + 6, 32, 32]
    with pytest.raises(MetricError, match="no face"):
        told.get("fails")


def test_features_are_cached_until_something_changes(video, tmp_path):
    extractors = build_extractors(EvaluationModels())
    kept = tmp_path / "kept/a.safetensors"
    first = cached_features(video, extractors, kept)
    written = kept.stat().st_mtime_ns
    again = cached_features(video, extractors, kept)
    assert kept.stat().st_mtime_ns == written
    torch.testing.assert_close(again.tensors, first.tensors)
    torch.testing.assert_close(cached_tensor(kept, "colours"), first.get("colours"))
    with pytest.raises(MetricError, match="was not extracted"):
        cached_tensor(kept, "inception")
    cached_features(VideoInput(video.path, video.portrait + 1), extractors, kept)
    other = kept.stat().st_mtime_ns
    assert other != written
    with safe_open(kept, "pt") as file:  # pictures that were read by other rules
        content = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        save_tensors(kept, content, {**file.metadata(), "reading": "1"})
    cached_features(VideoInput(video.path, video.portrait + 1), extractors, kept)
    with safe_open(kept, "pt") as file:
        assert file.metadata()["reading"] == READING
    Video(noise(20, 32), 25, None).save(video.path)
    cached_features(VideoInput(video.path, video.portrait + 1), extractors, kept)
    assert len(cached_tensor(kept, "colours")) == 20


def test_a_damaged_cache_is_computed_again(video, tmp_path):
    kept = tmp_path / "a.safetensors"
    kept.write_bytes(b"?")
    assert (
        len(cached_features(video, build_extractors(EvaluationModels()), kept).get("sharpness"))
        == PART + 6
    )


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(MediaError, match=r"lost\.pth does not exist"):
        build_extractors(EvaluationModels(inception=tmp_path / "lost.pth"))


def face(shift=0.0, size=1.0):
    """68 points, the eyes level, in a picture of 64 px."""
    dice = np.random.default_rng(0)
    points = torch.from_numpy(dice.uniform(16, 48, (68, 2))).float()
    eyes, nose, mouth = [(24, 26), (40, 26)], (32, 34), [(26, 42), (38, 42)]
    points[36:42], points[42:48] = torch.tensor(eyes[0]).float(), torch.tensor(eyes[1]).float()
    points[30] = torch.tensor(nose)
    points[48], points[54] = (torch.tensor(corner).float() for corner in mouth)
    return points * size + shift


def test_an_aligned_face_has_its_eyes_where_arcface_wants_them():
    """A dot drawn at each eye of a moved, turned and larger face comes out at the template's."""
    points = torch.tensor(TEMPLATE)
    angle = torch.tensor(0.3)
    turn = torch.stack([torch.stack([angle.cos(), -angle.sin()]), torch.stack([angle.sin(), angle.cos()])])  # fmt: skip  # noqa: E501
    five = points @ turn.T * 1.5 + torch.tensor([40.0, 10.0])
    track = torch.zeros(1, 68, 2)
    track[0, 36:42], track[0, 42:48] = five[0], five[1]
    track[0, 30], track[0, 48], track[0, 54] = five[2:]
    y, x = torch.meshgrid(torch.arange(240) + 0.5, torch.arange(240) + 0.5, indexing="ij")
    for place, wanted in zip(five, points, strict=True):
        dot = (-((x - place[0]) ** 2 + (y - place[1]) ** 2) / 18).exp() * 255
        frames = dot[None, :, :, None].expand(1, 240, 240, 3).to(torch.uint8)
        seen = align(frames, track)[0, 0]
        row, column = divmod(int(seen.argmax()), 112)
        assert abs(column + 0.5 - wanted[0]) < 1.5
        assert abs(row + 0.5 - wanted[1]) < 1.5


def test_a_cut_is_the_square_and_grey_outside():
    frames = noise(1, 20)
    box = torch.tensor([[4.0, 6.0, 12.0, 14.0]])
    torch.testing.assert_close(crop(frames, box, size_px=8)[0], frames[0, 6:14, 4:12])
    outside = crop(frames, torch.tensor([[-8.0, 0.0, 0.0, 8.0]]), size_px=8)
    assert (outside == 110).all()


def test_gaps_of_a_track_take_the_nearest_frame_and_lost_faces_are_said():
    track = torch.arange(10.0)[:, None, None].expand(10, 68, 2).clone()
    track[[0, 5]] = torch.nan
    whole = steady_face(track)
    assert whole[:, 0, 0].tolist() == [1, 1, 2, 3, 4, 4, 6, 7, 8, 9]
    track[1:7] = torch.nan
    with pytest.raises(MetricError, match="in 3 of 10 frames"):
        steady_face(track)


def test_the_audio_encoder_is_part_of_the_record_of_toons():
    """Features cached from another audio encoder, or by other code, are not taken for new ones."""
    record = toon_extractors().record["toon"]
    assert record["audio_encoder"] == fingerprint(load_judge()[1])
    assert record["looks"] == FEATURES


def test_points_that_nobody_needs_may_be_missing():
    """Half of the chin behind a hand hides no face; a corner of the mouth does, to `align`."""
    track = face().expand(30, 68, 2).clone()
    frames, whole = noise(30, 300), sync_boxes(track)
    sharp = align(frames, track)
    rest = [point for point in range(68) if point not in NEEDED]
    track[:, rest[::2]] = torch.nan
    torch.testing.assert_close(align(frames, steady_face(track)), sharp)
    assert (sync_boxes(track) - whole).abs().max() < 0.2 * (whole[0, 2] - whole[0, 0])
    track[:20, 48] = torch.nan
    with pytest.raises(MetricError, match="in 10 of 30 frames"):
        steady_face(track)
    assert sync_boxes(track).isfinite().all()
    track[:20, ::2] = torch.nan
    with pytest.raises(MetricError, match="in 10 of 30 frames"):
        sync_boxes(track)


@pytest.mark.parametrize("column", ["Offset", "Offset (toon)"])
def test_sound_early_and_sound_late_are_both_out_of_step(column):
    """The mean of 15 and -15 frames must not be that of a video in sync."""
    [offset] = [each for each in COLUMNS + TOON_COLUMNS if each.name == column]
    told = [
        offset.figure(VideoFeatures({offset.needs[0]: torch.tensor([0.5, 1.0, frames])}))
        for frames in (15.0, -15.0)
    ]
    assert told == [15, 15]


def test_sync_boxes_follow_the_face_and_are_square():
    track = torch.stack([face(shift=float(i)) for i in range(30)])
    boxes = sync_boxes(track)
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    torch.testing.assert_close(width, height)
    middle = (boxes[:, 0] + boxes[:, 2]) / 2
    torch.testing.assert_close(middle[6:-6].diff(), torch.ones(17))


@torch.no_grad()
def test_syncnet_part_by_part_is_syncnet(tmp_path):
    frames = 24
    torch.manual_seed(0)
    sound = torch.randn(frames * 640).clamp(-1, 1) * 0.3
    Video(noise(frames, 64), 25, sound).save(tmp_path / "a.mp4")
    video = VideoInput(tmp_path / "a.mp4", noise(1, 64)[0])
    track = face().expand(frames, 68, 2)
    network = SyncNet().eval()
    boxes = sync_boxes(track)
    scores = SyncNetScores(network, "cpu", boxes, video.sound_of(frames), at_once=10)
    by_parts = computed(scores, torch.cat(list(video.parts())), 7)
    crops = crop(torch.cat(list(video.parts())), boxes, size_px=224)
    whole = sync_scores(*network(crops, video.sound[: frames * 640]))
    assert by_parts.tolist() == pytest.approx(list(whole), rel=1e-3, abs=1e-5)


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_networks_that_need_landmarks_see_the_face_alone(tmp_path):
    """Who is shown does not depend on what is around the face."""

    class Colours(torch.nn.Module):
        def forward(self, faces: torch.Tensor) -> torch.Tensor:
            return faces.mean((2, 3))

    torch.jit.script(Colours()).save(tmp_path / "face.pt")
    frames = torch.zeros(30, 64, 64, 3, dtype=torch.uint8)
    frames[:, 10:60, 14:52] = torch.tensor([200, 60, 60], dtype=torch.uint8)  # the face
    frames[15:, :, :8] = 255  # beside it
    Video(frames, 25, 0.1 * torch.ones(16_000 * 2)).save(tmp_path / "a.mp4", crf=0)
    models = EvaluationModels(face=tmp_path / "face.pt")
    extractors = build_extractors(
        models, points=lambda _: lambda part: face().expand(len(part), 68, 2)
    )
    told = extractors.extract(VideoInput(tmp_path / "a.mp4", frames[0]))
    assert not told.problems
    torch.testing.assert_close(
        told.get("face"), told.get("portrait").expand(30, 3), atol=0.1, rtol=0
    )
    assert {"face", "portrait", "points"}.isdisjoint(extractors.missing)
    assert "syncnet_v2.model" in extractors.missing["syncnet"]
    assert "DWPose" in build_extractors(models).missing["face"]
