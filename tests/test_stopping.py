"""Asked to stop, the real command ends in one line and leaves nothing half done."""

import os
import signal
import subprocess
import sys
import time

import pytest

SIGNALS = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]


def drafts(folder):
    return [path for path in folder.iterdir() if path.name.startswith(".")]


@pytest.mark.skipif(sys.platform == "win32", reason="a process there gets no such signals")
@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_leaves_the_folder_as_it_was(desk, write_speech, number):
    write_speech(desk / "speech.wav", 60.0)
    before = {path.name for path in desk.iterdir()}
    words = ["animate", "portrait.png", "speech.wav", "-o", "out.mp4", "--model", "tiny"]
    with subprocess.Popen(
        [sys.executable, "-m", "loopy", *words, "--sheet", "sheet.png"],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    ) as process:
        end = time.monotonic() + 120
        while not drafts(desk) and time.monotonic() < end and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(number)
        _, told = process.communicate(timeout=120)
    assert process.returncode == 128 + number, told
    assert told.splitlines()[-1] == f"loopy: stopped by {number.name}"
    assert "Traceback" not in told
    assert {path.name for path in desk.iterdir()} == before
