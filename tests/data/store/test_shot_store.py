import json
import os
import pickle
import resource
import shutil
import signal
import threading
import zlib
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing import get_context

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from loopy.data.store.description import StoreDescription, check_space, create_store, estimate_size
from loopy.data.store.index_build import build_index, remove_drafts
from loopy.data.store.shot_file import SCHEMA
from loopy.data.store.shot_store import FIRST_BYTES, ShotStore
from loopy.data.store.shots import shot_path, write_shot
from loopy.errors import ConfigurationError, CorruptFileError, LoopyError, OutputError, StoreError

FRAMES = 10
TENSORS = ("latents", "audio", "points", "valid", "pose")
EVERYTHING = dict.fromkeys(TENSORS, slice(None))
of_one_frame = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
some_rows = st.dictionaries(
    st.sampled_from(TENSORS),
    st.one_of(st.lists(st.integers(0, FRAMES - 1), max_size=15), st.slices(FRAMES)),
)


def clip_of(root, make_record, name="one"):
    return root / shot_path(make_record(name).id)


def as_list(rows):
    return list(range(*rows.indices(FRAMES))) if isinstance(rows, slice) else rows


def in_child(function):
    """Runs it in a fork and gives the number of its exit, negative for a signal."""
    child = os.fork()
    if child == 0:
        try:
            function()
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


