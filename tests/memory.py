"""The most memory that a process has had; `getrusage` begins with the peak of who started it."""

from pathlib import Path

PEAK = """
from pathlib import Path
def peak_kib():
    words = Path("/proc/self/status").read_text().split()
    return int(words[words.index("VmHWM:") + 1])
"""
"""Source of `peak_kib` for a program that a test runs."""


def peak_kib() -> int:
    """The most memory of this process since `forget_peak`."""
    words = Path("/proc/self/status").read_text().split()
    return int(words[words.index("VmHWM:") + 1])


def forget_peak() -> None:
    """Begin anew, from what is in use now."""
    Path("/proc/self/clear_refs").write_text("5")
