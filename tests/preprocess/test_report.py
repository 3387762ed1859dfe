"""A report counts what an index holds, and measures motion as a model is shown it."""

import json
from math import log1p
from zlib import crc32

import pytest
import torch
import yaml

from loopy.cli import main
from loopy.data.store.description import StoreDescription, create_store
from loopy.data.store.index import TRAIN
from loopy.data.store.index_build import build_index
from loopy.data.store.shot_store import ShotStore
from loopy.data.store.shots import Provenance, ShotRecord, shot_id, shot_path, write_shot
from loopy.models import AudioToLatents
from loopy.motion import MotionSequence, expression_variance, head_motion_variance
from loopy.preprocess.ledger import Ledger, ShotOutcome, ledger_path, write_ledger
from loopy.preprocess.motion_scale import MotionScale, motion_scale
from loopy.preprocess.report import listed_shots, store_report
from loopy.randomness import generator

SIZE, FRAMES, CLIP = 64, 40, 12
NOBODY = "nobody's"


def swaying(name, *, apart_px=0.0, known=True, wobble=None):
    """A face that is left and right in turn; all of its points together, or each by itself."""
    points = torch.rand(68, 2, generator=generator(name)) * 32
    sway = apart_px / 2 * (-1.0) ** torch.arange(FRAMES)
    points = points + torch.stack([sway, 0 * sway], -1)[:, None]
    if wobble:
        points = points + wobble * torch.randn(points.shape, generator=generator(name, "w"))
    valid = torch.full((FRAMES, 68), known)
    motion = MotionSequence(points, torch.zeros(FRAMES, 3), valid, SIZE)
    return ShotRecord(
        shot_id(name, 0, 1, {}),
        torch.zeros(FRAMES, 4, 2, 2),
        torch.zeros(FRAMES, 3, 8),
        motion,
        Provenance(f"{name}.mp4", name, 0, FRAMES / 25, (0, 0, 64, 64), 25, identity=name),
    )


@pytest.fixture
def make_store(tmp_path):
    def make(*records, validation=0.0, test=0.0):
        root = tmp_path / "store"
        create_store(root, StoreDescription(SIZE, (4, 2, 2), (3, 8)))
        for record in records:
            write_shot(root, record)
        build_index(root, validation=validation, test=test)
        return root

    return make


def outcome(record, status="kept"):
    return ShotOutcome(
        record.id, 0, FRAMES / 25, FRAMES, status, *(("x", "y") * (status != "kept"))
    )


@pytest.fixture
def ledgers():
    """Who is kept twice, once, not at all, gone, rejected."""
    return {name: swaying(name) for name in ("twice", "once", "nobody's", "gone", "rejected")}


@pytest.fixture
def store(make_store, ledgers):
    root = make_store(*(ledgers[name] for name in ("twice", "once", "nobody's")))
    kept = {"a.mp4": ["twice", "once"], "b.mp4": ["twice"], "c.mp4": ["gone"]}
    for source, names in kept.items():
        write_ledger(root, Ledger(source, "s", 1, shots=tuple(outcome(ledgers[n]) for n in names)))
    rejected = outcome(ledgers["rejected"], "rejected")
    write_ledger(root, Ledger("d.mp4", "s", 1, shots=(rejected,)))
    return root


def test_the_index_holds_what_the_report_counts(store, ledgers, capsys):
    assert len(ShotStore.open(store)) == 3  # all files there are
    assert main(["data", "index", str(store)]) == 0
    assert capsys.readouterr().out == "2 shots\n"
    index, found = ShotStore.open(store).index, store_report(store)
    held = {index.id(row) for row in range(len(index))}
    assert held == {shot.shot for shot in found.kept} == {ledgers[n].id for n in ("once", "twice")}
    assert list(found.unnamed) == [ledgers["nobody's"].id]
    assert list(found.missing) == [ledgers["gone"].id]
    sizes = {n: (store / shot_path(ledgers[n].id)).stat().st_size for n in ("once", "nobody's")}
    assert (found.bytes, found.unnamed_bytes) == (2 * sizes["once"], sizes["nobody's"])
    assert "left out of the index: 1 files" in str(found)
    assert "gone: 1 files" in str(found)
    assert found.hours == pytest.approx(2 * FRAMES / 25 / 3600)