class RangeServer(BaseHTTPRequestHandler):
    """GET of byte ranges, and a count of what is sent."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        try:
            content = (self.server.root / self.path.lstrip("/")).read_bytes()
        except FileNotFoundError:
            self.send_response(404)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        first, last = self.headers["Range"].removeprefix("bytes=").split("-")
        part = content[int(first) : int(last) + 1]
        self.server.sent.append(len(part))
        self.send_response(206)
        self.send_header(
            "Content-Range", f"bytes {first}-{int(first) + len(part) - 1}/{len(content)}"
        )
        self.send_header("Content-Length", str(len(part)))
        self.send_header("Last-Modified", "Sat, 21 Nov 2026 12:00:00 GMT")
        self.end_headers()
        self.wfile.write(part)

    def log_message(self, *_):
        pass


@pytest.fixture
def web(tmp_path):
    with ThreadingHTTPServer(("127.0.0.1", 0), RangeServer) as server:
        server.root, server.sent = tmp_path, []
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.mark.parametrize("kind", ["folder", "bucket"])
def test_any_rows_come_back_as_the_whole_file_gives_them(tmp_path, make_store, make_record, kind):
    root = make_store()
    whole = load_file(clip_of(root, make_record))
    address = root if kind == "folder" else f"file://{root}"
    store = ShotStore.open(address, cache=tmp_path / "cache")

    @of_one_frame
    @given(some_rows)
    def check(rows):
        found = store.read(0, rows)
        assert found.keys() == rows.keys()
        for name, tensor in found.items():
            assert tensor.dtype == whole[name].dtype
            assert torch.equal(tensor, whole[name][as_list(rows[name])])

    check()


@of_one_frame
@given(some_rows)
def test_nothing_is_read_but_the_rows_their_checksums_and_the_header(
    tmp_path_factory, make_record, description, rows
):
    root = tmp_path_factory.mktemp("store")
    create_store(root, description)
    write_shot(root, make_record("one", frames=FRAMES))
    build_index(root)
    whole = load_file(clip_of(root, make_record))
    store = ShotStore.open(root)
    store.storage.gap_bytes = 0
    store.read(0, {})
    assert store.bytes_requested == FIRST_BYTES
    store.read(0, rows)
    asked = sum(
        len(set(as_list(wanted))) * (4 + whole[name][0].nbytes) for name, wanted in rows.items()
    )
    assert store.bytes_requested == FIRST_BYTES + asked


def test_small_gaps_are_read_and_counted(make_store, make_record):
    root = make_store(frames=400)
    row = 4 * 6 * 6 * 2
    for gap, between in ((row, row), (row - 1, 0)):
        store = ShotStore.open(root)
        store.storage.gap_bytes = gap
        store.read(0, {})
        header = store.bytes_requested
        store.read(0, {"latents": [100, 102]})
        sums = 12 if gap >= 4 else 8
        assert store.bytes_requested - header == 2 * row + between + sums


def test_more_ranges_than_the_system_takes_at_once(make_store, make_record):
    root = make_store(frames=3000)
    whole = load_file(clip_of(root, make_record))
    found = ShotStore.open(root).read(0, {"pose": slice(0, None, 2)})
    assert torch.equal(found["pose"], whole["pose"][::2])


def test_what_is_written_is_what_was_given(make_store, make_record):
    record = make_record("one")
    record.motion.points[~record.motion.valid] = torch.nan  # means nothing there
    root = make_store([])
    write_shot(root, record)
    build_index(root)
    found = ShotStore.open(root).read(record.id, EVERYTHING)
    assert torch.equal(found["latents"], record.latents.half())
    assert torch.equal(found["audio"], record.audio.half())
    assert found["points"].numpy().tobytes() == record.motion.points.numpy().tobytes()
    assert torch.equal(found["valid"], record.motion.valid)
    assert torch.equal(found["pose"], record.motion.pose)
    about = ShotStore.open(root).about(0)
    assert about["provenance"]["source"] == "one.mp4"
    assert (about["frames"], about["provenance"]["crop_px"]) == (FRAMES, [0, 0, 64, 64])


def test_the_same_clip_gives_the_same_bytes(make_store, make_record):
    one, other = make_store(folder="a"), make_store(folder="b")
    assert clip_of(one, make_record).read_bytes() == clip_of(other, make_record).read_bytes()


def test_options_of_a_store(tmp_path, make_record):
    description = StoreDescription(
        64, (4, 6, 6), (3, 8), audio_rate_hz=50, log_variance=True, mirrored=True
    )
    create_store(tmp_path, description)
    extra = {name: torch.randn(FRAMES, 4, 6, 6) for name in ("log_variance", "latents_mirrored")}
    record = make_record("one", audio=torch.randn(2 * FRAMES, 3, 8), **extra)
    write_shot(tmp_path, record)
    build_index(tmp_path)
    store = ShotStore.open(tmp_path)
    assert store.description == description
    found = store.read(0, {"audio": [19], "log_variance": [9], "latents_mirrored": [0]})
    assert torch.equal(found["audio"][0], record.audio[19].half())
    assert torch.equal(found["log_variance"][0], extra["log_variance"][9].half())
    assert torch.equal(found["latents_mirrored"][0], extra["latents_mirrored"][0].half())


# --- damage


def test_no_flipped_byte_goes_unseen(make_store, make_record):
    root = make_store()
    path = clip_of(root, make_record)
    intact = path.read_bytes()

    @settings(of_one_frame, max_examples=100)
    @given(st.integers(0, len(intact) - 1) | st.integers(0, 1500), st.integers(1, 255))
    def check(position, flip):
        damaged = bytearray(intact)
        damaged[position] ^= flip
        path.write_bytes(damaged)
        with pytest.raises(StoreError, match=f"{path.name}.*preprocess"):
            ShotStore.open(root).read(0, EVERYTHING)

    check()


def test_no_missing_end_goes_unseen(make_store, make_record):
    root = make_store()
    path = clip_of(root, make_record)
    intact = path.read_bytes()

    @of_one_frame
    @given(st.integers(0, len(intact) - 1))
    def check(length):
        path.write_bytes(intact[:length])
        with pytest.raises(StoreError, match=f"{path.name}.*preprocess"):
            ShotStore.open(root).read(0, {"valid": [0]})

    check()


@pytest.mark.parametrize("kind", ["folder", "bucket"])
def test_cut_off_while_it_is_in_use(tmp_path, make_store, make_record, kind):
    root = make_store()
    address = root if kind == "folder" else f"file://{root}"
    store = ShotStore.open(address, cache=tmp_path / "cache")
    store.read(0, EVERYTHING)
    path = clip_of(root, make_record)
    os.truncate(path, path.stat().st_size - 1)
    with pytest.raises(StoreError, match=path.name):
        store.read(0, {"valid": [FRAMES - 1]})


def test_a_clip_that_is_gone(make_store, make_record):
    root = make_store()
    clip_of(root, make_record).unlink()
    with pytest.raises(StoreError, match=f"{clip_of(root, make_record).name}.*not there"):
        ShotStore.open(root).read(0, EVERYTHING)


def test_a_check_reads_every_byte_some_at_a_time(make_store, make_record, monkeypatch):
    root = make_store(frames=300)
    path = clip_of(root, make_record)
    intact = path.read_bytes()
    monkeypatch.setattr("loopy.data.store.shot_store.CHECKED_BYTES", 10_000)
    store = ShotStore.open(root)
    store.check(0)
    assert store.bytes_requested >= len(intact)
    for position in (0, 300, 5000, len(intact) // 2, len(intact) - 1):
        damaged = bytearray(intact)
        damaged[position] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(CorruptFileError, match=path.name):
            ShotStore.open(root).check(0)
    path.unlink()
    with pytest.raises(CorruptFileError, match="not there"):
        ShotStore.open(root).check(0)


def test_a_tensor_that_the_store_does_not_hold(make_store, make_record):
    with pytest.raises(StoreError, match=r"no log_variance, only .*latents.*preprocess"):
        ShotStore.open(make_store()).read(0, {"log_variance": [0]})


def edited(content, old, new):
    """Another text in an intact header of the same length, made as docs/data.md says."""
    length = int.from_bytes(content[:8], "little")
    text = content[8 : 8 + length].replace(old, new)
    zeroed = text[:26] + b"00000000" + text[34:]
    text = text[:26] + b"%08x" % zlib.crc32(zeroed) + text[34:]
    return content[:8] + text + content[8 + length :]


@pytest.mark.parametrize(
    ("schema", "cure"), [(SCHEMA - 1, "preprocess again"), (SCHEMA + 1, "upgrade loopy")]
)
def test_another_schema(make_store, make_record, schema, cure):
    root = make_store()
    path = clip_of(root, make_record)
    was, becomes = (b'"schema":"%d"' % number for number in (SCHEMA, schema))
    path.write_bytes(edited(path.read_bytes(), was, becomes))
    with pytest.raises(StoreError, match=f"{path.name}.*{cure}"):
        ShotStore.open(root).read(0, EVERYTHING)
    about = json.loads((root / "store.json").read_text())
    (root / "store.json").write_text(json.dumps(about | {"schema": schema}))
    with pytest.raises(StoreError, match=rf"store\.json.*{cure}"):
        ShotStore.open(root)


@pytest.mark.parametrize(
    ("old", "new"), [(b'"clip"', b'"clap"'), (b'"F16"', b'"F61"'), (b'"schema":"1', b'"schema":"x')]
)
def test_a_header_that_a_faulty_writer_made(make_store, make_record, old, new):
    root = make_store()
    path = clip_of(root, make_record)
    path.write_bytes(edited(path.read_bytes(), old, new))
    with pytest.raises(StoreError, match=f"{path.name}.*makes no sense.*preprocess"):
        ShotStore.open(root).about(0)


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"schema": 1}', b"\xff\x00"])
def test_what_is_no_store(tmp_path, content):
    with pytest.raises(StoreError, match=r"store\.json.*no shot store"):
        ShotStore.open(tmp_path)
    (tmp_path / "store.json").write_bytes(content)
    with pytest.raises(StoreError, match=r"store\.json"):
        ShotStore.open(tmp_path)


def test_the_page_is_enough_to_write_a_reader(make_store, make_record):
    """docs/data.md in plain Python: row 7 of the points, and its checksum."""
    root = make_store()
    content = clip_of(root, make_record).read_bytes()
    length = int.from_bytes(content[:8], "little")
    header, data = json.loads(content[8 : 8 + length]), content[8 + length :]
    assert content[8 + 26 : 8 + 34].decode() == header["__metadata__"]["crc32"]
    about = json.loads(header["__metadata__"]["clip"])
    start, stop = header["points"]["data_offsets"]
    row_bytes = (stop - start) // about["frames"]
    row = data[start + 7 * row_bytes : start + 8 * row_bytes]
    first_sum = header["points.crc32"]["data_offsets"][0]
    assert zlib.crc32(row) == np.frombuffer(data, "<u4", 1, first_sum + 7 * 4)[0]
    points = np.frombuffer(row, "<f4").reshape(header["points"]["shape"][1:])
    assert (points == make_record("one").motion.points[7].numpy()).all()


# --- writing


def limited(bytes_allowed, action, work):
    """In this process no file may grow beyond that; `action` on the signal that says so."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_allowed, bytes_allowed))
    signal.signal(signal.SIGXFSZ, action)
    work()


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("bytes_allowed", [0, 5000])
def test_a_full_disk_leaves_nothing_and_says_so(make_store, make_record, bytes_allowed):
    root = make_store(["one"])

    def write():
        with pytest.raises(OutputError, match="free space"):
            write_shot(root, make_record("two"))

    assert in_child(partial(limited, bytes_allowed, signal.SIG_IGN, write)) == 0
    files = [path for path in root.glob("clips/**/*") if path.is_file()]
    assert files == [clip_of(root, make_record)]


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_what_a_killed_writer_leaves_is_ignored_and_cleaned_up(make_store, make_record):
    root = make_store(["one"])
    killed = partial(write_shot, root, make_record("two"))
    assert in_child(partial(limited, 5000, signal.SIG_DFL, killed)) == -signal.SIGXFSZ
    (draft,) = root.glob("clips/*/.*")
    assert draft.stat().st_size == 5000
    assert len(build_index(root)) == 1
    assert not draft.exists()
    write_shot(root, make_record("two"))
    assert len(build_index(root)) == 2
    assert remove_drafts(root, older_than_s=0) == 0


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_clip_written_again_is_whole_at_every_moment(make_store, make_record):
    root = make_store(["one"])
    again = partial(write_shot, root, make_record("one"))
    in_child(partial(limited, 5000, signal.SIG_DFL, again))
    ShotStore.open(root).read(0, EVERYTHING)


