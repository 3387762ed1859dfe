"""What becomes no clip, through the whole of `loopy preprocess`: each with its reason, in words."""

import os
import tempfile
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from loopy.cli import main
from loopy.commands.preprocess import preprocess
from loopy.data.store.shot_store import ShotStore
from loopy.errors import MediaError
from loopy.preprocess.ledger import read_ledgers

FRAMES = 30


def found_but(*lost):
    """Which points are valid: all, but for more than half of them in some frames."""
    valid = torch.ones(FRAMES, 68, dtype=torch.bool)
    for frame in lost:
        valid[frame, :35] = False
    return valid


def turned(rad):
    return torch.tensor([[rad, 0.0, 0.0]]).expand(FRAMES, 3).contiguous()


# name of a talk -> how it is written, and what shall be said of it; without reason it is a clip
TALKS = {
    "good": ({}, "", ""),
    "short": (
        {"pictures": 24},
        "too short",
        "24 frames at 25 a second, fewest 25",
    ),
    "mute": ({"silent_from_s": 0}, "no sound", "none in this span"),
    "nobody": (
        {"valid": found_but(*range(FRAMES))},
        "face lost",
        "in 100.0% of the frames, most 20.0%",
    ),
    "lost": ({"valid": found_but(*range(20, 27))}, "face lost", "in 23.3% of the frames"),
    "barely": ({"valid": found_but(*range(20, 26))}, "", ""),  # 20 %, and no more
    "goes": (
        {"at": lambda frame: (139 + frame // 28, 40)},  # 20 wide, of 160
        "face leaves the picture",
        "in 6.7% of the frames, most 5.0%",
    ),
    "far": ({"face_px": 16}, "low resolution", "the crop has 39 px a side, fewest 40"),
    "away": ({"pose": turned(-0.9)}, "extreme rotation", "yaw of 0.90 rad, most 0.79"),
    "shaking": (
        {"at": lambda frame: (60 + 30 * (frame % 2), 40)},
        "excessive motion",
        "px^2, most 1600",
    ),
    "cut off": ({"silent_from_s": 0.8}, "too short", "20 frames at 25 a second, fewest 25"),
    "late": ({"silent_from_s": 0.96, "late_s": 0.4}, "too short", "24 frames at 25 a second"),
}


@pytest.fixture(scope="module")
def judged(write_talk, talk_parts, talk_options, tmp_path_factory):
    """A store of one folder of talks."""
    folder = tmp_path_factory.mktemp("talks")
    for name, (form, _, _) in TALKS.items():
        write_talk(folder / f"{name}.mkv", **{"pictures": FRAMES} | form)
    preprocess(str(folder), folder / "store", parts=talk_parts, options=talk_options)
    return folder / "store"


def outcomes(store):
    return {Path(ledger.source).stem: ledger.shots for ledger in read_ledgers(store)}


@pytest.mark.parametrize("name", TALKS)
def test_each_has_its_reason(judged, name):
    (clip,) = outcomes(judged)[name]
    _, reason, words = TALKS[name]
    assert clip.reason == reason
    assert words in clip.words
    assert clip.status == ("rejected" if reason else "kept")


def test_clips_are_those_without_a_reason(judged):
    store = ShotStore.open(judged)
    sources = {Path(store.about(row)["provenance"]["source"]).stem for row in range(len(store))}
    assert sources == {name for name, (_, reason, _) in TALKS.items() if not reason}


def test_the_report_counts_them(judged, capsys):
    assert main(["data", "report", str(judged)]) == 0
    told = capsys.readouterr().out
    assert told.startswith(f"{len(TALKS)} videos, 2 shots, ")
    reasons = [reason for _, reason, _ in TALKS.values() if reason]
    for reason in set(reasons):
        assert f"rejected: {reasons.count(reason)} x {reason} (one: " in told
    assert "(one: the crop has 39 px a side, fewest 40)" in told


def test_each_shot_has_its_own_reason(write_talk, talk_parts, talk_options, tmp_path):
    """The sound ends in the first shot, so that the second has none."""
    path = tmp_path / "talk.mkv"
    write_talk(path, pictures=60, cut=30, silent_from_s=1.08)
    preprocess(str(path), tmp_path / "store", parts=talk_parts, options=talk_options)
    first, second = outcomes(tmp_path / "store")["talk"]
    assert (first.status, first.frames, first.stop_s) == ("kept", 27, 1.08)
    assert (second.reason, second.start_s, second.stop_s) == ("no sound", 1.2, 2.4)


@pytest.fixture(scope="module")
def bad_folder(write_talk, tmp_path_factory):
    """One good talk among all that is found in a folder."""
    folder = tmp_path_factory.mktemp("bad")
    write_talk(folder / "good.mkv")
    write_talk(folder / "mute.mkv", silent_from_s=0)
    for whole in ("half.mov", "half.mkv"):
        path = write_talk(folder / whole, pictures=90).path
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    write_talk(folder / "untracked.mkv", tracked=False)
    write_hlg(folder / "phone.mov")
    (folder / "empty.mp4").touch()
    (folder / "words.mp4").write_text("these are my favourite videos\n" * 99)
    (folder / "noise.mp4").write_bytes(torch.randint(256, (9_000,)).byte().numpy().tobytes())
    (folder / "gone.mp4").symlink_to(folder / "nowhere.mp4")
    (folder / "folder.mp4").mkdir()
    (folder / "folder.mp4" / "picture.png").touch()
    return folder


def write_hlg(path):
    """As a phone films it."""
    tags = "transfer=arib-std-b67:colorprim=bt2020:colormatrix=bt2020nc"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"x264-params": tags})
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p10le"
        for index in range(FRAMES):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 128, np.uint8), "rgb24")
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


