"""Headers that a faulty or hostile writer made, under right checksums: one clip is left out."""

import json
import os
import warnings
import zlib

import numpy as np
import pytest
import torch

from loopy.cli import main
from loopy.data.store.description import StoreDescription
from loopy.data.store.index import TYPES, Index
from loopy.data.store.index_build import build_index
from loopy.data.store.shot_store import ShotStore
from loopy.data.store.shots import shot_path
from loopy.data.store.windows import REFERENCE_DISTANCE, draw_window
from loopy.errors import CorruptFileError, StoreError

HUGE = 10**400


def forge(path, change):
    """Writes another header, with a right checksum of itself."""
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    about = json.loads(header["__metadata__"]["clip"])
    change(header, about)
    header["__metadata__"] |= {"crc32": "00000000", "clip": json.dumps(about)}
    text = json.dumps(header, separators=(",", ":")).encode()
    digits = b"%08x" % zlib.crc32(text)
    text = text[:26] + digits + text[34:]
    path.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + length :])


def told(name, value):
    return lambda header, about: about.update({name: value})


def sourced(name, value):
    return lambda header, about: about["provenance"].update({name: value})


def shaped(name, *shape):
    return lambda header, about: header[name].update(shape=list(shape))


def placed(*offsets):
    return lambda header, about: header["pose"].update(data_offsets=list(offsets))


CHANGES = {
    "id": told("id", 5),
    "id that is a path": told("id", "../../victim"),
    "frames as words": told("frames", "x"),
    "many frames": told("frames", 10**9),
    "no frames": told("frames", 0),
    "true frames": told("frames", True),
    "fewer frames": told("frames", 9),
    "measure": told("head_motion", "calm"),
    "negative measure": told("expression", -1),
    "endless measure": told("expression", float("inf")),
    "huge measure": told("head_motion", HUGE),
    "no provenance": told("provenance", []),
    "identity": sourced("identity", 5),
    "source": sourced("source", None),
    "start": sourced("start_s", "1"),
    "stop": sourced("stop_s", float("nan")),
    "huge stop": sourced("stop_s", HUGE),
    "crop": sourced("crop_px", [0, 0, 1]),
    "notes": sourced("notes", 5),
    "strange": sourced("strange", 5),
    "no rows": shaped("pose", 0, 3),
    "negative shape": shaped("latents", -10, -4, 6, 6),
    "no shape": shaped("valid"),
    "fractions": shaped("pose", 10.0, 3),
    "huge shape": shaped("pose", 10**9, 3),
    "other shape": shaped("latents", 10, 6, 4, 6),
    "words": lambda header, about: header["pose"].update(shape="103"),
    "no checksum": lambda header, about: header.pop("pose.crc32"),
    "few checksums": shaped("pose.crc32", 9),
    "no latents": lambda header, about: [header.pop(n) for n in ("latents", "latents.crc32")],
    "type": lambda header, about: header["pose"].update(dtype="U32"),
    "listed type": lambda header, about: header["pose"].update(dtype=["F32"]),
    "offsets": placed(0, 10**12),
    "backwards": placed(120, 0),
    "negative offsets": placed(-120, 0),
    "three offsets": placed(0, 60, 120),
    "schema": lambda header, about: header["__metadata__"].update(schema="1e999"),
    "tensor that is none": lambda header, about: header.update(pose=5),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_one_hostile_header_ends_nothing(make_store, make_record, change, capfd):
    root = make_store(["one", "two"])
    wrong, right = (make_record(name).id for name in ("one", "two"))
    path = root / shot_path(wrong)
    forge(path, change)
    with pytest.raises(CorruptFileError, match=f"{path.name}: .*makes no sense.*preprocess"):
        ShotStore.open(root).read(wrong, {"pose": [0]})
    assert main(["data", "check", str(root)]) == 1
    assert capfd.readouterr().out.endswith("2 shots, 1 damaged\n")
    assert main(["data", "index", str(root)]) == 1
    out = capfd.readouterr().out
    assert f"left out: {path}: " in out
    assert out.endswith("1 shots, 1 left out\n")
    index = Index.open(root)
    assert [index.id(row) for row in range(len(index))] == [right]


def test_an_index_of_whole_clips_ends_well(make_store, capfd):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert main(["data", "index", str(make_store(["one", "two"]))]) == 0
    assert capfd.readouterr().out == "2 shots\n"


def test_nesting_without_end_is_an_error(make_store, make_record):
    root = make_store()
    path = root / shot_path(make_record("one").id)
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    text = content[8 : 8 + length].rstrip()[:-1] + b',"x":' + b"[" * 100_000
    text = text[:26] + b"%08x" % zlib.crc32(text[:26] + b"0" * 8 + text[34:]) + text[34:]
    path.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + length :])
    with pytest.raises(CorruptFileError, match="nested too deeply"):
        ShotStore.open(root).about(0)
    for file in ("store.json", "index/current.json"):
        there = (root / file).read_bytes()
        (root / file).write_text("[" * 100_000)
        with pytest.raises(StoreError, match=file):
            ShotStore.open(root)
        (root / file).write_bytes(there)


