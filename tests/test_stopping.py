"""Asked to stop, the real command ends in one line and leaves nothing half done."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

import pytest

from loopy.cli import main
from loopy.stopping import Stopped, stopped_by_signals

SIGNALS = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]


POSIX = pytest.mark.skipif(sys.platform == "win32", reason="a process there gets no such signals")


def drafts(folder):
    return [path for path in folder.rglob(".*") if path.name.startswith(".loopy-")]


def _heed_signals():
    """Tests may run where signals are ignored (nohup, in the background), which is inherited."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_DFL)


def stopped(folder, words, number, *, begun=drafts):
    """The exit code, and the lines on stderr, of a command that gets a signal once it has begun."""
    with subprocess.Popen(
        [sys.executable, "-m", "loopy", *map(str, words)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"},
        preexec_fn=_heed_signals,
    ) as process:
        end = time.monotonic() + 120
        while not begun(folder) and time.monotonic() < end and process.poll() is None:
            time.sleep(0.02)
        process.send_signal(number)
        _, told = process.communicate(timeout=120)
    return process.returncode, told


def ends_in_one_line(answer, number):
    code, told = answer
    assert code == 128 + number, told
    assert told.splitlines()[-1] == f"loopy: stopped by {number.name}"
    assert "Traceback" not in told


@POSIX
@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_leaves_the_folder_as_it_was(desk, write_speech, number):
    write_speech(desk / "speech.wav", 60.0)
    before = {path.name for path in desk.iterdir()}
    words = ["animate", "portrait.png", "speech.wav", "-o", "out.mp4", "--model", "tiny"]
    ends_in_one_line(stopped(desk, [*words, "--sheet", "sheet.png"], number), number)
    assert {path.name for path in desk.iterdir()} == before


@POSIX
def test_a_list_of_jobs_stops_in_its_row(desk, write_speech):
    """It is no row that failed, and the rows behind it are not begun."""
    number = signal.SIGTERM
    write_speech(desk / "long.wav", 60.0)
    rows = [f"portrait.png,{sound}.wav,{sound}.mp4" for sound in ("speech", "long", "last")]
    (desk / "jobs.csv").write_text("\n".join(["portrait,sound,out", *rows]))
    before = {path.name for path in desk.iterdir()}
    words = ["predict", "--config", "configs/predict.yaml", "--data.manifest", "jobs.csv"]
    words += ["--model.model", "tiny", "--model.steps", "1", "--trainer.accelerator=cpu"]
    words += ["--trainer.default_root_dir", "."]

    def in_the_second_row(folder):
        return (folder / "speech.mp4").exists() and any(
            path.stat().st_size for path in drafts(folder)
        )

    ends_in_one_line(stopped(desk, words, number, begun=in_the_second_row), number)
    made = {"jobs.report.csv", "speech.mp4", "speech.mp4.json"}
    assert {path.name for path in desk.iterdir()} == before | made
    _, *told = (desk / "jobs.report.csv").read_text().splitlines()
    assert [row.partition(",")[0] for row in told] == ["1"]


@POSIX
def test_killed_at_once_the_next_run_cleans_up(desk, write_speech):
    write_speech(desk / "long.wav", 60.0)
    words = ["animate", "portrait.png", "long.wav", "-o", "out.mp4", "--model", "tiny"]
    assert stopped(desk, words, signal.SIGKILL)[0] == -signal.SIGKILL
    assert len(drafts(desk)) == 1
    words[2] = "speech.wav"
    assert main([*words, "--steps", "1"]) == 0
    assert not drafts(desk)


def test_a_stop_that_became_another_error_is_a_stop():
    def convert():
        try:
            signal.raise_signal(signal.SIGTERM)
        except Stopped:
            raise ValueError("no shape") from None

    def fail():
        raise ValueError("as it was")

    with pytest.raises(Stopped), stopped_by_signals():
        convert()
    with pytest.raises(ValueError, match="as it was"), stopped_by_signals():
        fail()


@POSIX
def test_a_swallowed_stop_is_raised_at_the_end():
    def swallow():
        for _ in range(2):  # the second one does not disturb
            with suppress(Stopped):
                signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Stopped, match="stopped by SIGTERM"), stopped_by_signals():
        swallow()
