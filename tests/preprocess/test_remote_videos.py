import shutil
import sys
from fractions import Fraction
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import torch

from loopy.errors import DependencyError, MediaError, OutputError
from loopy.preprocess.landmarks.precomputed import Tracks, load_tracks, save_tracks
from loopy.preprocess.remote_videos import (
    facts_of,
    list_files,
    local_copy,
    remote_seconds,
    tracks_of,
)
from loopy.preprocess.sources import find_videos, probe, seconds_of


@pytest.fixture
def bucket(tmp_path, write_film):
    """A folder that stands for a bucket, with one video in it and other things."""
    folder = tmp_path / "bucket"
    (folder / "talks #1" / "100%25").mkdir(parents=True)
    (folder / ".hidden").mkdir()
    for name in ("talks #1/notes.txt", "talks #1/b?.MOV", "talks #1/100%25/c.mkv", ".hidden/d.mp4"):
        (folder / name).write_text("x")
    write_film(folder / "talks #1" / "a b.mp4", [Fraction(index, 25) for index in range(30)])
    return folder


@pytest.fixture
def web(bucket):
    """A web server, which lists nothing that obstore could read."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=bucket)) as server:
        Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_videos_of_a_bucket_are_found_and_come_here(bucket):
    for root in (f"file://{bucket}/talks #1".replace("#", "%23"), f"file://{bucket}"):
        found = find_videos(root)
        assert found == sorted(found)
        assert len(found) == 3
        for address in found:
            with local_copy(address) as copy:
                name = Path(address.rpartition("/")[2].replace("%20", " ").replace("%3F", "?"))
                [original] = bucket.rglob(name.name)
                assert copy.read_bytes() == original.read_bytes()
                assert copy.suffix == original.suffix
            assert not copy.parent.exists()


def test_one_video_and_what_is_no_video(bucket):
    one = f"file://{bucket}/talks %231/a b.mp4"
    assert find_videos(one) == [one]
    (bucket / "texts").mkdir()
    (bucket / "texts" / "x.txt").touch()
    with pytest.raises(MediaError, match=r"No videos found under file:.*saw 1 \.txt"):
        find_videos(f"file://{bucket}/texts")


def test_a_list_names_addresses_too(tmp_path):
    lines = "# mine\ns3://talks/a.mp4\nb.mp4\nhttps://example.org/talks/c.mp4\ns3://talks/a.mp4\n"
    (tmp_path / "mine.txt").write_text(lines)
    found = [tmp_path / "b.mp4", "https://example.org/talks/c.mp4", "s3://talks/a.mp4"]
    assert find_videos(tmp_path / "mine.txt") == found


def test_over_the_web(web, bucket):
    address = f"{web}/talks%20%231/a%20b.mp4"
    with local_copy(address) as copy:
        assert copy.read_bytes() == (bucket / "talks #1" / "a b.mp4").read_bytes()
        assert probe(copy).seconds == Fraction(30, 25)
    with pytest.raises(MediaError, match=r"there is nothing at http://.*/none\.mp4"):  # noqa: SIM117
        with local_copy(f"{web}/none.mp4"):
            pass
    with pytest.raises(MediaError, match=r"http://.*cannot be read .*give a list \(\.txt\)"):
        list_files(web)


def test_known_tracks_come_along(tmp_path, bucket):
    video = bucket / "talks #1" / "a b.mp4"
    save_tracks(video, Tracks(torch.rand(30, 68, 2)))
    address = f"file://{bucket}/talks%20%231/a%20b.mp4"
    assert facts_of(tracks_of(address)) != "missing"
    with local_copy(address, tracks=True, scratch=tmp_path) as copy:
        assert torch.equal(load_tracks(copy).points, load_tracks(video).points)
        assert copy.parent.parent == tmp_path
    assert list(tmp_path.iterdir()) == [bucket]
    with local_copy(f"file://{bucket}/talks%20%231/b%3F.MOV", tracks=True) as copy:
        assert [file.name for file in copy.parent.iterdir()] == ["video.MOV"]
    with local_copy(video, tracks=True) as same:
        assert same == video


def test_facts_change_with_the_file(web, bucket):
    path = bucket / "talks #1" / "b?.MOV"
    spellings = path, f"file://{bucket}/talks%20%231/b%3F.MOV", f"{web}/talks%20%231/b%3F.MOV"
    before = [facts_of(spelling) for spelling in spellings]
    assert [facts_of(spelling) for spelling in spellings] == before
    path.write_text("another")
    assert not set(before) & {facts_of(spelling) for spelling in spellings}
    path.unlink()
    assert {facts_of(spelling) for spelling in spellings} == {"missing"}
    with pytest.raises(MediaError, match="foo://talks is no address"):
        facts_of("foo://talks/a.mp4")


def test_the_length_is_known_from_afar(bucket):
    assert seconds_of(f"file://{bucket}/talks%20%231/a%20b.mp4") == Fraction(30, 25)
    assert seconds_of(f"file://{bucket}/talks%20%231/b%3F.MOV") is None
    assert seconds_of(f"file://{bucket}/none.mp4") is None


def test_a_playlist_leads_to_no_other_file(bucket):
    (bucket / "list.mp4").write_text("ffconcat version 1.0\nfile other.mp4\nduration 9\n")
    assert remote_seconds(f"file://{bucket}/list.mp4") is None


def test_a_copy_is_gone_whatever_happens(tmp_path, bucket):
    scratch = tmp_path / "scratch"
    address = f"file://{bucket}/talks%20%231/a%20b.mp4"
    with pytest.raises(OutputError, match=r"scratch cannot be written.*free space"):  # noqa: SIM117
        with local_copy(address, scratch=scratch):
            pass
    scratch.mkdir()
    with pytest.raises(OSError, match="gone"), local_copy(address, scratch=scratch) as copy:
        Path(shutil.copy(copy, copy.with_name("more.mp4"))).rename(copy.with_name("gone") / "x")
    assert not any(scratch.iterdir())


def test_a_missing_library_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "obstore", None)
    for use in (find_videos, facts_of, lambda address: local_copy(address).__enter__()):
        with pytest.raises(DependencyError, match=r"loopy-portrait\[remote\]"):
            use("s3://talks/folder")
