"""Shots of a bucket that are copied to this disk: read once over the network, bounded, shared."""

import pickle
import shutil

import pytest
import torch

from loopy.data.store.cached_storage import SLACK
from loopy.data.store.shot_store import ShotStore
from loopy.data.store.shots import shot_path
from loopy.errors import CorruptFileError, OutputError, StoreError

NAMES = [str(number) for number in range(12)]
ROWS = {"latents": [3, 9, 3], "audio": slice(2, 5)}


@pytest.fixture
def bucket(make_store):
    return make_store(NAMES)


@pytest.fixture
def opened(bucket, tmp_path):
    def store(**options):
        where = {"cache": tmp_path / "index", "copies": tmp_path / "copies"} | options
        return ShotStore.open(f"file://{bucket}", **where)

    return store


def sizes(folder):
    return {path.name: path.stat().st_size for path in folder.glob("*/clips/*/[!.]*")}


def test_a_clip_travels_once(bucket, opened, tmp_path):
    plain, store = ShotStore.open(bucket), opened()
    before = store.bytes_requested
    for _ in range(3):
        for name, tensor in store.read(0, ROWS).items():
            assert torch.equal(tensor, plain.read(0, ROWS)[name])
    whole = (bucket / shot_path(store.index.id(0))).stat().st_size
    assert store.bytes_requested - before == whole
    again = opened()  # another process, another day
    before = again.bytes_requested
    again.read(0, ROWS)
    assert again.bytes_requested == before


def test_a_copy_needs_no_bucket(bucket, opened):
    store = pickle.loads(pickle.dumps(opened()))
    store.read(4, ROWS)
    shutil.rmtree(bucket / "clips")
    store.read(4, ROWS)
    with pytest.raises(StoreError, match="not there"):
        store.read(5, ROWS)


def test_the_folder_is_bounded_and_what_is_in_use_stays(bucket, opened, tmp_path):
    each = (bucket / shot_path(ShotStore.open(bucket).index.id(0))).stat().st_size
    store = opened(copies_gb=4.5 * each / 1e9)
    for row in range(len(store)):
        store.read(0, ROWS)
        store.read(row, ROWS)
        assert sum(sizes(tmp_path / "copies").values()) <= 4.5 * (1 + SLACK) * each
    held = sizes(tmp_path / "copies")
    assert shot_path(store.index.id(0)).rsplit("/", 1)[1] in held
    assert len(held) == 4
    before = store.bytes_requested
    store.read(1, ROWS)  # made room for others, and comes again
    assert store.bytes_requested == before + each


def test_a_copy_deleted_under_a_reader_is_made_again(opened, tmp_path):
    store = opened()
    expected = store.read(2, ROWS)["latents"]
    shutil.rmtree(tmp_path / "copies")
    assert torch.equal(store.read(2, ROWS)["latents"], expected)


EVERYTHING = dict.fromkeys(("latents", "audio", "points", "pose", "valid"), slice(None))


def flip(path, *places):
    content = bytearray(path.read_bytes())
    for place in places:
        content[place] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("place", [0, 40, 1500, -1, None])
@pytest.mark.parametrize("again", [False, True])
def test_a_damaged_copy_is_fetched_again(bucket, opened, tmp_path, place, again):
    """In its header, in its rows, or cut off; also by who remembers its header."""
    store = opened()
    expected = store.read(2, EVERYTHING)
    (copy,) = (tmp_path / "copies").glob("*/clips/*/*")
    intact = copy.read_bytes()
    if place is None:
        copy.write_bytes(intact[:-1])
    else:
        flip(copy, place)
    reader = opened() if again else store
    before = reader.bytes_requested
    for name, tensor in reader.read(2, EVERYTHING).items():
        assert tensor.numpy().tobytes() == expected[name].numpy().tobytes()
    in_rows = place in (1500, -1, None)
    assert reader.bytes_requested - before == len(intact) * (again or in_rows)
    if again or in_rows:
        assert copy.read_bytes() == intact


def test_what_is_damaged_in_the_bucket_is_named_there(bucket, opened, tmp_path):
    store = opened()
    path = bucket / shot_path(store.index.id(2))
    flip(path, -1)
    with pytest.raises(CorruptFileError, match=f"file://{path}: row .* is damaged"):
        store.read(2, EVERYTHING)
    flip(path, -1)  # mended
    store.read(2, EVERYTHING)


def test_many_processes_hardly_exceed_the_bound():
    """Each may add so much before it looks at the folder again."""
    assert 32 * SLACK < 0.2


def test_a_folder_that_cannot_be_written(opened, tmp_path):
    (tmp_path / "copies").write_text("in the way")
    with pytest.raises(OutputError, match="cannot be written"):
        opened().read(0, ROWS)
