"""Ray Data makes the same store as one process, and a fault that nobody foresaw ends no run."""

import os
import sys
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pytest
import torch

from loopy.commands.preprocess import _description, _networks, _preparer, preprocess
from loopy.data.store.description import create_store
from loopy.errors import ConfigurationError, DependencyError, LoopyError, ModelError
from loopy.preprocess.engines import prepare_all
from loopy.preprocess.prepare import Preparer
from loopy.preprocess.ray_cluster import RayOptions
from loopy.preprocess.ray_engine import prepare_with_ray
from loopy.preprocess.report import report

ray = pytest.importorskip("ray")

TALKS = ("long", "short", "unread", "unseen", "unkept")
STUMBLES = {"unread": "ZeroDivisionError", "unseen": "KeyError", "unkept": "IndexError"}
"""Of three talks, what `Clumsy` says."""


@pytest.fixture(scope="module")
def films(write_talk, tmp_path_factory):
    """Talks, one of two pieces; no sound; no video."""
    folder = tmp_path_factory.mktemp("films")
    for name in TALKS:
        write_talk(folder / f"{name}.mkv", pictures=80 if name == "long" else 30)
    write_talk(folder / "silent.mkv", silent_from_s=0)
    (folder / "text.mp4").write_text("no video")
    return folder


@pytest.fixture(scope="module")
def one(films, talk_parts, talk_options, tmp_path_factory):
    """The store that one process makes, with one thread."""
    threads, store = torch.get_num_threads(), tmp_path_factory.mktemp("one") / "store"
    torch.set_num_threads(1)
    preprocess(str(films), store, parts=talk_parts, options=talk_options)
    torch.set_num_threads(threads)
    return store