def test_a_folder_that_cannot_be_made(tmp_path, description, make_record):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="file"):
        create_store(tmp_path / "file" / "store", description)
    create_store(tmp_path, description)
    (tmp_path / "clips").write_text("in the way")
    with pytest.raises(OutputError, match="clips"):
        write_shot(tmp_path, make_record("one"))


def test_a_store_is_of_one_kind(make_store, make_record, description):
    root = make_store()
    create_store(root, description)  # the same again: nothing happens
    with pytest.raises(ConfigurationError, match="models"):
        create_store(root, StoreDescription(64, (4, 6, 6), (3, 8), models={"autoencoder": "beef"}))
    with pytest.raises(ConfigurationError, match=r"latents.*4, 5, 5"):
        write_shot(root, make_record("two", latents=torch.zeros(FRAMES, 4, 5, 5)))
    with pytest.raises(ConfigurationError, match="log_variance"):
        write_shot(root, make_record("two", log_variance=torch.zeros(FRAMES, 4, 6, 6)))
    with pytest.raises(ConfigurationError, match="20, 3, 8"):
        write_shot(root, make_record("two", audio=torch.zeros(2 * FRAMES, 3, 8)))
    motion = replace(make_record("two").motion, size_px=128)
    with pytest.raises(ConfigurationError, match="128 px"):
        write_shot(root, make_record("two", motion=motion))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"id": "../../etc/passwd"}, "hexadecimal"),
        ({"latents": torch.full((FRAMES, 4, 6, 6), torch.nan)}, "latents is not finite"),
        ({"audio": torch.full((FRAMES, 3, 8), 1e5)}, "audio is not finite"),  # in 16 bits
        ({"latents": torch.zeros(FRAMES - 1, 4, 6, 6)}, "9 rows of latents, 10 frames"),
        ({"audio": torch.zeros(FRAMES + 1, 3, 8)}, "11 rows of audio"),
    ],
)
def test_what_could_not_be_trained_on_is_never_stored(make_record, changes, reason):
    with pytest.raises(LoopyError, match=reason):
        make_record("one", **changes)


