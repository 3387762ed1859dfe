"""What goes wrong with one video costs that video alone; nothing finished is lost by it."""

import os
import signal
import time
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from multiprocessing import get_context

import av
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from loopy.cli import main
from loopy.commands.preprocess import _description, _networks, _preparer, preprocess
from loopy.data.store.description import create_store
from loopy.data.store.shot_store import ShotStore
from loopy.errors import LoopyError, MediaError
from loopy.faces.framing import crop_frames
from loopy.preprocess.engines import prepare_all
from loopy.preprocess.landmarks.precomputed import Tracks, save_tracks
from loopy.preprocess.ledger import read_ledgers
from loopy.preprocess.prepare import Preparer
from loopy.preprocess.report import listed_shots, store_report

NAMES = ("a", "b", "c")


@pytest.fixture
def talks(write_talk, tmp_path):
    (tmp_path / "talks").mkdir()
    return [write_talk(tmp_path / "talks" / f"{name}.mkv").path for name in NAMES]


@pytest.fixture
def make(talk_parts, talk_options, tmp_path):
    """Builds preparers of one store, of any class."""
    first = _preparer(tmp_path / "store", talk_options, talk_parts, "cpu")
    create_store(first.root, _description(first, talk_options))
    load = partial(_networks, talk_parts, "cpu")

    def maker(kind=Preparer):
        return partial(kind, first.root, first.options, first.config, load)

    return maker


@pytest.fixture
def command(talks, talk_parts, talk_options, tmp_path):
    def call(videos=talks[0].parent, name="store", **more):
        preprocess(str(videos), tmp_path / name, parts=talk_parts, options=talk_options, **more)
        return ShotStore.open(tmp_path / name)

    return call


def clips(root):
    return {path.name: path.read_bytes() for path in root.glob("clips/*/*.safetensors")}


@dataclass(frozen=True, eq=False)
class Clumsy(Preparer):
    """Stumbles over each video but the first, in another step each time."""

    def encode(self, video, shot, watch):
        if video.stem == "b":
            raise RuntimeError("CUDA error")
        return super().encode(video, shot, watch)

    def _audio(self, *rows):
        if len(list(self.root.glob("clips/*/*"))):
            raise KeyError("ears")
        return super()._audio(*rows)


def test_what_nobody_foresaw_is_told_and_the_rest_is_done(make, talks):
    ledgers = {led.source: led for led in prepare_all(make(Clumsy), talks)}
    errors = [ledgers[str(path)].error for path in talks]
    assert errors[0] == ""
    assert "b.mkv is not finished: RuntimeError in test_faults.py" in errors[1]
    assert "c.mkv is not finished: KeyError in test_faults.py" in errors[2]
    root = make()().root
    assert len(clips(root)) == 1
    assert not any(ledger.error for ledger in prepare_all(make(), talks))
    assert len(clips(root)) == 3


def test_more_faults_than_are_allowed_end_the_run(make, talks):
    with pytest.raises(LoopyError, match=r"more than 1 videos failed.*KeyError"):
        list(prepare_all(make(Clumsy), talks, max_errors=1))


def test_numbers_that_no_store_takes_are_a_fault_of_the_video(make, talks):
    @dataclass(frozen=True, eq=False)
    class Loud(Preparer):
        def encode(self, video, shot, watch):
            tensors = super().encode(video, shot, watch)
            return tensors if video.stem != "b" else {"latents": tensors["latents"] / 0}

    ledgers = list(prepare_all(make(Loud), talks))
    bad = [ledger for ledger in ledgers if ledger.error]
    assert [ledger.source for ledger in bad] == [str(talks[1])]
    assert "not finite" in bad[0].error
    assert bad[0].finished  # the same again would be the same


def test_a_track_with_a_hole_in_its_pose_is_named(command, talks, tmp_path):
    points = torch.rand(30, 68, 2) * 20 + 40
    fields = {"points": points, "pose": torch.full((30, 3), torch.nan)}
    with pytest.raises(LoopyError, match="pose must be finite"):
        save_tracks(talks[1], Tracks(**fields))
    save_file(fields, f"{talks[1]}.tracks.safetensors")
    assert len(command()) == 2
    (error,) = store_report(tmp_path / "store").errors.values()
    assert "pose must be finite" in error


def test_pictures_that_change_their_size_are_refused(make, tmp_path):
    """A crop found in the first size would cut anything out of the second one."""
    path = tmp_path / "grows.ts"
    with av.open(str(path), "w", format="mpegts") as container:
        stream = container.add_stream("mpeg2video", rate=25)
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
        larger = av.CodecContext.create("mpeg2video", "w")
        larger.width, larger.height, larger.pix_fmt = 320, 192, "yuv420p"
        larger.framerate, larger.time_base = 25, Fraction(1, 25)
        for number in range(60):
            size = (96, 160, 3) if number < 30 else (192, 320, 3)
            frame = av.VideoFrame.from_ndarray(np.full(size, 9 * (number % 7), np.uint8))
            frame.pts = number
            for packet in (stream if number < 30 else larger).encode(frame):
                packet.stream = stream
                container.mux(packet)
            if number == 29:
                container.mux(stream.encode(None))
        for packet in larger.encode(None):
            packet.stream = stream
            container.mux(packet)
    ledger = make()()(path)
    assert "changes its size from (160, 96) to (320, 192)" in ledger.error
    assert ledger.shots == ()


