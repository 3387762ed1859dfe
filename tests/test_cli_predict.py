"""`loopy predict`: a list of jobs, finished once, reported each."""

import csv
import json
import subprocess
import sys
from itertools import chain
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopy.cli import main
from loopy.errors import ManifestError
from loopy.pipeline import LoopyPipeline
from loopy.training.predict import Job, Jobs, read_manifest

QUIET = ["--trainer.enable_progress_bar=false", "--trainer.accelerator=cpu"]


def words(folder):
    return [
        "predict", "--config", "configs/predict.yaml", "--data.manifest", str(folder / "jobs.csv"),
        "--model.model", str(folder / "tiny"), "--trainer.default_root_dir", str(folder / "run"),
        *QUIET,
    ]  # fmt: skip


def predict(folder, *more):
    return main([*words(folder), *more])


def report(folder):
    with (folder / "jobs.report.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def statuses(folder):
    return [row["status"] for row in report(folder)]


def write_jobs(folder, *lines):
    (folder / "jobs.csv").write_text("\n".join(lines) + "\n")


def test_a_list_is_worked_off(desk, write_speech, capfd):
    write_jobs(
        desk,
        "portrait,sound,out,seed,box",
        "portrait.png,speech.wav,first.npy,3,0 0 20 20",
        "lost.png,speech.wav,second.mp4,,",
        "portrait.png,voice.wav,third.mp4,,",
    )
    write_speech(desk / "voice.wav", 0.2)
    assert predict(desk) == 1
    assert statuses(desk) == ["done", "failed", "done"]
    assert "picture" in report(desk)[1]["error"]
    assert "loopy: job 2 failed: picture" in capfd.readouterr().err
    made = {path.name for path in desk.iterdir() if path.suffix in (".npy", ".mp4")}
    assert made == {"first.npy", "third.mp4"}
    assert not (desk / "run").exists()  # a list needs no folder of a run

    pipe = LoopyPipeline.from_pretrained("tiny")
    video = pipe(pipe.prepare("portrait.png", box=(0, 0, 20, 20)), "speech.wav", seed=3)
    assert np.array_equal(np.load("first.npy"), video.frames)

    (desk / "lost.png").write_bytes((desk / "portrait.png").read_bytes())
    third = (desk / "third.mp4").stat().st_mtime_ns
    assert predict(desk) == 0
    assert statuses(desk) == ["skipped", "done", "skipped"]
    assert (desk / "third.mp4").stat().st_mtime_ns == third

    write_speech(desk / "voice.wav", 0.2, seed=1)  # other content, same name
    (desk / "second.mp4").unlink()
    assert predict(desk) == 0
    assert statuses(desk) == ["skipped", "done", "done"]

    assert predict(desk, "--model.steps=1") == 0
    assert statuses(desk) == ["done"] * 3
    assert json.loads((desk / "first.npy.json").read_text())["seed"] == 3


def test_a_job_that_fails_for_any_reason_stops_no_other_one(desk, monkeypatch, capfd):
    """As a library that meets what its makers did not foresee."""
    frame = LoopyPipeline.frame

    def odd(pipe, portrait, **options):
        kind = {"2.png": ZeroDivisionError, "3.png": MemoryError}.get(Path(portrait).name)
        if kind is not None:
            raise kind()
        return frame(pipe, portrait, **options)

    monkeypatch.setattr(LoopyPipeline, "frame", odd)
    for name in ("2.png", "3.png"):
        (desk / name).write_bytes((desk / "portrait.png").read_bytes())
    portraits = ("2.png", "3.png", "x\0.png", "portrait.png", "portrait.png")
    outs = ("2.npy", "3.npy", "4.npy", "a\0.npy", "6.npy")
    rows = zip(portraits, outs, strict=True)
    write_jobs(desk, "portrait,sound,out", *(f"{one},speech.wav,{out}" for one, out in rows))
    assert predict(desk, "--model.steps=1") == 1
    assert statuses(desk) == ["failed"] * 4 + ["done"]
    reasons = [row["error"] for row in report(desk)]
    assert reasons[:2] == ["ZeroDivisionError", "MemoryError"]
    assert "it has a NUL" in reasons[2]
    assert "it has a NUL" in reasons[3]
    assert "Traceback" not in capfd.readouterr().err
    assert (desk / "6.npy").exists()


def test_a_video_of_somebody_else_is_not_taken_for_finished(desk):
    write_jobs(desk, "portrait,sound,out", "portrait.png,speech.wav,o.mp4")
    assert predict(desk, "--model.steps=1") == 0
    made = (desk / "o.mp4").read_bytes()
    (desk / "o.mp4").write_bytes(b"of another run")
    assert predict(desk, "--model.steps=1") == 0
    assert statuses(desk) == ["done"]
    assert (desk / "o.mp4").read_bytes() == made


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        (["portrait.png,o.mp4,o.mp4"], "line 2: out o.mp4 would replace line 2: sound o.mp4"),
        (
            ["portrait.png,a.wav,a.mp4", "portrait.png,a.mp4,b.mp4"],
            "line 2: out a.mp4 would replace line 3: sound a.mp4",
        ),
        (["p.png,a.wav,o.mp4", "p.png,b.wav,../man/o.mp4"], "are one place"),
        (["p.png,a.wav,new", "p.png,b.wav,new/o.mp4"], "is inside line 2: out new"),
        (["p.png,a.wav,jobs"], "jobs.json"),
        (["p.png,a.wav,o", "o.json,b.wav,b.mp4"], "line 2: record o.json would replace"),
        (["p.png,a.wav,jobs.report.csv/o.mp4"], "is inside report"),
    ],
)
def test_no_job_replaces_what_another_one_needs(tmp_path, monkeypatch, rows, told):
    (tmp_path / "man").mkdir()
    monkeypatch.chdir(tmp_path / "man")
    path = Path("jobs.json" if "jobs.json" in told else "jobs.csv")
    path.write_text("\n".join(["portrait,sound,out", *rows]))
    with pytest.raises(ManifestError) as caught:
        read_manifest(path)
    assert told in str(caught.value)


