"""What the C library does with memory that a process has freed."""

import ctypes
from collections.abc import Iterable, Iterator
from typing import TypeVar

_Part = TypeVar("_Part")

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
_PAD_BYTES, _LARGEST = 64 * 2**20, 2**31 - 1


def keep_freed_memory() -> bool:
    """Asks glibc to keep large buffers when they are freed, in this process and its forks.

    By default each goes back to the system and comes back as new, zeroed pages: a third of the
    time of training on a CPU (docs/performance.md). Other C libraries are left as they are.

    Returns:
        Whether it could be asked.
    """
    try:
        ask = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # not glibc, or Windows
        return False
    wishes = {_MMAP_MAX: 0, _TRIM_THRESHOLD: _LARGEST, _TOP_PAD: _PAD_BYTES}
    answers = [ask(name, value) for name, value in wishes.items()]
    return all(answers)


def release_freed_memory() -> bool:
    """Gives back to the system what is free, also between blocks that are in use.

    Returns:
        Whether it could be asked: glibc alone can.
    """
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # not glibc, or Windows
        return False
    trim(ctypes.c_size_t(0))
    return True


def in_steady_memory(parts: Iterable[_Part], *, every: int = 16) -> Iterator[_Part]:
    """Passes parts on, and gives freed memory back to the system now and then.

    Networks and encoders free blocks of many sizes between blocks that stay: the heap grows by its
    holes for as long as they work, though what is in use does not.

    Args:
        parts: Of a long work, clips of a video for example.
        every: So many parts.
    """
    for number, part in enumerate(parts, 1):
        yield part
        if number % every == 0:
            release_freed_memory()
