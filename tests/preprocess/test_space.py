"""Room on the disk: asked for before anything is computed, and gone in mid-write."""

import re
import shutil
from contextlib import contextmanager

import pytest

from loopy.cli import main
from loopy.commands.preprocess import preprocess
from loopy.errors import OutputError
from loopy.preprocess.ledger import read_ledgers

resource = pytest.importorskip("resource", reason="limits of files are a matter of Unix")


@pytest.fixture
def huge(talk_parts, tmp_path):
    """The command for a store in which a frame takes 2.2 TB: crops with a million pixels a side."""

    def words(videos, *more):
        told = ["preprocess", str(videos), str(tmp_path / "store"), "--parts", str(talk_parts)]
        return [*told, f"--options.size_px={2**20}", "--options.estimator=precomputed", *more]

    return words


def test_a_store_that_fills_the_disk_is_refused_first(huge, write_talk, tmp_path, capsys):
    path = write_talk(tmp_path / "talk.mkv", pictures=50, rate=50).path  # 25 frames
    assert main(huge(path)) == 2
    said = capsys.readouterr().err
    needed, free = re.search(r"would take ([\d.]+) GB of ([\d.]+) GB free", said).groups()
    assert float(needed) * 1e9 == pytest.approx(25 * 4 * (2**20 / 2) ** 2 * 2, rel=1e-3)
    assert float(free) * 1e9 == pytest.approx(shutil.disk_usage(tmp_path).free, rel=0.1)
    assert "--yes" in said
    assert not (tmp_path / "store").exists()


def test_it_goes_on_where_that_is_wanted(huge, write_talk, tmp_path, capsys):
    """As far as it can: a talk without sound takes no room."""
    path = write_talk(tmp_path / "talk.mkv", pictures=150, silent_from_s=0).path
    assert main(huge(path)) == 2
    assert "--yes" in capsys.readouterr().err
    assert main(huge(path, "--yes")) == 2
    assert "not one shot came of 1 videos" in capsys.readouterr().err
    (ledger,) = read_ledgers(tmp_path / "store")
    assert [clip.reason for clip in ledger.shots] == ["no sound"]


@contextmanager
def files_up_to(size):
    """A disk on which a file ends in mid-write: the system refuses each byte behind the limit."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture(scope="module")
def talks(write_talk, tmp_path_factory):
    folder = tmp_path_factory.mktemp("talks")
    write_talk(folder / "a short one.mkv", pictures=25)
    write_talk(folder / "long.mkv", pictures=35)
    return folder


@pytest.fixture(scope="module")
def undisturbed(talks, talk_parts, talk_options, tmp_path_factory):
    root = tmp_path_factory.mktemp("undisturbed") / "store"
    preprocess(str(talks), root, parts=talk_parts, options=talk_options)
    return root


def clips(root):
    return {path.name: path for path in root.glob("clips/*/*")}


@pytest.mark.parametrize("at", ["first", "last"])
def test_a_disk_that_is_full_in_mid_write(
    at, undisturbed, talks, talk_parts, talk_options, tmp_path
):
    """One line of what to do, no half of a file, and what is finished is kept."""
    store = tmp_path / "store"
    largest = max(path.stat().st_size for path in clips(undisturbed).values())
    limit = {"first": 10_000, "last": largest - 1}[at]
    with files_up_to(limit), pytest.raises(OutputError, match=r"cannot be written \("):
        preprocess(str(talks), store, parts=talk_parts, options=talk_options)
    assert not [path for path in store.rglob("*") if path.name.startswith(".")]
    kept = clips(store)
    assert len(kept) == (at == "last")  # that of the short one
    assert len(read_ledgers(store)) == len(kept)  # a full disk is no fault of a video
    stamps = {path: path.stat().st_mtime_ns for path in kept.values()}

    preprocess(str(talks), store, parts=talk_parts, options=talk_options)
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    same = {name: path.read_bytes() for name, path in clips(undisturbed).items()}
    assert {name: path.read_bytes() for name, path in clips(store).items()} == same
    indices = [(root / "index/current.json").read_text() for root in (store, undisturbed)]
    assert indices[0] == indices[1]