def test_no_recipe_is_replaced(desk):
    """Where the folder of the run is that of a training, or of the user's recipe."""
    (desk / "config.yaml").write_text("# of a training")
    write_jobs(desk, "portrait,sound,out", "portrait.png,speech.wav,o.mp4")
    assert predict(desk, "--model.steps=1", "--trainer.default_root_dir=.") == 0
    assert (desk / "config.yaml").read_text() == "# of a training"


def test_no_job_writes_into_the_model(desk, capsys):
    write_jobs(desk, "portrait,sound,out", "portrait.png,speech.wav,tiny/model_index")
    before = (desk / "tiny/model_index.json").read_bytes()
    assert predict(desk) == 2
    assert "would replace the model's model_index.json" in capsys.readouterr().err
    assert (desk / "tiny/model_index.json").read_bytes() == before


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("portrait,out\na.png,a.mp4", "has the columns portrait, out; give portrait, sound, out"),
        ("portrait,sound,out,sed\na,b,c,1", "columns portrait, sound, out, sed"),
        ("portrait,sound,out,out\na,b,c,d", "each once"),
        ("", "has the columns (none)"),
        ("portrait,sound,out", "holds no job"),
        ("portrait,sound,out\na,b,c\na,,d", "line 3 has no sound"),
        ("portrait,sound,out\na,b", "line 2 has no out"),
        ("portrait,sound,out\na,b,c,d", "line 2 has more values than columns"),
        ("portrait,sound,out\na,b,c\nd,e,c", "line 3: "),
        ("portrait,sound,out,seed\na,b,c,1.5", "line 2: seed is '1.5'"),
        ("portrait,sound,out,box\na,b,c,1 2 3", "line 2: box is '1 2 3'"),
        ("portrait,sound,out,box\na,b,c,left", "line 2: box is 'left'"),
        ("portrait,sound,out,box\na,b,c,0 0 nan 9", "line 2: box is '0 0 nan 9'; give left top"),
        ("portrait,sound,out,box\na,b,c,9 9 9 9", "as in '40 20 440 420', or nothing"),
        ('portrait,sound,out\n"a,b,c', "cannot be read"),
    ],
)
def test_a_faulty_list_is_refused(tmp_path, text, told):
    (tmp_path / "jobs.csv").write_text(text)
    with pytest.raises(ManifestError) as caught:
        read_manifest(tmp_path / "jobs.csv")
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_list_of_another_encoding(tmp_path):
    (tmp_path / "jobs.csv").write_bytes("portrait,sound,out\né,b,c".encode("latin-1"))
    with pytest.raises(ManifestError, match="UTF-8"):
        read_manifest(tmp_path / "jobs.csv")


