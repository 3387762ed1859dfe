"""A store by any engine is the same; what is done is not done again; memory is flat."""

import os
import shutil
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from loopy.commands.preprocess import _description, _networks, _preparer, preprocess
from loopy.data.store.description import create_store
from loopy.data.store.shots import shot_path
from loopy.errors import ConfigurationError, MediaError, OutputError
from loopy.preprocess.engines import part_of, prepare_all
from loopy.preprocess.landmarks.precomputed import Tracks, save_tracks
from loopy.preprocess.ledger import read_ledgers
from loopy.preprocess.prepare import BATCH, Preparer
from loopy.preprocess.report import listed_shots, store_report
from loopy.preprocess.shot_finder import ShotFinder, split
from loopy.stopping import Stopped

FRAMES = 30


@pytest.fixture(scope="module")
def talks(write_talk, tmp_path_factory):
    """One of three shots, the second of which is rejected; one of one; one without sound."""
    folder = tmp_path_factory.mktemp("talks")
    lost = torch.ones(101, 68, dtype=torch.bool)
    lost[34:67] = False
    write_talk(folder / "long.mkv", pictures=101, valid=lost)
    write_talk(folder / "short.mkv", pictures=FRAMES)
    write_talk(folder / "silent.mkv", silent_from_s=0)
    (folder / "text.mp4").write_text("no video")
    return folder


@pytest.fixture(scope="module")
def options(talk_options):
    """A shot has 40 frames at most: the long talk becomes three of 33, 34 and 34."""
    return replace(talk_options, longest_frames=40)


@pytest.fixture(scope="module")
def store(talks, talk_parts, options, tmp_path_factory):
    root = tmp_path_factory.mktemp("made") / "store"
    preprocess(str(talks), root, parts=talk_parts, options=options)
    return root


@pytest.fixture
def make(talk_parts, options, tmp_path):
    """Builds preparers of one store, of any class."""

    def maker(kind=Preparer):
        made = _preparer(tmp_path / "store", options, talk_parts, "cpu")
        create_store(made.root, _description(made, options))
        return kind(made.root, options, made.config, partial(_networks, talk_parts, "cpu"))

    return maker


def shots(root):
    return {path.name: path.read_bytes() for path in root.glob("clips/*/*.safetensors")}


def times(root):
    return {path.name: path.stat().st_mtime_ns for path in root.glob("clips/*/*.safetensors")}


def outcomes(root):
    """What the ledgers say, but for the time it took."""
    return [(led.source, led.stamp, led.error, led.shots) for led in read_ledgers(root)]


def test_a_long_shot_becomes_several_of_equal_length(store):
    (ledger,) = (each for each in read_ledgers(store) if each.source.endswith("long.mkv"))
    assert [shot.frames for shot in ledger.shots] == [33, 34, 34]
    assert [shot.status for shot in ledger.shots] == ["kept", "rejected", "kept"]
    page = (Path(__file__).parents[2] / "docs/data.md").read_text()
    rows = page.split("| stage | takes |")[1].split("\n\n")[0].splitlines()[2:]
    assert set(ledger.spent_s) == {row.split("`")[1] for row in rows}


def test_shards_make_the_same_store(store, talks, talk_parts, options, tmp_path):
    for part in ("0/2", "1/2"):
        form = {"parts": talk_parts, "options": options, "shard": part}
        preprocess(str(talks), tmp_path / "store", **form)
    assert not (tmp_path / "store" / "index").exists()  # jobs do not wait for each other
    assert shots(tmp_path / "store") == shots(store)
    assert outcomes(tmp_path / "store") == outcomes(store)


def test_processes_make_the_same_store(store, talks, make, tmp_path):
    """And each of them builds its networks once."""
    (tmp_path / "built").mkdir()
    counted = partial(_counted, make(), tmp_path / "built")
    list(prepare_all(counted, sorted(talks.glob("*.m[kp][v4]")), workers=2))
    assert len(list((tmp_path / "built").iterdir())) <= 2
    assert shots(tmp_path / "store") == shots(store)
    assert [each for each in outcomes(tmp_path / "store") if each[3]] == [
        each for each in outcomes(store) if each[3]
    ]


def _counted(preparer, built):
    (built / f"{os.getpid()} {time.monotonic_ns()}").touch()
    return preparer


@dataclass(frozen=True, eq=False)
class Interrupted(Preparer):
    """Stopped at the last shot of a video."""

    def encode(self, video, shot, watch):
        if shot.span.start > FRAMES:
            raise Stopped(15)
        return super().encode(video, shot, watch)


def test_an_interruption_costs_one_shot(make, store, talks, monkeypatch):
    """Nothing is lost, nothing is done twice, and the end is the same."""
    source = talks / "long.mkv"
    with pytest.raises(Stopped):
        make(Interrupted)(source)
    (ledger,) = read_ledgers(make().root)
    assert not ledger.finished
    assert [shot.status for shot in ledger.shots] == ["kept", "rejected"]
    before = times(make().root)
    assert len(before) == 1
    tracked = []
    track = ShotFinder.track
    monkeypatch.setattr(ShotFinder, "track", lambda self, s: (tracked.append(s), track(self, s))[1])
    assert make()(source).finished
    assert [span.start for span in tracked] == [67]
    assert before.items() <= times(make().root).items()
    assert shots(make().root).items() <= shots(store).items()
    assert outcomes(make().root) == [each for each in outcomes(store) if each[0] == str(source)]
    assert make()(source) == read_ledgers(make().root)[0]
    assert len(tracked) == 1


