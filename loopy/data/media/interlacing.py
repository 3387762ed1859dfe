"""Interlaced pictures, two moments woven into each other, to one moment each."""

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import NamedTuple

import av
from av.error import BlockingIOError, EOFError
from av.filter import Graph


class Shown(NamedTuple):
    """A picture to show.

    Attributes:
        frame: It.
        blended: Whether the pictures before and after it may have a part in it.
    """

    frame: av.VideoFrame
    blended: bool


def progressive(frames: Iterable[av.VideoFrame]) -> Iterator[Shown]:
    """Frames without combs: those that say that they are interlaced pass FFmpeg's bwdif.

    As many as before, at the same times; one that does not say so is as it was. A frame that is
    interlaced depends on the one before and the one after it, wherever decoding began.
    """
    weaver, before = None, None
    for frame in frames:
        if weaver is not None and not weaver.fits(frame):
            yield from weaver.rest()
            weaver = None
        if weaver is None and frame.interlaced_frame:
            weaver = _Unweaver(frame)
            if before is not None and weaver.fits(before):
                yield from weaver.put(before, known=True)
        if weaver is None:
            yield Shown(frame, blended=False)
        else:
            yield from weaver.put(frame)
        before = frame if weaver is None else None
    if weaver is not None:
        yield from weaver.rest()


class _Unweaver:
    """A graph of bwdif for frames of one form; as many come out as are put in, one late."""

    def __init__(self, frame: av.VideoFrame) -> None:
        self._form = _form(frame)
        self._waiting = deque[tuple[av.VideoFrame, bool]]()
        self._graph = Graph()
        first = self._graph.add_buffer(
            width=frame.width,
            height=frame.height,
            format=frame.format,
            time_base=frame.time_base,
        )
        bwdif = self._graph.add("bwdif", "mode=send_frame:deint=interlaced")
        self._graph.link_nodes(first, bwdif, self._graph.add("buffersink")).configure()

    def fits(self, frame: av.VideoFrame) -> bool:
        return _form(frame) == self._form

    def put(self, frame: av.VideoFrame, *, known: bool = False) -> Iterator[Shown]:
        """Takes a frame; a known one was shown before."""
        self._waiting.append((frame, known))
        self._graph.push(frame)
        yield from self._ready()

    def rest(self) -> Iterator[Shown]:
        self._graph.push(None)
        yield from self._ready()

    def _ready(self) -> Iterator[Shown]:
        with suppress(BlockingIOError, EOFError):
            while True:
                made = self._graph.pull()
                frame, known = self._waiting.popleft()
                made.pts, made.time_base = frame.pts, frame.time_base
                made.duration = frame.duration
                if not known and isinstance(made, av.VideoFrame):
                    yield Shown(made, blended=True)


def _form(frame: av.VideoFrame) -> tuple[int, int, str]:
    return frame.width, frame.height, frame.format.name