def test_a_header_that_no_memory_holds(make_store, make_record):
    root = make_store()
    path = root / shot_path(make_record("one").id)
    with path.open("r+b") as file:  # the file is one large hole
        file.write((2**42).to_bytes(8, "little"))
        file.truncate(2**43)
    with pytest.raises(CorruptFileError, match="damaged or cut off"):
        ShotStore.open(root).about(0)


def test_another_place_in_the_store_is_not_the_clip(make_store, make_record):
    root = make_store(["one", "two"])
    path = root / shot_path(make_record("one").id)
    (root / "clips/zz").mkdir()
    path.rename(root / "clips/zz" / path.name)
    with pytest.warns(
        UserWarning, match=f"zz/{path.name}: it holds shot .* clips/{path.stem[:2]}/"
    ):
        assert len(build_index(root)) == 1


@pytest.mark.parametrize("file", ["clip", "store.json", "index/current.json", "videos/a.json"])
def test_nobody_waits_at_a_pipe(make_store, make_record, file, capfd):
    root = make_store(["one", "two"])
    path = root / (shot_path(make_record("one").id) if file == "clip" else file)
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    codes = [main(["data", verb, str(root)]) for verb in ("check", "report", "index")]
    said = "".join(capfd.readouterr())
    assert f"{path.name} is a pipe or a device" in said
    expected = {"clip": [1, 0, 1], "store.json": [2, 2, 2], "index/current.json": [2, 0, 2]}
    assert codes == expected.get(file, [1, 2, 2])


def test_nobody_waits_at_a_pipe_in_an_index(make_store):
    root = make_store(["one", "two"])
    path = Index.open(root).folder / "frames.npy"
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(StoreError, match=r"pipe or a device.*build the index again"):
        ShotStore.open(root)
    build_index(root)
    assert len(ShotStore.open(root)) == 2


@pytest.mark.parametrize("name", TYPES)
def test_any_flipped_bit_of_a_head_is_cured_by_indexing(make_store, name):
    root = make_store(["one"])
    path = Index.open(root).folder / f"{name}.npy"
    intact = path.read_bytes()
    for position in range(80):
        damaged = bytearray(intact)
        damaged[position] ^= 8
        path.write_bytes(damaged)
        try:
            ShotStore.open(root)
        except StoreError as error:
            assert "build the index again" in str(error)  # noqa: PT017 (some bits mean nothing)
    path.write_bytes(intact[:43] + bytes([intact[43] ^ 8]) + intact[44:])
    assert main(["data", "check", str(root)]) == 2
    assert main(["data", "report", str(root)]) == 0
    assert main(["data", "index", str(root)]) == 0
    assert path.read_bytes() == intact
    assert main(["data", "check", str(root)]) == 0


def test_a_store_has_sizes():
    plain = StoreDescription(64, (4, 6, 6), (3, 8)).to_json()
    for change in (
        {"size_px": 0},
        {"size_px": "64"},
        {"latent_shape": [4, 6]},
        {"latent_shape": [4, -6, -6]},
        {"audio_shape": "38"},
        {"models": {"vae": 5}},
        {"mirrored": 1},
    ):
        with pytest.raises(StoreError, match="describes no shot store"):
            StoreDescription.from_json(json.dumps(plain | change))
    assert StoreDescription.from_json(json.dumps(plain)) == StoreDescription(64, (4, 6, 6), (3, 8))


@pytest.mark.parametrize("clip_frames", [1, 3, 12])
def test_the_portrait_is_drawn_among_all_frames_that_are_far_enough(clip_frames):
    """As if each frame was looked at, in memory that does not grow with what an index says."""
    for frames in [*range(clip_frames + 1, 120), 500]:
        for history in (0, 7, 40):
            drawn, again = (torch.Generator().manual_seed(frames) for _ in range(2))
            window = draw_window(frames, drawn, clip_frames=clip_frames, history=history)
            spare = frames - clip_frames
            begun = history if history <= spare else 0
            start = int(torch.randint(begun, spare + 1, (), generator=again))
            torch.rand((), generator=again)
            every = np.arange(frames)
            distance = np.maximum(start - every, every - (start + clip_frames - 1))
            far = every[distance >= REFERENCE_DISTANCE]
            places = far if len(far) else every[distance >= 1]
            place = int(torch.randint(0, len(places), (), generator=again))
            assert (window.start, window.reference) == (start, places[place])
    assert draw_window(2**40, drawn, clip_frames=12, history=0).reference < 2**40
