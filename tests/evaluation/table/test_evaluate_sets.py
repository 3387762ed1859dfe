"""`loopy evaluate` of test sets and of anybody's videos, with a tiny random model."""

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial

import pytest
import torch
from safetensors.torch import save_file

from loopy.cli import main
from loopy.data.media.video import Video
from loopy.data.media.video_reader import iterate_frames
from loopy.evaluation.features.extract import cached_tensor
from loopy.evaluation.sets.draw import Draw, DrawOptions, draw_set
from loopy.evaluation.sets.generate import Maker, bound_pairs, made_pairs
from loopy.evaluation.sets.layouts import SETS
from loopy.evaluation.table.columns import COLUMNS, PEOPLE_COLUMNS, TOON_COLUMNS
from loopy.evaluation.table.results import Results
from loopy.evaluation.toon.talks import pixels
from loopy.metrics.drift import colour_slope, mean_colours, sharpness, sharpness_slope
from loopy.metrics.frechet import frechet_distance
from loopy.metrics.smoothness import linear, smoothness
from loopy.pipeline import LoopyPipeline
from tools.judges.sync_accuracy import SHOWN, late, unseen_talk

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")

FRAMES = 28
PAPER = ("IQA", "Sync-C", "Sync-D", "FVD-R", "FVD-I", "FID", "Smooth", "Glo", "Exp", "E-FID",
         "DGlo", "DExp")  # fmt: skip


