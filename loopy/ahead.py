"""A thread of its own makes the next part of something while the last one is used."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

_Part = TypeVar("_Part")


def one_ahead(parts: Iterator[_Part]) -> Iterator[_Part]:
    """Passes parts on, in order, and has the next one made meanwhile: never more than one.

    An error of ``parts`` is raised here in its turn. Whoever closes this iterator waits for the
    part that is in the making; no thread is left.

    Args:
        parts: Are made in a thread of their own; torch's modes (`torch.no_grad`) end at its door.
    """
    with ThreadPoolExecutor(1, "ahead") as thread:
        coming = thread.submit(_next, parts)
        while made := coming.result():
            coming = thread.submit(_next, parts)
            yield made[0]


def _next(parts: Iterator[_Part]) -> tuple[_Part] | tuple[()]:
    for part in parts:
        return (part,)
    return ()
