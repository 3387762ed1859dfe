import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import pytest

from loopy.memory import in_steady_memory, release_freed_memory

EXAMPLES = Path(__file__).parents[1] / "examples"

PROGRAM = """
import resource
import torch
from loopy.memory import keep_freed_memory

def new_pages():
    for step in range(20):
        if step == 15:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        torch.ones(16 * 2**20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

given_back = new_pages()
assert keep_freed_memory()
print(new_pages(), given_back)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a wish to glibc")
def test_freed_buffers_are_used_again():
    """Pages that a process gets anew while it makes and drops 64 MiB again and again."""
    words = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(words, capture_output=True, text=True, check=True, env={})
    kept, given_back = map(int, done.stdout.split())
    assert kept < given_back / 10


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a wish to glibc")
def test_what_is_free_goes_back_to_the_system(monkeypatch):
    assert release_freed_memory()
    asked = []
    monkeypatch.setattr("loopy.memory.release_freed_memory", lambda: asked.append(len(seen)))
    seen = []
    for part in in_steady_memory(range(10), every=4):
        seen.append(part)
    assert seen == list(range(10))
    assert asked == [4, 8]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux tells it there")
def test_the_real_command_does_not_grow_with_the_sound(write_speech, tmp_path):
    """Before memory was given back it grew by 3.5 MB a second of video: 105 MB a third.

    It moves in steps (55 MB from third to third were seen; over 120 s none from half to half).
    """
    write_speech(tmp_path / "speech.wav", 90.0)
    words = ["animate", EXAMPLES / "portrait.png", tmp_path / "speech.wav", "--steps", "1"]
    environment = {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    megabytes = []
    with subprocess.Popen(
        [sys.executable, "-m", "loopy", *words, "-o", tmp_path / "out.mp4"],
        env=os.environ | environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        status = Path(f"/proc/{process.pid}/status")
        while process.poll() is None:
            told = dict(line.split(":", 1) for line in status.read_text().splitlines())
            megabytes.append(int(told.get("VmRSS", "0 kB").split()[0]) / 1000)
            time.sleep(1)
    assert process.returncode == 0
    third = len(megabytes) // 3
    assert median(megabytes[-third:]) - median(megabytes[third:-third]) < 80
