"""The steps of a video: each leaves files, none is done twice, and any process may do any."""

import pickle
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from loopy.commands.preprocess import _description, _preparer
from loopy.data.store.description import create_store
from loopy.data.store.shots import shot_path
from loopy.errors import MediaError
from loopy.preprocess.look import split
from loopy.preprocess.prepare import PIECE
from loopy.preprocess.report import report
from loopy.preprocess.tracks import AT_ONCE_BYTES, chunks
from loopy.preprocess.work import rows_of

FRAMES = 80  # two pieces


@pytest.fixture(scope="module")
def talk(write_talk, tmp_path_factory):
    return write_talk(tmp_path_factory.mktemp("talk") / "talk.mkv", pictures=FRAMES).path


@pytest.fixture
def make(talk_parts, talk_options, tmp_path):
    def preparer(name="store"):
        made = _preparer(tmp_path / name, talk_options, talk_parts, "cpu")
        create_store(tmp_path / name, _description(made, talk_options))
        return made

    return preparer


def clips(preparer):
    return {p.name: p.read_bytes() for p in preparer.root.glob("clips/*/*.safetensors")}


def test_pieces_are_small_and_travel(make, talk, talk_options):
    sound, *pictures = make().pieces(talk)
    assert sound.kind == "sound"
    assert len(sound.content) / 16_000 == pytest.approx(FRAMES / 25, abs=0.001)
    assert [(piece.first, len(piece.content)) for piece in pictures] == [(0, 64), (64, 16)]
    assert pictures[0].content.shape == (PIECE, talk_options.size_px, talk_options.size_px, 3)
    assert (
        pickle.loads(pickle.dumps(pictures[1])).content.tobytes() == pictures[1].content.tobytes()
    )


def test_what_is_encoded_is_not_asked_for_again(make, talk):
    preparer = make()
    sound, first, _ = preparer.pieces(talk)
    preparer.encode(first)
    left = list(make().pieces(talk))
    assert [(piece.kind, piece.first) for piece in left] == [("sound", 0), ("pictures", 64)]
    preparer.encode(sound)
    assert [piece.first for piece in make().pieces(talk)] == [64]


def stages_of_the_page():
    page = (Path(__file__).parents[2] / "docs/data.md").read_text()
    rows = page.split("| stage | takes |")[1].split("\n\n")[0].splitlines()[2:]
    return {row.split("`")[1] for row in rows}


def test_a_clip_is_finished_when_its_last_part_is_there(make, talk):
    """By processes that know nothing of each other, in another order, some of it twice."""
    pieces = list(make().pieces(talk))
    for piece in (pieces[2], pieces[0], pieces[0], pieces[1]):
        assert make().finish(talk) is None
        make().encode(piece)
    ledger = make().finish(talk)
    assert [clip.status for clip in ledger.clips] == ["kept"]
    assert set(ledger.spent_s) == stages_of_the_page()
    whole = make("whole")
    whole(talk)
    assert clips(make()) == clips(whole)
    for preparer in (make(), whole):
        assert not list((preparer.root / "work").iterdir())
    assert list(make().pieces(talk)) == []
    assert make().finish(talk) == ledger


def test_a_part_cut_off_is_made_again(make, talk):
    preparer = make()
    for piece in preparer.pieces(talk):
        preparer.encode(piece)
    (damaged,) = (preparer.root / "work").glob("*.pictures-000064.safetensors")
    damaged.write_bytes(damaged.read_bytes()[:-1])
    assert make().finish(talk) is None
    assert len(list(make().pieces(talk))) == 1
    preparer(talk)
    whole = make("whole")
    whole(talk)
    assert clips(preparer) == clips(whole)


def test_a_clip_that_has_vanished_is_made_again(make, talk):
    preparer = make()
    (clip,) = preparer(talk).clips
    path = preparer.root / shot_path(clip.clip)
    before = path.read_bytes()
    path.unlink()
    preparer(talk)
    assert path.read_bytes() == before


def test_a_video_that_breaks_off_gives_no_clip(make, talk, tmp_path):
    """Decodable pictures end early: what came before is not to be trusted either."""
    broken = tmp_path / "talk.mkv"
    broken.write_bytes(talk.read_bytes()[: talk.stat().st_size // 2])
    (tmp_path / "talk.mkv.tracks.safetensors").write_bytes(
        talk.with_name("talk.mkv.tracks.safetensors").read_bytes()
    )
    preparer = make()
    ledger = preparer(broken)
    assert "cut off" in ledger.error
    assert ledger.clips == ()
    assert clips(preparer) == {}
    assert report(preparer.root).errors == {str(broken): ledger.error}


def test_a_long_shot_becomes_clips_of_equal_length(write_talk, talk_parts, talk_options, tmp_path):
    path = write_talk(tmp_path / "long.mkv", pictures=101).path
    options = replace(talk_options, longest_frames=40)
    preparer = _preparer(tmp_path / "store", options, talk_parts, "cpu")
    create_store(tmp_path / "store", _description(preparer, options))
    assert [clip.frames for clip in preparer(path).clips] == [33, 34, 34]


@given(start=st.integers(0, 1000), frames=st.integers(1, 500), longest=st.integers(1, 200))
def test_a_split_leaves_nothing_out(start, frames, longest):
    parts = split(range(start, start + frames), longest)
    assert [i for part in parts for i in part] == list(range(start, start + frames))
    lengths = {len(part) for part in parts}
    assert max(lengths) <= longest
    assert max(lengths) - min(lengths) <= 1
    assert len(parts) == -(-frames // longest)  # no more than it takes


@given(
    sizes=st.lists(st.integers(1, 7), min_size=1, max_size=12),
    places=st.lists(st.integers(0, 60), min_size=0, max_size=10).map(sorted),
)
def test_rows_of_a_stream_are_those_of_the_whole(sizes, places):
    whole = torch.arange(sum(sizes))
    spans = [range(a, b) for a, b in zip(places[::2], places[1::2], strict=False)]
    found = list(rows_of(spans, iter(whole.split(sizes))))
    for span, rows in zip(spans, found, strict=True):
        assert torch.equal(rows, whole[span.start : span.stop])


def test_an_empty_span_has_no_rows():
    """Also before anything is read, and with no rows behind it."""
    stream = torch.arange(12.0).reshape(6, 2).split(2)
    found = list(rows_of([range(0, 0), range(1, 3), range(6, 6)], stream))
    assert [rows.tolist() for rows in found] == [[], [[2.0, 3.0], [4.0, 5.0]], []]
    assert found[0].shape == (0, 2)
    assert next(rows_of([range(0, 0)], [torch.empty(0, 2)])).shape == (0, 2)
    with pytest.raises(MediaError, match="no rows of features"):
        next(rows_of([range(0, 0)], []))


def test_few_large_frames_are_held_at_once(write_film, tmp_path):
    """Twelve frames of 4K are 300 MB: of their 25 MB ten go into 256."""
    path = write_film(
        tmp_path / "4k.mp4", [Fraction(index, 25) for index in range(12)], size=(3840, 2160)
    )
    parts = chunks(path, range(12))
    assert [(len(part), part.nbytes <= AT_ONCE_BYTES) for part in parts] == [(10, True), (2, True)]