def test_a_crop_outside_of_the_picture_is_never_stretched():
    with pytest.raises(MediaError, match="320 x 192"):
        crop_frames(
            torch.zeros(1, 192, 320, 3, dtype=torch.uint8), (112, 113, 208, 209), size_px=48
        )


def test_a_source_that_is_gone_for_a_while_takes_nothing_along(command, talks, tmp_path):
    videos = tmp_path / "videos.txt"
    videos.write_text("\n".join(map(str, talks)))
    before = command(videos)
    talks[1].rename(tmp_path / "elsewhere.mkv")
    after = command(videos)
    assert len(before) == len(after) == 3
    assert len(listed_shots(tmp_path / "store")) == 3
    assert store_report(tmp_path / "store").errors == {}
    (tmp_path / "elsewhere.mkv").rename(talks[1])
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "store").rglob("videos/*.json")}
    command(videos)
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps


def test_the_space_of_all_shards_is_asked_for_by_each(
    talks, talk_parts, talk_options, tmp_path, capsys
):
    for shard in ("0/3", "1/3", "2/3"):
        form = {"parts": talk_parts, "options": talk_options, "shard": shard}
        preprocess(str(talks[0].parent), tmp_path / "store", **form)
    asked = [line for line in capsys.readouterr().err.splitlines() if "GB at most" in line]
    assert len(asked) == 3
    assert len(set(asked)) == 1
    assert asked[0].startswith("3 videos; ")


@pytest.mark.parametrize(
    ("shares", "words"),
    [
        ({}, ""),
        ({"validation": 0.1}, " --validation 0.1"),
        ({"validation": 0.0, "test": 0.0}, " --validation 0.0 --test 0.0"),
    ],
)
def test_a_shard_says_how_the_index_is_made(
    talks, talk_parts, talk_options, tmp_path, capsys, shares, words
):
    form = {"parts": talk_parts, "options": talk_options, "shard": "0/3"}
    preprocess(str(talks[0].parent), tmp_path / "store", **form, **shares)
    assert capsys.readouterr().out.endswith(f"loopy data index {tmp_path / 'store'}{words}\n")


def test_a_talk_of_short_shots_leaves_a_reason(command, write_talk, talks, tmp_path):
    write_talk(talks[0].parent / "short.mkv", pictures=12)
    command()
    (rejected,) = store_report(tmp_path / "store").rejected
    assert (rejected.reason, rejected.frames) == ("too short", 12)


def test_a_head_on_its_side_is_rejected(command, write_talk, talks, tmp_path):
    pose = torch.tensor([[0.0, 0.0, 1.5]]).repeat(30, 1)
    write_talk(talks[0].parent / "lying.mkv", pose=pose)
    command()
    (rejected,) = store_report(tmp_path / "store").rejected
    assert rejected.reason == "extreme rotation"
    assert "roll of 1.50" in rejected.words


def _work(make, videos):
    list(prepare_all(make, videos, workers=1))


@dataclass(frozen=True, eq=False)
class Slow(Preparer):
    """Says who works, and takes its time."""

    def __call__(self, source):
        (self.root / f"pid {os.getpid()}").touch()
        time.sleep(300)
        return super().__call__(source)


def test_workers_end_with_the_process_that_started_them(make, talks):
    root = make()().root
    parent = get_context("spawn").Process(target=_work, args=(make(Slow), talks))
    parent.start()
    deadline = time.monotonic() + 300
    while not (workers := [int(p.name.split()[1]) for p in root.glob("pid *")]):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    os.kill(parent.pid, signal.SIGKILL)
    parent.join()
    while any(os.path.exists(f"/proc/{worker}") for worker in workers):
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_an_unfinished_video_is_no_success(
    talks, talk_parts, talk_options, tmp_path, monkeypatch, capsys
):
    """A script that waits for the store sees it by the exit code."""
    options = {"size_px": talk_options.size_px, "estimator": "precomputed"}
    filters = {name: getattr(talk_options.filters, name) for name in ("fewest_frames", "fewest_px")}
    options |= {f"filters.{name}": value for name, value in filters.items()}
    words = ["preprocess", str(talks[0].parent), str(tmp_path / "store"), "--parts"]
    words += [str(talk_parts), *(f"--options.{name}={value}" for name, value in options.items())]
    with monkeypatch.context() as patch:
        patch.setattr(Preparer, "encode", _blind)
        assert main(words) == 1
    assert "1 videos are not finished; run again" in capsys.readouterr().err
    assert main(words) == 0
    assert all(ledger.finished for ledger in read_ledgers(tmp_path / "store"))


def _blind(self, video, *more, encode=Preparer.encode):
    if video.stem == "b":
        raise KeyError("eyes")
    return encode(self, video, *more)
