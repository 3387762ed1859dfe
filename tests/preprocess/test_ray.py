"""Ray makes the same store as one process, and a process that dies loses no other video."""

import os
import sys
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path

import pytest

from loopy.commands.preprocess import _description, _networks, _preparer, preprocess
from loopy.data.store.description import create_store
from loopy.errors import ConfigurationError, DependencyError, ModelError
from loopy.preprocess.engines import RayOptions, prepare_all
from loopy.preprocess.prepare import Preparer
from loopy.preprocess.report import store_report

ray = pytest.importorskip("ray")

TALKS = ("good", "unforeseen", "deadly")


@pytest.fixture(scope="module")
def films(write_talk, tmp_path_factory):
    """Talks; one without sound; no video."""
    folder = tmp_path_factory.mktemp("films")
    for name in TALKS:
        write_talk(folder / f"{name}.mkv", pictures=30)
    write_talk(folder / "silent.mkv", silent_from_s=0)
    (folder / "text.mp4").write_text("no video")
    return folder


@pytest.fixture(scope="module")
def one(films, talk_parts, talk_options, tmp_path_factory):
    """The store that one process makes."""
    store = tmp_path_factory.mktemp("one") / "store"
    preprocess(str(films), store, parts=talk_parts, options=talk_options)
    return store


@pytest.fixture(scope="module")
def by_ray(films, talk_parts, talk_options, tmp_path_factory):
    """The store that Ray makes, started and shut down by the command; its path is relative."""
    folder = tmp_path_factory.mktemp("ray")
    form = {"parts": talk_parts, "options": talk_options, "engine": "ray", "workers": 1}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        # processes of Ray yield to all others by default: with a busy neighbour they would starve
        patch.setenv("RAY_worker_niceness", "0")
        preprocess(str(films), Path("store"), **form)
    assert not ray.is_initialized()
    return folder / "store"


@pytest.fixture(scope="module")
def running(by_ray):
    """A Ray that is there already; the GPU is no more than a number to it."""
    ray.init(address="local", num_cpus=1, num_gpus=1, include_dashboard=False, log_to_driver=False)
    yield
    assert ray.is_initialized()  # whoever finds one leaves it
    ray.shutdown()


@pytest.fixture
def make(talk_parts, talk_options, tmp_path):
    """Builds preparers of one store, of any class."""
    first = _preparer(tmp_path / "store", talk_options, talk_parts, "cpu")
    create_store(first.root, _description(first, talk_options))

    def maker(kind=Preparer, **more):
        load = partial(_networks, talk_parts, "cpu")
        made = {"root": first.root, "options": first.options, "config": first.config, "load": load}
        return partial(kind, **(made | more))

    return maker


@dataclass(frozen=True, eq=False)
class Fragile(Preparer):
    """A process dies over one video each time; others meet errors, of the video and of the run."""

    def encode(self, video, shot, watch):
        if video.stem == "deadly":
            os._exit(1)
        if video.stem == "worse":
            raise ModelError("no video would escape this")
        return super().encode(video, shot, watch) if video.stem == "good" else {}["eyes"]


def content(store):
    return {path.name: path.read_bytes() for path in store.glob("clips/*/*")}


def told(store):
    """What a report says, but for the time it took."""
    found = store_report(store)
    return found.errors, found.hours, [(shot.shot, shot.words) for shot in found.rejected]


def test_the_store_is_that_of_one_process(one, by_ray):
    assert len(content(one)) == len(TALKS)
    assert content(by_ray) == content(one)
    assert told(by_ray) == told(one)
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"  # no telemetry


def test_a_process_that_dies_loses_no_other_video(running, one, films, make, write_talk, tmp_path):
    """On a GPU of its own; the next run makes what is missing. What all would meet ends the run."""
    write_talk(tmp_path / "worse.mkv", pictures=30)
    videos = [films / f"{name}.mkv" for name in reversed(TALKS)]
    options = RayOptions(encoder_gpus=0.5, encoders=1)
    work = prepare_all(make(Fragile), [*videos, tmp_path / "worse.mkv"], ray=options)
    ledgers = {Path(each.source).stem: each for each in islice(work, len(videos))}
    with pytest.raises(ModelError, match="no video would escape"):
        next(work)
    assert ledgers["good"].finished
    assert "deadly.mkv is not finished: processes died" in ledgers["deadly"].error
    assert "not finished: KeyError in test_ray.py" in ledgers["unforeseen"].error
    assert len(content(make()().root)) == 1
    list(prepare_all(make(), videos))
    assert content(make()().root) == content(one)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        (RayOptions(encoders=8), "take 8 CPUs, and Ray has 1"),
        (RayOptions(encoders=3, encoder_gpus=0.5), "take 1.5 GPUs, and Ray has 1"),
        (RayOptions(encoder_gpus=2), "take 2 GPUs"),
    ],
)
def test_what_ray_does_not_have_is_no_reason_to_wait(running, films, make, options, match):
    with pytest.raises(ConfigurationError, match=match):
        next(prepare_all(make(), [films / "good.mkv"], ray=options))


def test_other_machines_need_full_paths(films, make):
    there = RayOptions(address="10.0.0.1:6379")
    with pytest.raises(ConfigurationError, match=r"good\.mkv: other machines need its full path"):
        next(prepare_all(make(), [Path("good.mkv")], ray=there))
    with pytest.raises(ConfigurationError, match="store: other machines"):
        next(prepare_all(make(root=Path("store")), [films / "good.mkv"], ray=there))
    with pytest.raises(ConfigurationError, match="not with an address"):
        next(prepare_all(make(), [films / "good.mkv"], workers=2, ray=there))


@pytest.mark.parametrize("wrong", [{"encoders": -1}, {"encoder_gpus": -0.5}])
def test_options_that_mean_nothing_are_refused(wrong):
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        replace(RayOptions(), **wrong)


@pytest.mark.parametrize("device", ["cuda:1", "mps"])
def test_ray_assigns_the_gpus(films, talk_parts, tmp_path, device):
    form = {"parts": talk_parts, "engine": "ray", "device": device}
    with pytest.raises(ConfigurationError, match="assigns the GPUs"):
        preprocess(str(films), tmp_path / "store", **form)


def test_without_ray_the_cure_is_told(films, make, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(DependencyError, match=r"pip install 'loopy-portrait\[ray\]'"):
        next(prepare_all(make(), [films / "good.mkv"], ray=RayOptions()))