@pytest.fixture(scope="module")
def awake():
    """Ray's processes yield to all others by default: beside a busy neighbour they would starve."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_worker_niceness", "0")
        yield


@pytest.fixture(scope="module")
def by_ray(awake, films, talk_parts, talk_options, tmp_path_factory):
    """The store that Ray makes, started and shut down by the command; its path is relative."""
    folder = tmp_path_factory.mktemp("ray")
    form = {"parts": talk_parts, "options": talk_options, "engine": "ray", "workers": 2}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        preprocess(str(films), Path("store"), **form)
    assert not ray.is_initialized()
    return folder / "store"


@pytest.fixture(scope="module")
def running(by_ray):
    """A Ray that is there already; the GPU is no more than a number to it."""
    ray.init(address="local", num_cpus=2, num_gpus=1, include_dashboard=False, log_to_driver=False)
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
class Clumsy(Preparer):
    """Stumbles over some videos, in each step over another one."""

    def pieces(self, source):
        1 / (source.stem != "unread")
        yield from super().pieces(source)

    def encode(self, piece):
        if Path(piece.source).stem == "unseen" and piece.kind == "pictures":
            raise KeyError("eyes")
        super().encode(piece)

    def finish(self, source):
        if source.stem == "unkept":
            raise IndexError("no shelf")
        return super().finish(source)


@dataclass(frozen=True, eq=False)
class Fragile(Preparer):
    """A process that looks at one video dies each time, one that encodes another the first time."""

    def pieces(self, source):
        if source.stem == "unread":
            os._exit(1)
        return super().pieces(source)

    def encode(self, piece):
        if Path(piece.source).stem == "unseen" and not (self.root / "died").exists():
            (self.root / "died").touch()
            os._exit(1)
        super().encode(piece)


def content(store):
    return {path.name: path.read_bytes() for path in store.glob("clips/*/*")}


def times(store):
    return {path: path.stat().st_mtime_ns for path in store.glob("clips/*/*")}


def told(store):
    """What a report says, but for the time it took."""
    found = report(store)
    rejected = [(clip.clip, clip.reason, clip.words) for clip in found.rejected]
    return found.errors, found.hours, rejected


def test_the_store_is_that_of_one_process(one, by_ray):
    assert len(content(one)) == len(TALKS)
    assert content(by_ray) == content(one)
    assert told(by_ray) == told(one)
    assert not list((by_ray / "work").iterdir())
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"  # no telemetry


def test_what_is_finished_is_not_done_again(running, by_ray, one, films, talk_parts, talk_options):
    """Nor is a clip that has vanished forgotten."""
    before = times(by_ray)
    lost = next(iter(before))
    lost.unlink()
    form = {"parts": talk_parts, "options": talk_options, "engine": "ray"}
    preprocess(str(films), by_ray, **form)
    after = times(by_ray)
    assert [path for path in after if after[path] != before[path]] == [lost]
    assert content(by_ray) == content(one)
    assert told(by_ray) == told(one)


def test_what_nobody_foresaw_is_told_and_the_rest_is_done(running, one, films, make):
    videos = [films / f"{name}.mkv" for name in TALKS]
    found = prepare_with_ray(make(Clumsy), videos, max_errors=3)
    ledgers = {Path(ledger.source).stem: ledger for ledger in found}
    assert set(ledgers) == set(TALKS)
    assert {name for name, ledger in ledgers.items() if ledger.error} == set(STUMBLES)
    for name, fault in STUMBLES.items():
        assert fault in ledgers[name].error
        assert f"{name}.mkv is not finished" in ledgers[name].error
    store = make()().root
    assert len(content(store)) == 2
    assert len(report(store).errors) == 3
    done = times(store)
    assert not any(ledger.error for ledger in prepare_all(make(), videos))
    assert content(store) == content(one)
    assert {path: stamp for path, stamp in times(store).items() if path in done} == done


def test_more_faults_than_are_allowed_end_the_run(running, films, make):
    videos = [films / f"{name}.mkv" for name in STUMBLES]
    with pytest.raises(LoopyError, match=r"more than 2 videos failed.*Error in test_ray\.py:\d+"):
        list(prepare_with_ray(make(Clumsy), videos, max_errors=2))


def test_what_no_video_would_escape_ends_the_run(running, films, make, tmp_path):
    lost = partial(_networks, tmp_path / "nowhere", "cpu")
    with pytest.raises(ModelError, match="nowhere"):
        list(prepare_with_ray(make(load=lost), [films / "short.mkv", films / "long.mkv"]))


@pytest.mark.slow
def test_encoder_and_decoder_share_a_gpu(running, one, films, make):
    shared = RayOptions(encoder_gpus=0.5, decoder_gpus=0.5)
    list(prepare_with_ray(make(), [films / "long.mkv"], options=shared))
    (clip,) = content(make()().root)
    assert content(make()().root)[clip] == content(one)[clip]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The minimum number of concurrent actors")
def test_a_process_that_dies_loses_no_other_video(running, one, films, make):
    videos = [films / f"{name}.mkv" for name in TALKS]
    ledgers = list(prepare_with_ray(make(Fragile), videos))
    assert len(ledgers) == len(TALKS)
    (lost,) = [ledger for ledger in ledgers if ledger.error]
    assert "unread.mkv is not finished: processes died" in lost.error
    list(prepare_all(make(), videos))
    assert content(make()().root) == content(one)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The minimum number of concurrent actors")
def test_processes_that_die_end_the_run_where_none_may(running, films, make):
    with pytest.raises(LoopyError, match=r"more than 0 videos failed.*a process died"):
        list(prepare_with_ray(make(Fragile), [films / "unread.mkv"], max_errors=0))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        (RayOptions(encoders=8), "take 9 CPUs, and Ray has 2"),
        (RayOptions(encoders=2, encoder_gpus=1), "take 2 GPUs, and Ray has 1"),
        (RayOptions(encoder_gpus=1, decoder_gpus=0.5), "take 1.5 GPUs"),
    ],
)
def test_what_ray_does_not_have_is_no_reason_to_wait(running, films, make, options, match):
    with pytest.raises(ConfigurationError, match=match):
        next(prepare_with_ray(make(), [films / "short.mkv"], options=options))


def test_other_machines_need_full_paths(films, make):
    there = RayOptions(address="10.0.0.1:6379")
    with pytest.raises(ConfigurationError, match=r"short\.mkv: other machines need its full path"):
        next(prepare_with_ray(make(), [Path("short.mkv")], options=there))
    with pytest.raises(ConfigurationError, match="store: other machines"):
        next(prepare_with_ray(make(root=Path("store")), [films / "short.mkv"], options=there))
    with pytest.raises(ConfigurationError, match="not with an address"):
        next(prepare_with_ray(make(), [films / "short.mkv"], workers=2, options=there))


@pytest.mark.parametrize("wrong", [{"encoders": 0}, {"encoder_gpus": -0.5}])
def test_options_that_mean_nothing_are_refused(wrong):
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        replace(RayOptions(), **wrong)


@pytest.mark.parametrize("device", ["cuda:1", "mps"])
def test_ray_deals_the_gpus_out(films, talk_parts, tmp_path, device):
    form = {"parts": talk_parts, "engine": "ray", "device": device}
    with pytest.raises(ConfigurationError, match="deals the GPUs out"):
        preprocess(str(films), tmp_path / "store", **form)


def test_without_ray_the_cure_is_told(films, make, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(DependencyError, match=r"pip install 'loopy-portrait\[ray\]'"):
        next(prepare_with_ray(make(), [films / "short.mkv"]))