def test_paths_are_relative_to_the_list(tmp_path):
    text = "\ufeffout,portrait,sound,box\r\nv/a.mp4,a b.png,/x/s.wav,1 2 3.5 4\r\n"
    (tmp_path / "jobs.csv").write_text(text, encoding="utf-8", newline="")
    assert read_manifest(tmp_path / "jobs.csv") == [
        Job(
            1,
            tmp_path / "a b.png",
            Path("/x/s.wav"),
            tmp_path / "v/a.mp4",
            box=(1.0, 2.0, 3.5, 4.0),
        )
    ]


@pytest.mark.parametrize("box", ["1 2 3 4", '"1,2,3,4"', '"[1, 2, 3, 4]"'])
def test_every_form_of_a_box(tmp_path, box):
    (tmp_path / "jobs.csv").write_text(f"portrait,sound,out,box\na,b,c,{box}\n")
    assert read_manifest(tmp_path / "jobs.csv")[0].box == (1, 2, 3, 4)


@given(jobs=st.integers(0, 30), ranks=st.integers(1, 9))
def test_ranks_partition_the_jobs(jobs, ranks):
    data, numbers, shares = Jobs("jobs.csv"), list(range(jobs)), []
    data.jobs = numbers
    for rank in range(ranks):
        data.trainer = SimpleNamespace(global_rank=rank, world_size=ranks)
        shares.append(list(data.predict_dataloader()))
    assert sorted(chain(*shares)) == numbers
    assert all(job % ranks == rank for rank in range(ranks) for job in shares[rank])


@pytest.mark.parametrize(
    ("head", "more", "told"),
    [
        ("portrait,sound", (), "give portrait, sound, out"),
        (None, (), "jobs.csv cannot be read"),
        (
            "portrait,sound,out",
            ("--model.crf", "99"),
            "is 99, expected a whole number from 0 to 51",
        ),
        ("portrait,sound,out", ("--model.model", "nobody"), "no model 'nobody'"),
    ],
)
def test_bad_input_is_one_line(tmp_path, capsys, head, more, told):
    if head is not None:
        write_jobs(tmp_path, head, "a.png,b.wav,c.mp4")
    assert predict(tmp_path, *more) == 2
    errors = [n for n in capsys.readouterr().err.splitlines() if n.startswith("loopy: ")]
    assert len(errors) == 1
    assert told in errors[0]
    assert not (tmp_path / "jobs.report.csv").exists()


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 3])
def test_two_ranks_share_a_list(desk, jobs):
    lines = [f"portrait.png,speech.wav,{n}.npy,{n}" for n in range(jobs - 1)]
    write_jobs(desk, "portrait,sound,out,seed", *lines, "portrait.png,lost.wav,lost.npy,0")
    ranks = ["--trainer.devices=2", "--trainer.strategy=ddp"]
    done = subprocess.run(
        [sys.executable, "-m", "loopy", *words(desk), *ranks], capture_output=True, text=True
    )
    assert done.returncode == 1, done.stderr
    status = {int(row["job"]): row["status"] for row in report(desk)}
    assert status == dict.fromkeys(range(1, jobs), "done") | {jobs: "failed"}
