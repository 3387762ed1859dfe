"""`loopy preprocess` killed by SIGKILL at random moments, with and without workers.

A kill costs at most the shot in work of each process; nothing is lost, nothing is there twice.
"""

import os
import random
import signal
import subprocess
import sys
import time

import pytest

from loopy.preprocess.ledger import read_ledgers

pytestmark = pytest.mark.slow
KILLS, TALKS, FRAMES, CUT = 6, 8, 120, 60  # two shots each


@pytest.fixture
def words(write_talk, talk_parts, talk_options, tmp_path):
    """The command, as it is typed: (store, workers)."""
    (tmp_path / "talks").mkdir()
    for number in range(TALKS):
        write_talk(tmp_path / "talks" / f"{number:02}.mkv", pictures=FRAMES, cut=CUT)
    options = {"size_px": talk_options.size_px, "estimator": "precomputed"}
    filters = {name: getattr(talk_options.filters, name) for name in ("fewest_frames", "fewest_px")}
    options |= {f"filters.{name}": value for name, value in filters.items()}
    told = [f"--options.{name}={value}" for name, value in options.items()]

    def typed(store, workers):
        command = [sys.executable, "-m", "loopy", "preprocess", tmp_path / "talks", store]
        return [*command, "--parts", talk_parts, *told, "--workers", str(workers)]

    return typed


def shots(store):
    return {path.name: path for path in store.glob("clips/*/[!.]*.safetensors")}


def written(store):
    """All that is there, drafts too, but for what is written before the work begins."""
    return {path for path in store.glob("*/**/*") if path.is_file()}


def told(store):
    """What the ledgers say, but for the time it took."""
    return [(led.source, led.stamp, led.error, led.shots) for led in read_ledgers(store)]


def test_nothing_finished_is_lost_and_the_end_is_the_same(words, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    store, whole = tmp_path / "killed", tmp_path / "whole"
    draw, finished, struck = random.Random(0), {}, 0
    for kill in range(KILLS):
        before = written(store)
        child = subprocess.Popen(words(store, kill % 2 * 2), start_new_session=True)
        while not written(store) - before and child.poll() is None:
            time.sleep(0.01)
        time.sleep(draw.uniform(0, 0.6))
        alive = child.poll() is None
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        now = {name: path.stat().st_mtime_ns for name, path in shots(store).items()}
        assert finished.items() <= now.items()
        finished = now
        struck += alive and len(now) < 2 * TALKS
        if not alive:
            break
    assert struck >= KILLS // 2  # the work was under way
    for root in (store, whole):
        subprocess.run(words(root, 0), check=True)
    assert {n: p.read_bytes() for n, p in shots(store).items()} == {
        name: path.read_bytes() for name, path in shots(whole).items()
    }
    assert {name: shots(store)[name].stat().st_mtime_ns for name in finished} == finished
    assert told(store) == told(whole)
    assert {p.name: p.read_bytes() for p in store.glob("index/*/*.npy")} == {
        path.name: path.read_bytes() for path in whole.glob("index/*/*.npy")
    }
    assert len(shots(store)) == 2 * TALKS
    assert all(ledger.finished for ledger in read_ledgers(store))


@pytest.mark.parametrize(("workers", "number"), [(0, signal.SIGTERM), (2, signal.SIGINT)])
def test_asked_to_stop_it_ends_in_one_line(words, tmp_path, workers, number):
    store = tmp_path / "store"
    with subprocess.Popen(words(store, workers), stderr=subprocess.PIPE, text=True) as child:
        while not written(store) and child.poll() is None:
            time.sleep(0.01)
        child.send_signal(number)
        _, said = child.communicate(timeout=120)
    assert child.returncode == 128 + number, said
    assert said.splitlines()[-1] == f"loopy: stopped by {number.name}"
    assert "Traceback" not in said
    assert not [path for path in written(store) if path.name.startswith(".loopy-")]