def write_video(path, frames=FRAMES, *, fps=25, sound=True, loud=0.2, seed=0, size=16):
    dice = torch.Generator().manual_seed(seed)
    still = torch.randint(256, (1, size, size, 3), generator=dice)
    noise = torch.randint(-20, 20, (frames, size, size, 3), generator=dice)
    heard = loud * torch.randn(frames * 640 * 25 // fps, generator=dice)
    path.parent.mkdir(parents=True, exist_ok=True)
    pictures = (still + noise).clamp(0, 255).byte()
    Video(pictures, fps, heard.clamp(-1, 1) if sound else None).save(path)


@pytest.fixture
def data(desk):
    """A test set of two videos beside the tiny model."""
    for number in range(2):
        write_video(desk / f"data/{number}.mp4", seed=number)
    return desk


def evaluate(folder, *words, out="out", test_set="celebv-hq"):
    given = ["--data", str(folder / "data"), "--model", str(folder / "tiny"), "--out", out]
    return main(["evaluate", test_set, *given, *words])


def frames_of(path):
    return torch.stack([torch.from_numpy(frame) for frame in iterate_frames(path)])


def test_one_command_from_a_model_folder_to_the_table(data, make_pipeline, capsys):
    make_pipeline(domain="cartoons").save_pretrained(data / "tiny")  # words that decide nothing
    assert evaluate(data) == 0
    told = capsys.readouterr().out
    results = Results.read(data / "out")
    known = [column.name for column in (*COLUMNS, *PEOPLE_COLUMNS)]
    assert [column.name for column in results.columns] == known
    assert "loopy faces install" in results.missing["Sync (real)"]
    assert set(PAPER) <= {column.name for column in results.columns}
    for column in results.columns:  # a figure, or what it needs: never neither, never both
        assert (column.name in results.figures) != (column.name in results.missing)
        assert column.name in told
        assert column.about
    assert "weights-inception-2015-12-05-6726825d.pth" in results.missing["FID"]
    assert "--weights.inception" in results.missing["FID"]
    assert "--seeds 2" in results.missing["Diversity"]
    assert "DWPose" in results.missing["Diversity"]
    assert [video.name for video in results.videos] == ["0", "1"]
    for video in results.videos:
        for shown in (video.video, video.real_video, video.strip):
            assert (data / "out" / shown).is_file()
        made, real = (frames_of(data / "out" / p) for p in (video.video, video.real_video))
        for frames, values in ((made, video.values), (real, video.real)):
            assert values["Colour drift"] == pytest.approx(
                colour_slope(mean_colours(frames)), rel=1e-5
            )
            assert values["Sharpness drift"] == pytest.approx(
                sharpness_slope(sharpness(frames)), rel=1e-4
            )
            assert values["Smooth, linear"] == pytest.approx(smoothness(frames, linear), abs=1e-6)
    mean = sum(video.values["Colour drift"] for video in results.videos) / 2
    figure = results.figures["Colour drift"]
    assert (figure.value, figure.n) == (pytest.approx(mean), 2)
    assert figure.low != figure.low  # NaN: of two videos there is no interval
    assert "looks" in results.judges
    assert (data / "out/report.html").is_file()
    assert json.loads((data / "out/results.json").read_text())["test_set"] == "celebv-hq"


@pytest.mark.parametrize("taken", ["strips", "videos"])
def test_a_file_where_a_folder_has_to_be_is_one_line(data, capsys, taken):
    (data / "out").mkdir()
    (data / "out" / taken).write_text("mine")
    assert evaluate(data, "--draw.items", "1") == 2
    assert f"out/{taken}" in capsys.readouterr().err.strip().splitlines()[-1]
    assert (data / "out" / taken).read_text() == "mine"


@pytest.mark.filterwarnings("ignore:this model animates")
def test_a_model_says_itself_that_its_faces_are_toons(data, make_pipeline):
    make_pipeline(toons=True).save_pretrained(data / "tiny")
    assert evaluate(data, "--draw.items", "1") == 0
    assert "FID (toon)" in {column.name for column in Results.read(data / "out").columns}


@pytest.mark.weights
def test_toons_are_judged_between_bounds(data, capsys):
    from loopy.models.recogniser import Recogniser

    assert evaluate(data, "--toons", "--bounds", "--seeds", "2") == 0
    made, still, compressed = (
        Results.read(data / "out" / each) for each in ("", "bounds/still", "bounds/compressed")
    )
    recogniser = Recogniser.from_pretrained()
    rows = [
        torch.cat([recogniser.embed(frames_of(path)) for path in sorted(folder.glob("*.mp4"))])
        for folder in (data / "out/real", data / "out/videos")
    ]
    expected = frechet_distance(*rows).distance
    assert made.figures["FID (toon)"].value == pytest.approx(expected, rel=1e-4)
    short = {"Sync-C (toon)", "Sync-D (toon)", "Offset (toon)"}
    assert {c.name for c in TOON_COLUMNS} - made.figures.keys() == short
    assert all("28 frames are too short" in made.missing[name] for name in short)
    assert made.figures["Diversity (toon)"].value > 0
    for name in "01":
        other = (data / f"out/seeds/1/{name}.mp4").read_bytes()
        assert other != (data / f"out/videos/{name}.mp4").read_bytes()
    assert still.figures["Glo (toon)"].value < 0.01 < made.real_figures["Glo (toon)"].value
    assert compressed.figures["FID (toon)"].value < still.figures["FID (toon)"].value
    assert still.real_figures == made.real_figures
    table = capsys.readouterr().out
    assert "floor: the portrait, which does not move" in table
    assert "other sound" in table


def test_what_is_made_is_not_made_again(data):
    evaluate(data)
    stamps = {path: path.stat().st_mtime_ns for path in (data / "out").rglob("*.mp4")}
    stamps |= {path: path.stat().st_mtime_ns for path in (data / "out/features").rglob("*.*")}
    first = (data / "out/results.json").read_bytes()
    items = Draw.read(data / "out/draw.json").items
    again = data / f"out/videos/{items[1].name}.mp4"
    before = frames_of(again)
    again.unlink()
    evaluate(data)
    torch.testing.assert_close(frames_of(again).float(), before.float(), atol=4, rtol=0)
    changed = {path.name for path, stamp in stamps.items() if path.stat().st_mtime_ns != stamp}
    own = {f"{items[1].name}.mp4"}
    # Sums may round otherwise where memory lies otherwise: then it alone is looked at again.
    assert own <= changed <= own | {f"{items[1].name}.safetensors"}
    if changed == own:
        assert (data / "out/results.json").read_bytes() == first
    maker = Maker(
        LoopyPipeline.from_pretrained(data / "tiny"), data / "data", seed=1
    )  # other noise
    next(made_pairs(maker, items, data / "out"))
    path = data / f"out/videos/{items[0].name}.mp4"
    assert path.stat().st_mtime_ns != stamps[path]


def test_another_sound_is_of_another_video(desk):
    for number in range(3):
        write_video(desk / f"data/{number}.mp4", seed=number)
    pipe = LoopyPipeline.from_pretrained(desk / "tiny")
    maker = Maker(pipe, desk / "data")
    chosen = draw_set(SETS["celebv-hq"], desk / "data", seed=0, options=DrawOptions()).items
    first, second, third = chosen
    (alone,) = bound_pairs(maker, [first], desk / "out", "other sound")
    assert "needs two videos" in alone.problem
    assert not list((desk / "out").rglob("*.mp4"))
    bound = partial(maker.bound, "other sound", first, desk / "a.mp4", real=desk / "real.mp4")
    assert bound(other=second)
    assert not bound(other=second)
    assert bound(other=third)  # another sound is another video


def test_a_folder_that_cannot_be_written_ends_the_run(data, capsys):
    (data / "out/videos/0.mp4").mkdir(parents=True)
    assert evaluate(data) == 2
    assert "0.mp4 is a folder" in capsys.readouterr().err
    assert not (data / "out/results.json").exists()


@pytest.mark.slow
def test_killed_between_videos_it_goes_on(data):
    words = ["-m", "loopy", "evaluate", "celebv-hq", "--data", str(data / "data")]
    words += ["--model", str(data / "tiny"), "--out", "killed", "--steps", "20"]
    process = subprocess.Popen([sys.executable, *words], stderr=subprocess.DEVNULL)
    first = data / "killed/features/made/0.safetensors"
    for _ in range(1200):
        if first.exists():
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (data / "killed/results.json").exists()
    stamp = (data / "killed/videos/0.mp4").stat().st_mtime_ns
    assert evaluate(data, "--steps", "20", out="killed") == 0
    assert evaluate(data, "--steps", "20", out="whole") == 0
    assert (data / "killed/videos/0.mp4").stat().st_mtime_ns == stamp
    results = [(data / name / "results.json").read_bytes() for name in ("killed", "whole")]
    assert results[0] == results[1]
    assert not list((data / "killed").rglob(".*"))  # nothing half-written stays


def test_an_open_set_says_which_columns_need_real_videos(desk, write_speech):
    (desk / "data/portraits").mkdir(parents=True)
    (desk / "data/sounds").mkdir()
    (desk / "portrait.png").rename(desk / "data/portraits/p.png")
    for number in range(2):
        write_speech(desk / f"data/sounds/{number}.wav", 1.0, number)
    assert evaluate(desk, test_set="open-set") == 0
    results = Results.read(desk / "out")
    assert [video.name for video in results.videos] == ["p--0", "p--1"]
    assert not results.real_figures
    assert results.figures["Colour drift"].n == 2
    assert all(not video.real_video for video in results.videos)


def judge(folder, *words):
    return main(["evaluate", "videos", "--made", str(folder / "made"), "--out", "out", *words])


def problems(folder):
    return {v.name: v.problem for v in Results.read(folder / "out").videos if v.problem}


def test_videos_that_cannot_be_judged_are_named(desk):
    for name in ("good", "also", "mute", "longer", "slow", "alone", "broken"):
        write_video(desk / f"made/{name}.mp4", sound=name != "mute")
        write_video(desk / f"real/{name}.mp4", seed=1)
    write_video(desk / "made/longer.mp4", FRAMES + 10)
    write_video(desk / "made/slow.mp4", 24, fps=20)
    (desk / "real/alone.mp4").unlink()
    (desk / "made/broken.mp4").write_bytes(b"no video")
    assert judge(desk, "--real", str(desk / "real")) == 0
    told = problems(desk)
    assert "no sound stream" in told["mute"]
    assert "has 38 frames, the real one 28" in told["longer"]
    assert "20 frames a second" in told["slow"]
    assert "no video named alone" in told["alone"]
    assert "cannot be decoded" in told["broken"]
    assert len(told) == 5
    assert Results.read(desk / "out").figures["Colour drift"].n == 2


def test_nothing_judged_is_a_failure(desk, capsys):
    write_video(desk / "made/silent.mp4", loud=0.0)
    assert judge(desk) == 2
    assert "none of 1 videos was judged; for one, silent" in capsys.readouterr().err
    assert "is silent" in problems(desk)["silent"]
    (desk / "made/silent.mp4").unlink()
    write_video(desk / "made/good.mp4")
    (desk / "out/features/made/good.safetensors").mkdir(parents=True)
    assert judge(desk) == 2
    assert "is a folder" in capsys.readouterr().err
    (desk / "made" / os.fsdecode(b"caf\xe9.mp4")).write_bytes(b"")
    assert judge(desk) == 2
    assert r"caf\xe9.mp4' is no name in UTF-8" in capsys.readouterr().err


def test_a_frame_more_than_the_real_video_has(desk):
    write_video(desk / "made/a.mp4", FRAMES + 1)
    write_video(desk / "real/a.mp4", seed=1)
    assert judge(desk, "--real", str(desk / "real")) == 0
    (video,) = Results.read(desk / "out").videos
    assert not video.problem
    assert (desk / "out" / video.strip).is_file()
    assert {"Colour drift", "Smooth, linear"} <= video.values.keys()


@pytest.fixture
def talks(tmp_path):
    """Two seconds of a toon: with its sound, with it 6 frames late, with another's."""
    talk, other = (unseen_talk(99, number) for number in range(2))
    frames = pixels(talk.frames(range(SHOWN.start, SHOWN.start + 50)))
    sounds = {"own": late(talk, 0), "late": late(talk, 6), "other": late(other, 0)}
    (tmp_path / "made").mkdir()
    for name, sound in sounds.items():
        Video(frames, 25, sound[: 50 * 640]).save(tmp_path / f"made/{name}.mp4")
    return tmp_path


@pytest.mark.weights
def test_lips_are_in_step_with_their_own_sound(talks, monkeypatch):
    monkeypatch.chdir(talks)
    assert judge(talks, "--toons") == 0
    results = Results.read(talks / "out")
    values = {video.name: video.values for video in results.videos}
    assert values["own"]["Sync-C (toon)"] > 0.3
    assert values["own"]["Offset (toon)"] == 0
    assert values["late"]["Offset (toon)"] == 6  # of a set, so that no two cancel
    assert cached_tensor(talks / "out/features/made/late.safetensors", "toon_sync")[2] == -6
    assert values["other"]["Sync-C (toon)"] < values["own"]["Sync-C (toon)"] / 2
    assert results.figures["Sync-C (toon)"].n == 3
    # without a real video nobody knows whom it should show, and its own first frame is no answer
    assert "Identity (toon)" not in results.figures
    assert results.missing["Identity (toon)"].startswith("not available: needs --real")
    assert results.figures["Blinks (toon)"].n == 3


def test_fewer_frames_than_a_window_leave_an_explained_gap(desk):
    write_video(desk / "made/short.mp4", 10)
    assert judge(desk) == 0
    results = Results.read(desk / "out")
    assert "drift needs a second, got 10 frames" in results.missing["Colour drift"]
    assert results.figures["Smooth, linear"].n == 1
    assert results.figures["Smooth, linear"].low != results.figures["Smooth, linear"].low  # NaN


@pytest.mark.filterwarnings("always")
def test_a_figure_of_fewer_videos_warns(desk, capsys):
    write_video(desk / "made/long.mp4")
    write_video(desk / "made/short.mp4", 10)
    assert judge(desk) == 0
    assert "Colour drift: 1 of 2 videos have no figure; for one, short" in capsys.readouterr().err
    assert Results.read(desk / "out").figures["Colour drift"].n == 1


def write_network(path, width, *, broken=False):
    """A TorchScript that looks at mean colours, in place of a network of faces."""

    class Means(torch.nn.Module):
        def forward(self, pictures: torch.Tensor) -> torch.Tensor:
            colours = pictures.mean((2, 3)).repeat(1, self.times)[:, : self.width]
            return colours / 0 if self.broken else colours

        def __init__(self):
            super().__init__()
            self.times, self.width, self.broken = width // 3 + 1, width, broken

    torch.jit.script(Means()).save(path)


def write_tracks(path, frames=FRAMES, seed=0, size=16):
    dice = torch.Generator().manual_seed(seed)
    face = size / 4 + size / 2 * torch.rand(1, 68, 2, generator=dice)
    wander = torch.randn(frames, 1, 2, generator=dice).cumsum(0) * 0.05
    save_file({"points": (face + wander).contiguous()}, f"{path}.tracks.safetensors")


def with_tracks(desk):
    for name in "abc":
        for seed, folder in enumerate(("made", "real")):
            write_video(desk / folder / f"{name}.mp4", seed=ord(name) + seed)
            write_tracks(desk / folder / f"{name}.mp4", seed=ord(name) + seed)
    return ["--real", str(desk / "real"), "--landmarks", "precomputed"]


def test_known_tracks_give_the_columns_of_landmarks(desk):
    words = with_tracks(desk)
    write_network(desk / "expression.pt", 64)
    write_network(desk / "face.pt", 8)
    words += ["--weights.expression", "expression.pt", "--weights.face", "face.pt"]
    assert judge(desk, *words) == 0
    results = Results.read(desk / "out")
    for name in ("Glo", "Exp", "DGlo", "DExp", "E-FID", "Beats"):
        assert results.figures[name].n == 3
    video = results.videos[0]
    assert video.values["DGlo"] == pytest.approx(abs(video.values["Glo"] - video.real["Glo"]))
    assert "a portrait has no track" in results.missing["Identity"]
    assert "syncnet_v2.model" in results.missing["Sync-C"]


def test_features_that_are_nan_are_no_figure(desk):
    words = with_tracks(desk)
    write_network(desk / "expression.pt", 64, broken=True)
    assert judge(desk, *words, "--weights.expression", "expression.pt") == 0
    assert "NaN" in Results.read(desk / "out").missing["E-FID"]


def test_another_number_of_coefficients_is_no_e_fid(desk):
    words = with_tracks(desk)
    write_network(desk / "expression.pt", 10)
    assert judge(desk, *words, "--weights.expression", "expression.pt") == 0
    assert "64 coefficients" in Results.read(desk / "out").missing["E-FID"]


def test_one_video_has_no_spread(desk):
    words = with_tracks(desk)
    for name in "bc":
        (desk / f"made/{name}.mp4").unlink()
    write_network(desk / "expression.pt", 64)
    assert judge(desk, *words, "--weights.expression", "expression.pt") == 0
    results = Results.read(desk / "out")
    assert "1 video has no spread" in results.missing["E-FID"]
    assert results.figures["Glo"].n == 1


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["celebv-hq", "--data", "lost", "--out", "o"], "lost is no folder"),
        (["celebv-hq", "--data", "data", "--out", "o", "--seeds", "0"], "0 seeds make no video"),
        (
            ["celebv-hq", "--data", "data", "--out", "portrait.png"],
            "portrait.png cannot be written",
        ),
        (["celebv-hq", "--data", "data"], "required: out"),
        (["videos", "--made", "lost", "--out", "o"], "lost is no folder"),
        (["--compare", "here", "there"], "here holds no results.json"),
        (["videos", "--made", "data", "--out", "o", "--bounds"], "bounds"),
        (["videos", "--made", "data", "--out", "o", "--weights.pose", "speech.wav"], "both"),
    ],
)
def test_words_that_make_no_sense_are_one_line(data, capsys, words, told):
    assert main(["evaluate", *words]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1
    assert not (data / "o/results.json").exists()
