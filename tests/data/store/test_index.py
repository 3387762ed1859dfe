import fcntl
import json
import os
import pickle
import shutil
from contextlib import suppress
from multiprocessing import get_context
from time import perf_counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopy.data.store import index_build
from loopy.data.store.description import create_store
from loopy.data.store.index import TEST, TRAIN, TYPES, VALIDATION, Index
from loopy.data.store.index_build import (
    LOCK,
    build_index,
    identity_hash,
    remove_drafts,
    split_of,
)
from loopy.data.store.shot_store import ShotStore
from loopy.data.store.shots import Provenance, shot_path, write_shot
from loopy.errors import ConfigurationError, StoreError
from loopy.motion.measures import expression_variance, head_motion_variance

NAMES = [f"video {number}" for number in range(6)]


def write_build(root, columns):
    with index_build._alone(root):
        return index_build._write(root, columns, {})


def made_columns(rows):
    ids = np.array([b"%032d" % row for row in range(rows)])
    return {"id": ids} | {
        name: np.arange(rows).astype(kind) for name, kind in TYPES.items() if name != "id"
    }


def test_it_says_of_each_clip_what_the_clip_says(make_store, make_record):
    index = build_index(make_store(NAMES))
    records = sorted((make_record(name) for name in NAMES), key=lambda record: record.id)
    assert [index.id(row) for row in range(len(index))] == [record.id for record in records]
    assert index["frames"].tolist() == [10] * 6
    assert index["identity"].tolist() == [identity_hash(r.provenance.identity) for r in records]
    for column, measure in (
        ("head_motion", head_motion_variance),
        ("expression", expression_variance),
    ):
        expected = [measure(record.motion).item() for record in records]
        assert index[column].tolist() == pytest.approx(expected)


def test_only_what_is_kept_is_indexed(make_store, make_record):
    """Files of clips that nobody names any more stay, and are not trained on."""
    root = make_store(NAMES)
    kept = [make_record(name).id for name in NAMES[:3]]
    index = build_index(root, keep={*kept, "f" * 32})  # one of them is not there
    assert [index.id(row) for row in range(len(index))] == sorted(kept)
    assert len(build_index(root, keep=())) == 0
    assert len(build_index(root)) == len(NAMES)


def test_unknown_measures_are_nan(make_store, make_record):
    root = make_store([])
    record = make_record("hidden face")
    record.motion.valid[:] = False
    write_shot(root, record)
    assert np.isnan(build_index(root)["head_motion"]).all()


def test_the_order_of_work_does_not_matter(make_store):
    one, other = make_store(NAMES, folder="a"), make_store(NAMES[::-1], folder="b")
    assert Index.open(one).folder.name == Index.open(other).folder.name


def test_clips_of_one_identity_share_a_split(make_store, make_record):
    root = make_store([])
    for name in NAMES:
        where = Provenance(name, name, 0, 1, (0, 0, 1, 1), 25, identity="the same person")
        write_shot(root, make_record(name, provenance=where))
    assert len(set(build_index(root, validation=0.4, test=0.3)["split"].tolist())) == 1


def test_splits_have_their_shares():
    splits = [split_of(identity_hash(str(n)), validation=0.3, test=0.1) for n in range(4000)]
    shares = np.bincount(splits, minlength=3) / 4000
    expected = {TRAIN: 0.6, VALIDATION: 0.3, TEST: 0.1}
    assert shares == pytest.approx([expected[split] for split in range(3)], abs=0.03)


@given(st.integers(0, 2**64 - 1), st.floats(0, 0.4), st.floats(0, 0.4))
def test_a_larger_validation_takes_only_from_training(identity, validation, more):
    """Who was held out for the end stays held out, whatever the share for validation."""
    before = split_of(identity, validation=validation, test=0.1)
    after = split_of(identity, validation=validation + more, test=0.1)
    assert after == before or (before, after) == (TRAIN, VALIDATION)