def test_a_video_is_taken_out_by_its_ledger(store, ledgers):
    ledger_path(store, "a.mp4").unlink()
    index = build_index(store, keep=listed_shots(store))
    assert [index.id(row) for row in range(len(index))] == [ledgers["twice"].id]


def test_a_store_without_ledgers_is_indexed_as_it_is(make_store):
    root = make_store(swaying("one"), swaying("two"))
    assert listed_shots(root) is None
    assert main(["data", "index", str(root)]) == 0
    assert len(ShotStore.open(root)) == 2


def test_the_scale_is_that_of_the_formula(make_store):
    """A sway of d px has a variance of (d / 2)²; at 512 px it is 8 times as wide."""
    records = [swaying("calm", apart_px=0.5), swaying("lively", apart_px=2.0)]
    scale = motion_scale(ShotStore.open(make_store(*records)), clip_frames=CLIP, windows=64)
    calm, lively = log1p((0.25 * 8) ** 2), log1p((1 * 8) ** 2)
    assert scale.log_mean == pytest.approx(((calm + lively) / 2, 0), abs=1e-5)
    assert scale.log_std == pytest.approx(((lively - calm) / 2, 1), abs=1e-5)


def test_only_what_is_known_and_trained_on_counts(make_store):
    records = [swaying(str(n), apart_px=n / 4) for n in range(8)]
    root = make_store(*records, swaying("hidden", known=False), validation=0.3, test=0.3)
    store = ShotStore.open(root)
    trained = {store.index.id(row) for row in (store.index["split"] == TRAIN).nonzero()[0]}
    kept = [n for n in range(8) if records[n].id in trained]
    assert 1 < len(kept) < 8
    logs = torch.tensor([log1p(n * n) for n in kept])
    windows = len(trained) * 50
    scale = motion_scale(store, clip_frames=CLIP, windows=windows)
    assert scale.log_mean[0] == pytest.approx(logs.mean().item(), abs=1e-4)
    assert scale.log_std[0] == pytest.approx(logs.std(correction=0).item(), abs=1e-4)


def test_a_model_is_shown_standard_numbers(make_store):
    """What the report says is pasted into the network that standardises."""
    clips = [swaying(str(n), apart_px=n / 8, wobble=0.1 + n / 64) for n in range(24)]
    store = ShotStore.open(make_store(*clips))
    found = yaml.safe_load(str(motion_scale(store, clip_frames=CLIP, windows=512)))
    network = AudioToLatents(audio_width=4, time_dim=4, num_embeddings=2, dim=4, heads=1, **found)
    rows = slice(6, 6 + CLIP)
    measures = []
    for row in range(len(store)):
        track = store.read(row, {"points": rows, "pose": rows, "valid": rows})
        motion = MotionSequence(**track, size_px=SIZE)
        measures.append(torch.stack([head_motion_variance(motion), expression_variance(motion)]))
    shown = network._standardised(torch.stack(measures))
    assert shown.mean(0).tolist() == pytest.approx([0, 0], abs=0.2)
    assert shown.std(0).tolist() == pytest.approx([1, 1], abs=0.2)


def test_the_report_says_it_for_a_recipe(make_store, tmp_path, capsys):
    root = make_store(swaying("calm", apart_px=0.5), swaying("lively", apart_px=2.0))
    assert main(["data", "report", str(root), "--out", str(tmp_path / "out")]) == 0
    told = capsys.readouterr().out
    written = json.loads((tmp_path / "out" / "report.json").read_text())["motion scale"]
    assert written["clip_frames"] == 12
    scale = MotionScale(**written)
    assert scale.log_mean[0] > 0
    assert all(line.strip() in told for line in str(scale).splitlines())
    assert main(["data", "report", str(root), "--clip_frames", "40"]) == 0
    assert "log_mean" not in capsys.readouterr().out  # no clip is longer


