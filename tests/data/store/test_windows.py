"""A sample is made of the rows that it names, and of no others."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from loopy.data.store.description import StoreDescription, create_store
from loopy.data.store.index_build import build_index
from loopy.data.store.shot_store import ShotStore
from loopy.data.store.shots import Provenance, ShotRecord, shot_id, write_shot
from loopy.data.store.windows import REFERENCE_DISTANCE, Window, draw_window, read_window
from loopy.errors import ConfigurationError
from loopy.motion import MotionSequence, head_motion_variance, mirrored
from loopy.randomness import generator
from loopy.segments import SegmentLayout
from loopy.timing import AudioWindow

FRAMES, CLIP = 40, 3
LAYOUT = SegmentLayout(2, 2, 2)  # distances 0 1 3 5


def number(rows, *shape):
    """Rows that hold their own number."""
    return torch.arange(rows).float().view(-1, *[1] * len(shape)).expand(rows, *shape)


@pytest.fixture
def make_counted(tmp_path, make_record, description):
    """A store of one clip whose frames, and vectors of sound, are numbered."""

    def make(rate_hz=25):
        kind = replace(description, audio_rate_hz=rate_hz, mirrored=True)
        create_store(tmp_path / "store", kind)
        motion = MotionSequence(
            number(FRAMES, 68, 2) + torch.rand(68, 2),
            number(FRAMES, 3) / 100,
            torch.ones(FRAMES, 68, dtype=torch.bool),
            64,
        )
        record = make_record(
            "one",
            frames=FRAMES,
            latents=number(FRAMES, 4, 6, 6),
            latents_mirrored=number(FRAMES, 4, 6, 6) + 100,
            audio=number(FRAMES * rate_hz // 25, 3, 8),
            motion=motion,
        )
        write_shot(tmp_path / "store", record)
        build_index(tmp_path / "store")
        return ShotStore.open(tmp_path / "store"), motion

    return make


def shown(latents):
    return latents.flatten(2)[0, :, 0].tolist()


def test_a_sample_is_the_rows_it_names(make_counted):
    store, motion = make_counted()
    clip, _ = read_window(store, 0, Window(20, 4, 7), layout=LAYOUT, clip_frames=CLIP)
    assert shown(clip.latents) == [20, 21, 22]
    assert clip.reference.flatten()[0] == 7
    assert shown(clip.motion_frames) == [0, 16, 18, 19]  # distance 5 is beyond a past of 4
    assert clip.past_present.tolist() == [[False, True, True, True]]
    assert clip.audio[0, :, :, 0, 0].tolist() == [
        [18, 19, 20, 21, 22],
        [19, 20, 21, 22, 23],
        [20, 21, 22, 23, 24],
    ]
    torch.testing.assert_close(clip.landmarks[0], motion[20:23].normalised())
    torch.testing.assert_close(clip.measures[0, 0], head_motion_variance(motion[20:23]))


def test_sound_ends_where_the_video_does(make_counted):
    store, _ = make_counted()
    first, _ = read_window(store, 0, Window(0, 0, 9), layout=LAYOUT, clip_frames=CLIP)
    last, _ = read_window(store, 0, Window(37, 4, 9), layout=LAYOUT, clip_frames=CLIP)
    assert first.audio[0, 0, :, 0, 0].tolist() == [0, 0, 0, 1, 2]
    assert last.audio[0, -1, :, 0, 0].tolist() == [37, 38, 39, 39, 39]
    assert not first.past_present.any()
    assert not first.motion_frames.any()


def test_another_audio_window(make_counted):
    store, _ = make_counted()
    options = {"layout": LAYOUT, "clip_frames": CLIP}
    for window in (AudioWindow(0, 0), AudioWindow(1, 3), AudioWindow.of(7)):
        clip, _ = read_window(store, 0, Window(20, 4, 7), audio_window=window, **options)
        whole, _ = read_window(store, 0, Window(20, 4, 7), **options)
        around = range(20 - window.before, 21 + window.after)
        assert clip.audio[0, 0, :, 0, 0].tolist() == list(around)
        assert torch.equal(clip.latents, whole.latents)


def test_two_vectors_of_50_hz_are_averaged(make_counted):
    store, _ = make_counted(50)
    clip, _ = read_window(store, 0, Window(20, 4, 7), layout=LAYOUT, clip_frames=CLIP)
    assert clip.audio[0, 0, :, 0, 0].tolist() == [36.5, 38.5, 40.5, 42.5, 44.5]


def test_a_mirrored_window_is_mirrored_throughout(make_counted):
    store, motion = make_counted()
    window = Window(20, 4, 7, mirrored=True)
    clip, track = read_window(store, 0, window, layout=LAYOUT, clip_frames=CLIP)
    assert shown(clip.latents) == [120, 121, 122]
    assert clip.reference.flatten()[0] == 107
    assert shown(clip.motion_frames)[1:] == [116, 118, 119]
    torch.testing.assert_close(track.points, mirrored(motion[20:23]).points)
    torch.testing.assert_close(clip.landmarks[0], track.normalised())


@pytest.mark.parametrize("window", [Window(20, 4, 7), Window(20, 3, 16, still=True)])
def test_latents_are_drawn_by_the_formula(tmp_path, make_record, description, window):
    """z = mean + exp(log-variance / 2) x noise; a frame that is seen twice is the same twice."""
    create_store(tmp_path / "store", replace(description, log_variance=True))
    spread = torch.linspace(-8, 2, FRAMES).half()
    record = make_record(
        "one",
        frames=FRAMES,
        latents=number(FRAMES, 4, 6, 6),
        log_variance=spread[:, None, None, None].expand(FRAMES, 4, 6, 6),
    )
    write_shot(tmp_path / "store", record)
    build_index(tmp_path / "store")
    store = ShotStore.open(tmp_path / "store")
    given = {"layout": LAYOUT, "clip_frames": CLIP}
    mean, _ = read_window(store, 0, window, **given)
    clip, _ = read_window(store, 0, window, **given, noise=generator(5))
    frames = sorted({16, 18, 19, 20, 21, 22, window.reference})
    noise = torch.randn(len(frames), 4, 6, 6, generator=generator(5))
    drawn = {
        f: f + (spread[f].float() / 2).exp() * each for f, each in zip(frames, noise, strict=True)
    }
    for name in ("latents", "reference", "motion_frames"):
        before, found = getattr(mean, name), getattr(clip, name)
        for place in np.ndindex(before.shape[:-3]):
            exists = name != "motion_frames" or mean.past_present[place]
            frame = int(before[place].flatten()[0])
            wanted = drawn[frame] if exists else torch.zeros(4, 6, 6)
            torch.testing.assert_close(found[place], wanted)
    assert torch.equal(mean.audio, clip.audio)
    assert torch.equal(mean.landmarks, clip.landmarks)


def test_a_short_history_may_be_of_a_video_that_began_with_the_portrait(make_counted):
    store, _ = make_counted()
    window = Window(20, 3, 16, still=True)
    clip, _ = read_window(store, 0, window, layout=LAYOUT, clip_frames=CLIP)
    assert shown(clip.motion_frames) == [16, 16, 18, 19]
    assert clip.reference.flatten()[0] == 16
    assert clip.past_present.all()
    drawn = [
        draw_window(40, generator(i), clip_frames=CLIP, history=h, static_history=6)
        for i in range(50)
        for h in (3, 6)
    ]
    for window in drawn:
        assert window.still == (window.history < 6)
        if window.still:
            assert window.reference == max(window.start - window.history - 1, 0)


@pytest.fixture(scope="module")
def paper_store(tmp_path_factory):
    """One clip of the paper's shape: 8 MB of zeros, which weigh as much as numbers do."""
    root, frames = tmp_path_factory.mktemp("paper") / "store", 150
    create_store(root, StoreDescription(512, (4, 64, 64), (13, 768)))
    record = ShotRecord(
        shot_id("talk", 0, 6, {}),
        torch.zeros(frames, 4, 64, 64),
        torch.zeros(frames, 13, 768),
        MotionSequence(
            torch.zeros(frames, 68, 2),
            torch.zeros(frames, 3),
            torch.ones(frames, 68, dtype=torch.bool),
            512,
        ),
        Provenance("talk.mp4", "talk", 0, 6, (0, 0, 512, 512), 25, identity="talk"),
    )
    write_shot(root, record)
    build_index(root)
    return root


