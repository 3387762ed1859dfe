"""A store from somebody else: whatever stands in it, nothing outside it is read or deleted."""

import json
import os
import shutil

import numpy as np
import pytest

from loopy.cli import main
from loopy.data.store import index_build
from loopy.data.store.cached_storage import CachedStorage
from loopy.data.store.index import Index
from loopy.data.store.index_build import build_index
from loopy.data.store.shot_store import ShotStore
from loopy.data.store.shots import shot_path
from loopy.errors import StoreError
from loopy.preprocess.ledger import Ledger, ShotOutcome, ledger_path, write_ledger

PATHS = ["../victim/model", "/etc/passwd", "..", "", "0" * 31, "0" * 33, "0" * 31 + "\n", "A" * 32]


@pytest.fixture
def victim(tmp_path):
    path = tmp_path / "victim" / "model.safetensors"
    path.parent.mkdir()
    path.write_text("weights that took a month")
    return path


def edit_ledger(root, source, **changes):
    """Writes a ledger of one kept clip, then changes what it says of it."""
    write_ledger(root, Ledger(source, "stamp", shots=(ShotOutcome("0" * 32, 0, 1, 25, "kept"),)))
    path = ledger_path(root, source)
    content = json.loads(path.read_text())
    content["shots"][0] |= changes
    path.write_text(json.dumps(content))
    return path


def edit_index(root, row, name):
    """An index with right checksums that has another id in a row."""
    index = Index.open(root)
    columns = {kind: np.array(index[kind]) for kind in ("id", "frames", "split", "identity")}
    columns |= {kind: np.array(index[kind]) for kind in ("head_motion", "expression")}
    columns["id"][row] = name.encode()
    with index_build._alone(root):
        index_build._write(root, columns, {})


@pytest.mark.parametrize("name", PATHS)
def test_an_id_is_no_path(name):
    for door in (shot_path, lambda n: ShotOutcome(n, 0, 1, 25, "kept")):
        with pytest.raises(StoreError, match="32 hexadecimal digits"):
            door(name)


@pytest.mark.parametrize("door", ["ledger", "index"])
def test_a_check_deletes_nothing_outside(make_store, victim, door, capfd):
    root = make_store(["one", "two"])
    if door == "ledger":
        wrong = edit_ledger(root, "a.mp4", shot="../../victim/model").name
    else:
        edit_index(root, 0, "../../victim/model")
        wrong = "row 0: a shot's id is 32 hexadecimal digits, got '../../victim/model'"
    assert main(["data", "check", str(root), "--remove"]) == 1
    told = capfd.readouterr().out
    assert wrong in told
    assert told.endswith(f"{2 if door == 'ledger' else 1} shots, 0 damaged\n")  # it went on
    assert victim.exists()
    with pytest.raises(StoreError, match=r"hexadecimal|not there"):
        ShotStore.open(root).check("../../victim/model")


def test_a_damaged_ledger_ends_no_check(make_store, make_record, capfd):
    root = make_store(["one", "two"])
    (root / shot_path(make_record("one").id)).write_bytes(b"")
    for source, changes in {"a": {"shot": 5}, "b": {"frames": "x"}, "c": {"start_s": None}}.items():
        edit_ledger(root, source, **changes)
    ledger_path(root, "d").write_text("[" * 100_000)
    assert main(["data", "check", str(root), "--remove"]) == 1
    told = capfd.readouterr().out
    assert told.count("delete it and preprocess again") == 4
    assert told.endswith("2 shots, 1 damaged, 1 deleted: run loopy preprocess again\n")
    assert main(["data", "report", str(root)]) == 2
    assert capfd.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("build", ["..", "../../victim", "/etc", ".", "a" * 15, 5, None])
@pytest.mark.parametrize("remote", [False, True])
def test_a_build_is_no_path(make_store, tmp_path, build, remote):
    root = make_store()
    (root / "index/current.json").write_text(json.dumps({"build": build}))
    where = f"file://{root}" if remote else root
    with pytest.raises(StoreError, match=r"which is no index; build the index again"):
        ShotStore.open(where, cache=tmp_path / "cache")
    build_index(root)
    assert len(ShotStore.open(where, cache=tmp_path / "cache")) == 1


def test_other_folders_of_a_cache_stay(make_store, tmp_path):
    """A cache that is no folder of its own loses builds of indices, and nothing else."""
    root, cache = make_store(), tmp_path / "mine"
    for number in range(12):
        (cache / f"thesis {number}").mkdir(parents=True)
        os.utime(cache / f"thesis {number}", (0, 0))
    ShotStore.open(f"file://{root}", cache=cache)
    assert len(list(cache.glob("thesis*"))) == 12


def test_copies_make_no_room_in_a_store_beside_them(make_store, tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    own = shutil.copytree(make_store(["mine"], folder="other"), folder / "own")
    address = f"file://{make_store()}"
    copies = CachedStorage(address, folder, most_bytes=1)
    store = ShotStore.open(address, cache=tmp_path / "cache")
    copies.start(shot_path(store.index.id(0)), 10)
    ShotStore.open(own).check(0)
