"""`loopy preprocess` with DWPose: the real libraries, from the recipe to points in the store."""

import json
import socket
from fractions import Fraction
from pathlib import Path

import pytest
import torch

from loopy.cli import main
from loopy.data.store.shot_store import ShotStore
from loopy.preprocess.ledger import read_ledgers

CONFIG = Path(__file__).parents[3] / "configs/preprocess/dwpose.yaml"
FRAMES = 30


@pytest.fixture
def run(talk_parts, pose_models, tmp_path, monkeypatch):
    """`loopy preprocess` by the recipe for people, with the tiny models: its exit code."""
    looked_up = []
    monkeypatch.setattr(socket, "getaddrinfo", lambda *where, **_: looked_up.append(where))

    def command(videos, *words, **models):
        paths = {name: str(path) for name, path in (pose_models | models).items()}
        told = ["preprocess", str(videos), str(tmp_path / "store"), "--parts", str(talk_parts)]
        told += ["--config", str(CONFIG), f"--options.estimator_options={json.dumps(paths)}"]
        told += ["--options.size_px=48", "--options.filters.fewest_frames=25"]
        code = main([*told, "--options.filters.fewest_px=40", *words])
        assert not looked_up
        return code

    return command


@pytest.fixture
def film_people(write_film, film_sound, draw_people, tmp_path):
    """A film of 320 x 240 with sound; a function of the frame says who is where."""

    def film(name, people):
        def paint(time, width, height):
            return draw_people(*people(round(time * 25)), size=(width, height)).numpy()

        times = [Fraction(index, 25) for index in range(FRAMES)]
        path = tmp_path / "films" / f"{name}.mp4"
        path.parent.mkdir(exist_ok=True)
        return write_film(path, times, size=(320, 240), sound=film_sound(), paint=paint)

    return film


def nod(frame):
    """Right of the middle, where the tiny detector has its large box; 8 px every fourth frame."""
    return 200 + frame // 4 % 2 * 8, 120


def test_points_are_where_the_person_was(run, film_people, true_points, tmp_path):
    path = film_people("nod", lambda frame: [nod(frame)])
    assert run(path.parent) == 0
    store = ShotStore.open(tmp_path / "store")
    about = store.about(0)
    read = store.read(0, dict.fromkeys(("points", "valid", "latents"), slice(None)))
    assert about["frames"] == len(read["latents"]) == FRAMES
    left, top, right, bottom = about["provenance"]["crop_px"]
    assert right - left == bottom - top
    expected = torch.stack([true_points(*nod(frame)) for frame in range(FRAMES)])
    expected = (expected - torch.tensor([left, top])) * 48 / (right - left)
    assert read["valid"].all()
    two_px = 2 * 48 / (right - left)  # as for one picture, in test_dwpose.py; a frame late are 8
    assert (read["points"] - expected).abs().max() <= two_px
    faces = expected.amin((0, 1)), expected.amax((0, 1))
    assert (faces[0] > 0).all()
    assert (faces[1] < 48).all()


def test_who_goes_and_who_comes(run, film_people, tmp_path, capsys):
    """Each film has its own reason; that there is none to keep is said at the end."""
    film_people("gone", lambda frame: [nod(frame)] if frame < 15 else [])
    film_people("two", lambda frame: [(230, 120), (80, 120)] if frame < 20 else [(230, 120)])
    film_people("nobody", lambda frame: [])
    assert run(tmp_path / "films") == 2
    answer = capsys.readouterr()
    assert "not one shot came of 3 videos" in answer.err
    outcomes = {Path(led.source).stem: led.shots[0] for led in read_ledgers(tmp_path / "store")}
    told = {name: (clip.reason, clip.words) for name, clip in outcomes.items()}
    assert told == {
        "gone": ("face lost", "in 50.0% of the frames, most 20.0%"),
        "two": ("several people", "in 66.7% of the frames, most 5.0%"),
        "nobody": ("face lost", "in 100.0% of the frames, most 20.0%"),
    }
    assert "rejected: 2 x face lost" in answer.out
    assert "rejected: 1 x several people" in answer.out


@pytest.mark.parametrize("which", ["detector", "pose"])
def test_a_model_that_is_not_there_is_said_at_once(run, film_people, which, tmp_path, capsys):
    """And leaves no store behind that would know the wrong path by heart."""
    path = film_people("nod", lambda frame: [nod(frame)])
    assert run(path.parent, **{which: tmp_path / "gone.onnx"}) == 2
    said = capsys.readouterr().err
    assert f"loopy: error: {which} model {tmp_path}/gone.onnx is no .onnx file" in said
    assert "nothing is downloaded" in said
    assert "videos" not in said  # not one has been opened
    assert not (tmp_path / "store").exists()