REASONS = {
    "phone.mov": "is HDR (HLG); convert it to SDR with ffmpeg's zscale and tonemap first",
    "half.mov": "cannot be decoded",
    "half.mkv": "is cut off: of 3.",
    "untracked.mkv": "has no tracks next to it",
    "empty.mp4": "is empty (0 bytes)",
    "words.mp4": "cannot be decoded",
    "noise.mp4": "cannot be decoded",
    "gone.mp4": "does not exist",
}


@pytest.fixture(scope="module")
def words(talk_parts, talk_options):
    """The command, as it is typed: (videos, store)."""
    chosen = {
        "size_px": talk_options.size_px,
        "estimator": "precomputed",
        "filters.fewest_frames": talk_options.filters.fewest_frames,
        "filters.fewest_px": talk_options.filters.fewest_px,
    }
    options = [f"--options.{name}={value}" for name, value in chosen.items()]

    def typed(videos, store):
        return ["preprocess", str(videos), str(store), "--parts", str(talk_parts), *options]

    return typed


def test_a_run_goes_on_past_what_is_broken(bad_folder, words, tmp_path, capfd):
    assert main(words(bad_folder, tmp_path / "store")) == 0
    out, err = capfd.readouterr()
    assert "Traceback" not in err
    summary, *lines = out.splitlines()
    assert summary.startswith(f"{len(REASONS) + 2} videos, 1 shots, ")
    assert "  rejected: 1 x no sound (one: none in this span)" in lines
    told = [line for line in lines if line.startswith("  unusable: ")]
    assert len(told) == len(REASONS)
    for name, reason in REASONS.items():
        (line,) = (line for line in told if f"/{name}: " in line)
        assert reason in line
        assert f"/{name}" in err  # said as it happens, too
    assert len(ShotStore.open(tmp_path / "store")) == 1


def test_a_folder_without_videos_is_said_at_once(words, tmp_path, capsys):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.png").touch()
    told = words(folder, tmp_path / "store")
    told[told.index("--parts") + 1] = str(tmp_path / "nowhere")  # networks are not looked at yet
    assert main(told) == 2
    said = capsys.readouterr().err
    start = f"loopy: error: No videos found under {folder}: looked for .mp4 "
    assert said.startswith(start)
    assert said.endswith("saw 3 .png\n")
    assert not (tmp_path / "store").exists()


def test_a_folder_that_may_not_be_read_is_said_at_once(talk_options, write_talk):
    """Rather than that half of a data set goes missing."""
    with tempfile.TemporaryDirectory() as name:
        write_talk(Path(name) / "open.mkv")
        (Path(name) / "closed").mkdir(mode=0)
        Path(name).chmod(0o755)
        user, store = os.geteuid(), Path(name) / "store"
        try:
            if user == 0:  # root may read everything
                os.seteuid(65534)
            with pytest.raises(MediaError, match="closed cannot be read: Permission denied"):
                preprocess(name, store, parts=Path("nowhere"), options=talk_options)
        finally:
            os.seteuid(user)
        assert not store.exists()


def test_lines_can_be_moved(judged, write_talk, talk_parts, talk_options, tmp_path):
    """What was rejected is a clip to wider filters, in another store."""
    wide = replace(talk_options.filters, face_lost=0.25)
    options = replace(talk_options, filters=wide)
    source = str(judged.parent / "lost.mkv")
    preprocess(source, tmp_path / "store", parts=talk_parts, options=options)
    store = ShotStore.open(tmp_path / "store")
    valid = store.read(0, {"valid": slice(None)})["valid"]
    assert valid.sum(1).tolist() == [68] * 20 + [33] * 7 + [68] * 3