def test_who_is_held_out_stays_held_out(make_store, make_record):
    """Indexed again after more clips have come, nobody moves, unless other shares are given."""
    root = make_store(NAMES)
    split = {"validation": 0.3, "test": 0.2}
    before = build_index(root, **split)
    sides = {before.id(row): side for row, side in enumerate(before["split"])}
    assert len(set(sides.values())) > 1
    write_shot(root, make_record("new"))

    def check(index, **shares):
        told = json.loads((index.folder / "columns.json").read_text())
        assert {name: told[name] for name in split} == split | shares
        if not shares:
            found = {index.id(row): side for row, side in enumerate(index["split"])}
            assert sides.items() <= found.items()

    check(build_index(root))
    (root / "index" / "current.json").unlink()  # the newest build still knows
    check(build_index(root))
    (root / "index" / "current.json").write_bytes(b"")
    check(build_index(root))
    check(build_index(root, test=0.1), test=0.1)
    check(build_index(root), test=0.1)


def test_a_first_index_holds_out_two_per_cent_each(make_store):
    about = json.loads((build_index(make_store()).folder / "columns.json").read_text())
    assert (about["validation"], about["test"]) == (0.02, 0.02)


def test_shares_above_one_are_refused():
    with pytest.raises(ConfigurationError, match=r"0\.6"):
        split_of(0, validation=0.6, test=0.6)


def test_a_million_clips_open_in_under_a_second(tmp_path, description):
    create_store(tmp_path, description)
    write_build(tmp_path, made_columns(1_000_000))
    start = perf_counter()
    index = ShotStore.open(tmp_path).index  # checksums included
    assert perf_counter() - start < 1
    assert len(index) == 1_000_000
    assert all(type(index[name]) is np.memmap for name in TYPES)
    assert index.id(765_432) == f"{765_432:032d}"
    assert len(pickle.dumps(index)) < 1000  # a memory map would pickle as all its bytes
    assert pickle.loads(pickle.dumps(index)).id(7) == index.id(7)


def test_who_has_opened_an_index_keeps_it(tmp_path):
    old = write_build(tmp_path, made_columns(3))
    pickled = pickle.dumps(old)
    write_build(tmp_path, made_columns(4))
    assert len(Index.open(tmp_path)) == 4
    assert len(pickle.loads(pickled)) == 3  # a worker that starts just then
    write_build(tmp_path, made_columns(5))
    assert old["frames"].tolist() == [0, 1, 2]
    with pytest.raises(StoreError, match="indexed again"):
        pickle.loads(pickled)
    assert len([path for path in (tmp_path / "index").iterdir() if path.is_dir()]) == 2


def _index_again_and_again(root, sizes):
    for rows in sizes:
        assert len(write_build(root, made_columns(rows))) == rows


def test_two_processes_index_at_once(tmp_path):
    """Neither deletes what the other is writing, or has just made the current one."""
    sizes = [range(10_000, 10_020), range(20_000, 20_020)]
    context = get_context("fork")
    both = [context.Process(target=_index_again_and_again, args=(tmp_path, each)) for each in sizes]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    assert len(Index.open(tmp_path)) in {each[-1] for each in sizes}
    assert len([path for path in (tmp_path / "index").iterdir() if path.is_dir()]) == 2


