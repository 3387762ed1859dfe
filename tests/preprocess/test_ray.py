"""Ray Data makes the same store as one process, and a video that nobody foresaw ends no run."""

import pytest
import torch

from loopy.commands.preprocess import preprocess
from loopy.preprocess.report import report

ray = pytest.importorskip("ray")


@pytest.fixture(scope="module")
def films(write_talk, tmp_path_factory):
    """Two talks, one of two pieces; no sound; no video."""
    folder = tmp_path_factory.mktemp("films")
    write_talk(folder / "long.mkv", pictures=80)
    write_talk(folder / "short.mkv")
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


def content(store):
    return {path.name: path.read_bytes() for path in store.glob("clips/*/*")}


def told(store):
    """What a report says, but for the time it took."""
    found = report(store)
    return found.errors, found.hours, [(c.reason, c.words, c.clip) for c in found.rejected]


def test_the_store_is_that_of_one_process(
    one, films, talk_parts, talk_options, tmp_path, capfd, monkeypatch
):
    """By a Ray that is started and shut down; seen from where relative paths hold."""
    monkeypatch.chdir(tmp_path)
    form = {"parts": talk_parts, "options": talk_options, "engine": "ray", "workers": 2}
    preprocess(str(films), tmp_path / "store", **form)
    assert not ray.is_initialized()
    assert len(content(one)) == 2
    assert content(tmp_path / "store") == content(one)
    assert told(tmp_path / "store") == told(one)
    assert not list((tmp_path / "store" / "work").iterdir())
