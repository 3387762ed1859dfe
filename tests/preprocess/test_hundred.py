"""A hundred toon videos of mixed rates and formats become a store; some have to be searched."""

import json
import subprocess
import sys
from collections import Counter
from fractions import Fraction
from pathlib import Path

import pytest
import torch

from loopy.cli import main
from loopy.data.media.writer import open_writer
from loopy.data.store.shot_store import ShotStore
from loopy.preprocess.report import store_report
from loopy.synthetic.talker import random_talk

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
VIDEOS, FRAMES, SIZE = 100, 30, 96
SHADE = 0.5  # under what the detector takes for a red dot


@pytest.fixture
def preprocess(talk_parts, tmp_path):
    def command(videos, name, *words):
        told = ["preprocess", str(videos), str(tmp_path / name), "--parts", str(talk_parts)]
        told += ["--options.size_px=48", "--options.filters.fewest_frames=25"]
        assert main([*told, "--options.filters.fewest_px=40", "--workers=2", *words]) == 0
        return ShotStore.open(tmp_path / name)

    return command


def test_a_hundred_with_their_true_tracks(preprocess, tmp_path):
    written = [sys.executable, ROOT / "examples/toon_videos.py", tmp_path / "videos"]
    seconds = ["--seconds", str(FRAMES / 25)]
    subprocess.run([*written, "--videos", str(VIDEOS), "--size", str(SIZE), *seconds], check=True)
    store = preprocess(tmp_path / "videos", "store", "--options.estimator=precomputed")
    found = store_report(tmp_path / "store")
    assert (len(store), found.videos, found.errors) == (VIDEOS, VIDEOS, {})
    abouts = [store.about(row) for row in range(VIDEOS)]
    assert {about["frames"] for about in abouts} <= {FRAMES - 1, FRAMES, FRAMES + 1}
    forms = Counter(Path(about["provenance"]["source"]).suffix for about in abouts)
    assert set(forms) == {".mp4", ".mkv", ".mov"}
    rates = {round(about["provenance"]["source_fps"], 2) for about in abouts}
    assert rates == {23.98, 24, 25, 29.97, 30, 50, 60}
    for about in abouts:  # the track is in the crop, and the store's sound is the talk's
        read = store.read(about["id"], dict.fromkeys(("points", "valid", "audio"), slice(None)))
        points = read["points"][read["valid"]]
        assert points.min() > 0
        assert points.max() < 48
        assert read["audio"].std() > 0


def test_some_by_dwpose(preprocess, pose_models, draw_people, tmp_path):
    """Darkened toons with the three dots that the test models find; a dot on the nose moves."""
    (tmp_path / "videos").mkdir()
    noses = {}
    for seed, rate in enumerate((25, 30, Fraction(24_000, 1001))):
        talk = random_talk(seed, seconds=FRAMES / 25)
        shown = (talk.frames(range(FRAMES), size_px=240) + 1) * 127.5 * SHADE
        frames = shown.permute(0, 2, 3, 1)
        frames = torch.nn.functional.pad(frames, (0, 0, 40, 40)).round().to(torch.uint8)
        nose = (talk.motion.points[:FRAMES, 30] * (240 / talk.motion.size_px)).mean(0).round()
        place = int(nose[0]) + 40, int(nose[1])
        dots = draw_people(place, size=(320, 240))
        path = tmp_path / "videos" / f"{seed}.mp4"
        with open_writer(path, fps=rate, sound=talk.audio) as writer:
            writer.write(frames.maximum(dots))
        noses[str(path)] = place
    models = json.dumps({name: str(path) for name, path in pose_models.items()})
    words = ["--options.estimator=dwpose", f"--options.estimator_options={models}"]
    store = preprocess(tmp_path / "videos", "store", *words)
    assert len(store) == len(noses)
    for row in range(len(store)):
        about = store.about(row)["provenance"]
        read = store.read(row, {"points": slice(None), "valid": slice(None)})
        left, top, right, _ = about["crop_px"]
        assert read["valid"].all()
        red = read["points"][:, 1::3]  # of all 133 points 23 is the first of the face
        place = red.median(1).values * (right - left) / 48 + torch.tensor([left, top])
        assert (place - torch.tensor(noses[about["source"]])).abs().max() < 3