def test_who_waits_to_index_sees_what_has_come_meanwhile(make_store, make_record):
    """What is looked at before the wait would be old by the time it is written."""
    root = make_store(["one"])
    with (root / "index" / LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        process = get_context("fork").Process(target=build_index, args=(root,))
        process.start()
        process.join(0.3)
        assert process.is_alive()
        write_shot(root, make_record("two"))
        fcntl.flock(lock, fcntl.LOCK_UN)  # the child has inherited the open file
    process.join()
    assert len(Index.open(root)) == 2


def test_a_build_that_was_cut_short_is_not_seen(tmp_path):
    done = write_build(tmp_path, made_columns(3))
    half, other = (done.folder.with_name(name) for name in (f".{'0a' * 16}", "of somebody"))
    for folder in (half, other):
        shutil.copytree(done.folder, folder)
        os.remove(folder / "id.npy")
    assert len(Index.open(tmp_path)) == 3
    write_build(tmp_path, made_columns(4))
    assert not half.exists()
    assert other.exists()


def test_a_store_without_index(make_store):
    root = make_store()
    shutil.rmtree(root / "index")
    with pytest.raises(StoreError, match=r"current\.json.*no index"):
        Index.open(root)


def test_a_column_that_is_cut_off(tmp_path):
    path = write_build(tmp_path, made_columns(100)).folder / "frames.npy"
    os.truncate(path, path.stat().st_size - 1)
    with pytest.raises(StoreError, match="build the index again"):
        Index.open(tmp_path)


def test_a_flipped_byte_is_found_when_looked_for(tmp_path):
    index = write_build(tmp_path, made_columns(100))
    index.verify()
    path = index.folder / "identity.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"identity\.npy"):
        Index.open(tmp_path).verify()


@pytest.mark.parametrize("content", [b"", b"{", b'{"build": 3}', b"\xff\x00"])
def test_a_damaged_name_of_the_build_is_cured_by_indexing(make_store, content):
    root = make_store(NAMES)
    (root / "index" / "current.json").write_bytes(content)
    with suppress(StoreError):
        assert not len(Index.open(root))
    assert len(build_index(root)) == len(NAMES)
    assert len(ShotStore.open(root)) == len(NAMES)


@pytest.mark.parametrize("file", ["columns.json", *(f"{column}.npy" for column in TYPES)])
@pytest.mark.parametrize("cut", [False, True])
def test_a_damaged_build_is_cured_by_indexing(make_store, file, cut):
    """The same clips give a build of the same name: it is there, and must be made again."""
    root = make_store(NAMES)
    path = Index.open(root).folder / file
    intact = path.read_bytes()
    flipped = intact[:-3] + bytes([intact[-3] ^ 1]) + intact[-2:]
    path.write_bytes(b"" if cut else flipped)
    build_index(root)
    assert path.read_bytes() == intact
    assert len(ShotStore.open(root)) == len(NAMES)


def test_damaged_clips_are_left_out_and_all_named(make_store, make_record):
    root = make_store(["one", "two", "three", "four"])
    one, two, three = (root / shot_path(make_record(name).id) for name in ("one", "two", "three"))
    shutil.copy(one, two)
    three.write_bytes(three.read_bytes()[:-1])
    with pytest.warns(UserWarning, match="2 shots cannot be read") as told:
        index = build_index(root)
    assert f"{two}: it holds shot {one.stem}" in str(told[0].message)
    assert f"{three}: it has " in str(told[0].message)
    left = {make_record(name).id for name in ("one", "four")}
    assert {index.id(row) for row in range(len(index))} == left
    for path in root.glob("clips/*/*.safetensors"):
        path.write_bytes(b"")
    with pytest.raises(StoreError, match=f"4 shots cannot be read.*{two.name}"):
        build_index(root)
    assert len(Index.open(root)) == 2  # the one before


def test_old_drafts_are_deleted_wherever_they_lie(make_store):
    root = make_store()
    name = f".{'0a' * 16}"
    drafts = [f"{name}.json", f"clips/ab/{name}.safetensors", f"work/{name}.safetensors"]
    drafts += [f"videos/{name}.json", f"index/{name}.json"]
    others = [".nfs0001", "work/.keep", "videos/ab.json", f"videos/x{name}.json"]
    for place in drafts + others:
        (root / place).parent.mkdir(exist_ok=True)
        (root / place).write_text("half")
    assert remove_drafts(root) == 0  # young: another process may be writing them
    for place in drafts + others:
        os.utime(root / place, (0, 0))
    build_index(root)
    assert not any((root / place).exists() for place in drafts)
    assert all((root / place).exists() for place in others)