@pytest.mark.parametrize("history", [0, 30, 124])
def test_nothing_else_is_read(paper_store, history):
    """Bytes asked for are those of the rows, and at most 5 % more: checksums, gaps and a header."""
    store, layout = ShotStore.open(paper_store), SegmentLayout()
    asked = needed = 0
    for number in range(8):
        window = draw_window(150, generator(number), clip_frames=12, history=history)
        before = store.bytes_requested
        clip, _ = read_window(store, 0, window, layout=layout, clip_frames=12)
        asked += store.bytes_requested - before
        slots = int((layout.distances() < history).sum())
        assert clip.past_present.sum() == slots == {0: 0, 30: 12, 124: 20}[history]
        past = (window.start - 1 - layout.distances()[layout.distances() < history]).tolist()
        pictures = {*past, *range(window.start, window.start + 12), window.reference}
        sound = set(range(max(window.start - 2, 0), min(window.start + 14, 150)))
        track = 68 * 2 * 4 + 68 + 3 * 4
        needed += len(pictures) * 4 * 64 * 64 * 2 + len(sound) * 13 * 768 * 2 + 12 * track
    assert needed < asked <= 1.05 * needed


@given(
    frames=st.integers(4, 400),
    wanted=st.integers(0, 130),
    seed=st.integers(0, 10**6),
    reference=st.sampled_from(["outside", "within"]),
)
def test_every_drawn_window_is_in_the_video(frames, wanted, seed, reference):
    window = draw_window(
        frames, generator(seed), clip_frames=CLIP, history=wanted, reference=reference
    )
    assert window.history == wanted or (
        wanted > frames - CLIP and window.history == window.start // CLIP * CLIP
    )
    assert window.history <= window.start <= frames - CLIP
    inside = window.start <= window.reference < window.start + CLIP
    assert 0 <= window.reference < frames
    assert inside == (reference == "within")
    if reference == "outside":
        far = max(window.start, frames - window.start - CLIP) >= REFERENCE_DISTANCE
        gap = max(window.start - window.reference, window.reference - window.start - CLIP + 1)
        assert gap >= (REFERENCE_DISTANCE if far else 1)
    again = draw_window(
        frames, generator(seed), clip_frames=CLIP, history=wanted, reference=reference
    )
    assert window == again


def test_windows_are_all_over_the_video():
    drawn = [draw_window(60, generator(i), clip_frames=CLIP, history=6) for i in range(400)]
    starts = {window.start for window in drawn}
    assert min(starts) == 6
    assert max(starts) == 57
    assert len(starts) > 45
    assert not any(window.mirrored for window in drawn)
    some = [draw_window(60, generator(i), clip_frames=3, history=6, mirror=0.5) for i in range(99)]
    assert 30 < sum(window.mirrored for window in some) < 70


def test_a_video_shorter_than_its_history_is_learned_everywhere():
    """Sentences of three seconds end in silence."""
    starts = [draw_window(74, generator(i), clip_frames=12, history=124).start for i in range(600)]
    parts = torch.tensor(starts).float().histc(bins=3, min=0, max=62)
    assert parts.min() > 150


def test_a_video_must_be_longer_than_the_clip():
    with pytest.raises(ConfigurationError, match="a video of 3 frames"):
        draw_window(3, generator(0), clip_frames=CLIP, history=0)
