"""What the C library does with memory that a process has freed."""

import ctypes

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