# --- size


def test_a_hundred_and_sixty_hours_take_three_quarters_of_a_terabyte():
    usual = StoreDescription(512, (4, 64, 64), (13, 768))
    everything = StoreDescription(512, (4, 64, 64), (13, 768), audio_rate_hz=50, log_variance=True)
    assert estimate_size(160 * 90_000, usual) == pytest.approx(0.77e12, rel=0.01)
    assert estimate_size(160 * 90_000, everything) == pytest.approx(1.5e12, rel=0.02)


@pytest.mark.parametrize("options", [{}, {"log_variance": True}, {"mirrored": True, "rate": 50}])
def test_the_estimate_is_the_size_of_a_clip_without_its_header(tmp_path, make_record, options):
    rate = options.pop("rate", 25)
    description = StoreDescription(64, (4, 6, 6), (3, 8), audio_rate_hz=rate, **options)
    create_store(tmp_path, description)
    extra = {"log_variance": "log_variance", "mirrored": "latents_mirrored"}
    tensors = {extra[name]: torch.zeros(FRAMES, 4, 6, 6) for name in options}
    audio = torch.zeros(FRAMES * rate // 25, 3, 8)
    content = write_shot(tmp_path, make_record("one", audio=audio, **tensors)).read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")
    assert len(content) - header == estimate_size(FRAMES, description)


def test_a_store_that_would_fill_the_disk_needs_a_yes(tmp_path):
    free = shutil.disk_usage(tmp_path).free
    check_space(tmp_path / "not" / "yet", int(0.7 * free))
    with pytest.raises(OutputError, match="--yes"):
        check_space(tmp_path / "not" / "yet", int(0.9 * free))
    check_space(tmp_path, int(0.9 * free), yes=True)


# --- processes, and buckets


def test_the_headers_remembered_are_bounded(make_store, monkeypatch):
    root = make_store(["one", "two", "three"])
    for most, read in ((2, 4), (3, 3)):
        monkeypatch.setattr("loopy.data.store.shot_store.HEADERS", most)
        store = ShotStore.open(root)
        for row in (0, 1, 0, 2, 0, 1):  # with room for two: 1 goes when 2 comes, 0 is in use
            store.read(row, {})
        assert store.bytes_requested == read * FIRST_BYTES


def test_over_the_web_nothing_is_sent_but_what_is_counted(tmp_path, make_store, make_record, web):
    root = make_store(frames=400)
    whole = load_file(clip_of(root, make_record))
    cache = tmp_path / "cache"
    store = ShotStore.open(f"http://127.0.0.1:{web.server_port}/store", cache=cache)
    store.storage.gap_bytes = 500
    rows = {"latents": [7, 300, 299, 7], "audio": slice(3, 6)}
    web.sent.clear()
    before = store.bytes_requested
    for name, tensor in store.read(0, rows).items():
        assert torch.equal(tensor, whole[name][rows[name]])
    assert sum(web.sent) == store.bytes_requested - before
    assert sum(web.sent) < FIRST_BYTES + 3 * 292 + 3 * 52 + 3 * 500
    web.sent.clear()
    ShotStore.open(f"http://127.0.0.1:{web.server_port}/store", cache=cache)
    assert len(web.sent) == 2  # store.json and current.json: the index is here already


def test_nothing_at_the_address(tmp_path, web):
    with pytest.raises(StoreError, match=r"http://.*store\.json.*not there"):
        ShotStore.open(f"http://127.0.0.1:{web.server_port}/nowhere")
    with pytest.raises(StoreError, match="foo"):
        ShotStore.open("foo://bucket/store")


def test_it_travels_to_a_spawned_worker(tmp_path, make_store):
    store = ShotStore.open(f"file://{make_store()}", cache=tmp_path / "cache")
    expected = store.read(0, {"pose": [3, 1]})["pose"]
    assert len(pickle.dumps(store)) < 3000
    with get_context("spawn").Pool(1) as pool:
        found = pool.apply(store.read, (0, {"pose": [3, 1]}))
    assert torch.equal(found["pose"], expected)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_worker_of_a_bucket_is_told_and_does_not_hang(tmp_path, make_store):
    root = make_store()
    bucket = ShotStore.open(f"file://{root}", cache=tmp_path / "cache")
    folder = ShotStore.open(root)

    def work():
        signal.alarm(10)
        folder.read(0, EVERYTHING)
        with pytest.raises(ConfigurationError, match="spawn"):
            bucket.read(0, EVERYTHING)

    assert in_child(work) == 0