def test_a_shot_that_no_ledger_names_is_not_encoded_again(make, talks, monkeypatch):
    source = talks / "short.mkv"
    make()(source)
    for path in make().root.glob("videos/*"):
        path.unlink()
    monkeypatch.setattr(Preparer, "encode", None)
    assert [shot.status for shot in make()(source).shots] == ["kept"]


def test_a_shot_that_has_vanished_is_made_again(make, talks):
    preparer = make()
    ledger = preparer(talks / "long.mkv")
    before, written, said = shots(preparer.root), times(preparer.root), outcomes(preparer.root)
    path = preparer.root / shot_path(ledger.shots[0].shot)
    path.unlink()
    make()(talks / "long.mkv")
    assert outcomes(preparer.root) == said
    assert shots(preparer.root) == before
    assert {n for n, at in times(preparer.root).items() if at != written[n]} == {path.name}


def test_pictures_are_encoded_a_few_at_a_time(make, talks, monkeypatch):
    preparer, sizes = make(), []
    latents = type(preparer.networks).latents

    def counted(self, pictures, options):
        sizes.append(len(pictures))
        return latents(self, pictures, options)

    monkeypatch.setattr(type(preparer.networks), "latents", counted)
    preparer(talks / "short.mkv")
    assert sizes == [BATCH] * (FRAMES // BATCH) + [FRAMES % BATCH]


def test_a_video_that_breaks_off_gives_no_shot(make, talks, tmp_path):
    """Decodable pictures end early: what came before is not to be trusted either."""
    broken = tmp_path / "long.mkv"
    broken.write_bytes((talks / "long.mkv").read_bytes()[:-40_000])
    preparer = make()
    ledger = preparer(broken)
    assert "cut off" in ledger.error
    assert ledger.finished
    assert ledger.shots == ()
    assert shots(preparer.root) == {}
    assert store_report(preparer.root).errors == {str(broken): ledger.error}


def test_a_video_out_of_reach_keeps_what_was_made_of_it(make, talks, tmp_path):
    """One of its shots is lost, and the video away: the others stay listed until it is back."""
    folder = shutil.copytree(talks, tmp_path / "talks")
    preparer, video = make(), folder / "long.mkv"
    before = preparer(video)
    files = sorted(preparer.root.glob("clips/*/*.safetensors"))
    files[0].unlink()
    folder.rename(tmp_path / "away")
    gone = preparer(video)
    assert "long.mkv" in gone.error
    assert [each.shot for each in gone.shots] == [each.shot for each in before.shots]
    assert listed_shots(preparer.root) == {path.stem for path in files}
    (tmp_path / "away").rename(folder)
    kept = times(preparer.root)
    assert preparer(video).error == ""
    assert kept.items() < times(preparer.root).items()  # only the lost one is made again


def test_other_options_need_another_store(store, talks, talk_parts, options):
    with pytest.raises(ConfigurationError, match="other"):
        preprocess(str(talks), store, parts=talk_parts, options=replace(options, longest_gap=0))


def test_an_error_that_has_passed_is_forgotten(write_talk, talk_parts, options, tmp_path):
    """Tracks that were missing are there now; other tracks make other shots."""
    path, store = tmp_path / "talks" / "late.mkv", tmp_path / "store"
    path.parent.mkdir()
    write_talk(path, tracked=False)
    form = {"parts": talk_parts, "options": options}
    with pytest.raises(MediaError, match="not one shot came of 1 videos"):
        preprocess(str(path.parent), store, **form)
    points = (40 + 20 * torch.rand(68, 2)).repeat(FRAMES, 1, 1)
    save_tracks(path, Tracks(points, pose=torch.zeros(FRAMES, 3)))
    preprocess(str(path.parent), store, **form)
    assert len(shots(store)) == 1
    save_tracks(path, Tracks(points + 3, pose=torch.zeros(FRAMES, 3)))
    preprocess(str(path.parent), store, **form)
    assert len(shots(store)) == 2
    assert len(store_report(store).kept) == 1


def test_a_disk_that_refuses_stops_the_run(make, talks):
    preparer = make()
    (preparer.root / "clips").write_text("in the way")
    with pytest.raises(OutputError, match="clips"):
        preparer(talks / "short.mkv")


@pytest.mark.parametrize("part", ["2/2", "-1/2", "one"])
def test_an_impossible_shard_is_refused(part):
    with pytest.raises(ConfigurationError, match=r"i goes from|a shard is"):
        part_of([], part)


@given(start=st.integers(0, 1000), frames=st.integers(1, 500), longest=st.integers(1, 200))
def test_a_split_leaves_nothing_out(start, frames, longest):
    parts = split(range(start, start + frames), longest)
    assert [i for part in parts for i in part] == list(range(start, start + frames))
    lengths = {len(part) for part in parts}
    assert max(lengths) <= longest
    assert max(lengths) - min(lengths) <= 1
    assert len(parts) == -(-frames // longest)  # no more than it takes
