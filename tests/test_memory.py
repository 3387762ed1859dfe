import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource
import torch
from loopy.memory import keep_freed_memory

if {keep}:
    assert keep_freed_memory()
for step in range(20):
    if step == 15:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(16 * 2**20)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def new_pages(*, keep):
    """Pages that a process gets anew while it makes and drops 64 MiB again and again."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(keep=keep)],
        capture_output=True,
        text=True,
        check=True,
        env={},
    )
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a wish to glibc")
def test_freed_buffers_are_used_again():
    kept, given_back = new_pages(keep=True), new_pages(keep=False)
    assert kept < given_back / 10