def flip(path, place=-1):
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("where", ["clip", "index"])
def test_a_report_is_told_whatever_is_damaged(make_store, tmp_path, capsys, where):
    record = swaying("one", apart_px=1.0)
    root = make_store(record)
    file = root / shot_path(record.id) if where == "clip" else root / "index" / "current.json"
    file.write_bytes(file.read_bytes()[:-8])
    assert main(["data", "report", str(root), "--out", str(tmp_path / "out")]) == 0
    told = capsys.readouterr().out
    assert told.startswith("0 videos, 0 shots")
    assert f"how much faces move is unknown: {file}" in told
    content = json.loads((tmp_path / "out" / "report.json").read_text())
    assert content["motion scale"] is None
    assert str(file) in content["motion scale is unknown"]


def test_a_check_lists_what_is_damaged(store, ledgers, capsys):
    """In rows or in a header, of clips in the index or kept; and what is gone."""
    files = {name: store / shot_path(record.id) for name, record in ledgers.items()}
    write_ledger(store, Ledger("c.mp4", "s", 1))
    assert main(["data", "check", str(store)]) == 0
    assert capsys.readouterr().out == "3 shots, 0 damaged\n"
    flip(files["once"])  # a row
    flip(files["nobody's"], 40)  # its header, and no ledger knows it
    files["twice"].unlink()
    assert main(["data", "check", str(store)]) == 1
    told = capsys.readouterr().out
    assert told.endswith("3 shots, 3 damaged\n")
    lines = {line.partition(" of ")[0]: line for line in told.splitlines()[:-1]}
    assert f"of a.mp4: {files['once']}: row 39 of " in lines[ledgers["once"].id]
    assert f"of an unknown video: {files[NOBODY]}: its header" in lines[ledgers[NOBODY].id]
    assert "it is not there" in lines[ledgers["twice"].id]
    assert files["once"].exists()


def test_a_check_removes_what_is_damaged_and_nothing_else(store, ledgers, capsys):
    files = {name: store / shot_path(record.id) for name, record in ledgers.items()}
    flip(files["once"])
    text = files["twice"].read_bytes()  # of a newer loopy: not damaged, and not ours to delete
    files["twice"].write_bytes(with_schema(text, 2))
    assert main(["data", "check", str(store), "--remove"]) == 1
    told = capsys.readouterr().out
    assert "schema is 2, newer" in told
    # one of the four was gone before
    assert told.endswith("4 shots, 3 damaged, 2 deleted: run loopy preprocess again\n")
    assert [files[name].exists() for name in ("once", "twice", NOBODY)] == [False, True, True]
    assert main(["data", "check", f"file://{store}", "--remove"]) == 2
    assert "in a bucket" in capsys.readouterr().err


def with_schema(content, schema):
    length = int.from_bytes(content[:8], "little")
    text = content[8 : 8 + length].replace(b'"schema":"1"', b'"schema":"%d"' % schema)
    zeroed = text[:26] + b"00000000" + text[34:]
    text = text[:26] + b"%08x" % crc32(zeroed) + text[34:]
    return content[:8] + text + content[8 + length :]


def test_a_store_that_is_not_indexed_yet_has_a_report(store, capsys):
    (store / "index" / "current.json").unlink()
    assert main(["data", "report", str(store)]) == 0
    assert "log_mean" not in capsys.readouterr().out


def test_an_empty_store_has_nothing_to_show(make_store, tmp_path, capsys):
    words = ["data", "view", str(make_store()), "--parts", "x", "--sheet", str(tmp_path / "a.png")]
    assert main(words) == 2
    assert "no shots to show" in capsys.readouterr().err
