"""Decoding sound piece by piece: on an exact clock, at any rate, in flat memory."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from fractions import Fraction
from itertools import chain, groupby
from operator import itemgetter
from typing import Literal, NamedTuple, cast

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.container import InputContainer
from av.error import BlockingIOError as NotReady
from av.error import EOFError as NoMore
from av.filter import Graph
from jaxtyping import Float32

from loopy.data.media.container import (
    file_name,
    has_time_stamps,
    picture_stream,
    sound_stream,
    start_s,
    tick_s,
)
from loopy.errors import MediaError

JITTER_S = Fraction(1, 50)
"""A time stamp that misses the end of the sound before by less is rounded, not meant."""
LONGEST_GAPS_S = 3600
"""More, in sum, is damage in the time stamps, and would fill the memory with silence."""
PART_SAMPLES = 65_536
"""Silence, and sound from memory, go in parts of at most this."""
RATES_HZ = range(4_000, 768_001)
"""Of what is taken. Under it no word is understood, and a small file lasts for days."""
CENTRES = {5: 2, 6: 2, 7: 2, 8: 2}
"""Place of the centre in sound of so many channels, if it does not say what they are."""

Zero = Literal["sound", "pictures"]
"""Where time 0 is: at the first sample, or at the first picture, if the file has any."""
Channels = Float32[np.ndarray, "channels samples"]


class Block(NamedTuple):
    """Some samples of each channel, and which channel is the centre of surround sound, if any."""

    samples: Channels
    centre: int | None


def sound_blocks(
    container: InputContainer,
    *,
    rate_hz: int,
    zero: Zero,
    layout: str | None = None,
    longest_s: float | None = None,
) -> Iterator[Block]:
    """Decodes the sound of an open file piece by piece, in flat memory.

    Args:
        container: From ``open_media``.
        rate_hz: Rate wanted.
        zero: Where the first sample is; see `Zero`.
        layout: Channel layout wanted ("mono", "stereo"); None keeps the file's own.
        longest_s: Of what may come; None: there is no bound.

    Yields:
        Consecutive samples. All stand where their time stamps put them: silence fills what is
        missing, and sound of a time that is over already is left out.

    Raises:
        MediaError: No sound stream, a sample rate beyond ``RATES_HZ``, time stamps that jump by
            more than an hour in sum, or more sound than ``longest_s``.
    """
    name, made, silence = file_name(container), 0, 0
    for run, group in groupby(_placed(container, zero), itemgetter(0)):
        place = round(run.begin_s * rate_hz)
        silence += max(place - made, 0)
        if silence > LONGEST_GAPS_S * rate_hz:
            raise MediaError(
                f"the sound of {name} jumps from {made / rate_hz:.2f} s to "
                f"{float(run.begin_s):.2f} s; write it anew with ffmpeg first"
            )
        check_rate(run.form[2], f"the sound of {name}")
        frames = (frame for _, frame in group)
        for block in _resampled(frames, rate_hz=rate_hz, layout=layout):
            while made < place:
                silent = np.zeros((len(block.samples), min(place - made, PART_SAMPLES)), np.float32)
                yield block._replace(samples=silent)
                made += silent.shape[1]
            length = block.samples.shape[1]
            if longest_s is not None and place + length > longest_s * rate_hz:
                raise MediaError(
                    f"the sound of {name} lasts longer than {longest_s / 3600:.3g} h; cut it, "
                    "or raise longest_s"
                )
            yield block._replace(samples=block.samples[:, made - place :])
            place += length
            made = max(made, place)


def resampled(
    samples: Float32[np.ndarray, " samples"], *, rate_hz: int, wanted_hz: int
) -> Float32[np.ndarray, " samples_at_wanted_hz"]:
    """Mono sound in memory at another rate, by the filter that files go through."""
    resampler = Resampler(rate_hz=rate_hz, wanted_hz=wanted_hz, part_samples=PART_SAMPLES)
    none = np.zeros(0, np.float32)
    return np.concatenate([none, *resampler(samples), *resampler.finish()])


class Resampler:
    """Mono sound at another rate, piece by piece, by the filter that files go through.

    What comes out is the same to the bit, however what comes in is cut: it goes through the filter
    in parts of one length.

    Args:
        rate_hz: Rate of what comes in.
        wanted_hz: Of what comes out; the filter is left out where it is the same.
        part_samples: Length of the parts.
    """

    def __init__(self, *, rate_hz: int, wanted_hz: int, part_samples: int) -> None:
        self._rate_hz, self._wanted_hz, self._part_samples = rate_hz, wanted_hz, part_samples
        self._rest = np.zeros(0, np.float32)
        self._pushed, self._graph = 0, None

    def __call__(self, samples: Float32[np.ndarray, " samples"]) -> Iterator[np.ndarray]:
        """Takes samples, and yields those that are ready; run it to its end."""
        if self._rate_hz == self._wanted_hz:
            yield samples
            return
        samples = np.concatenate([self._rest, samples])
        whole = len(samples) - len(samples) % self._part_samples
        for start in range(0, whole, self._part_samples):
            yield from self._filtered(samples[start : start + self._part_samples])
        self._rest = samples[whole:]

    def finish(self) -> Iterator[np.ndarray]:
        """Yields what is left, and begins anew."""
        if len(self._rest):
            yield from self._filtered(self._rest)
        if self._graph is not None:
            yield from (block.samples[0] for block in _pulled(self._graph, None))
        self.drop()

    def drop(self) -> None:
        """Forgets what is left, and begins anew."""
        self._rest, self._pushed, self._graph = self._rest[:0], 0, None

    def _filtered(self, part: Float32[np.ndarray, " samples"]) -> Iterator[np.ndarray]:
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(part[None]), format="flt", layout="mono"
        )
        frame.sample_rate, frame.pts = self._rate_hz, self._pushed
        frame.time_base = Fraction(1, self._rate_hz)
        self._pushed += len(part)
        if self._graph is None:
            self._graph = _filter_graph(frame, rate_hz=self._wanted_hz, layout=None)
        yield from (block.samples[0] for block in _pulled(self._graph, frame))


def check_rate(rate_hz: int, name: str) -> None:
    """Refuses, by a MediaError, a sample rate beyond ``RATES_HZ``."""
    if rate_hz not in RATES_HZ:
        raise MediaError(
            f"{name} has {rate_hz} samples a second; "
            f"give {RATES_HZ[0]} to {RATES_HZ[-1]}, 16000 or more for a clear voice"
        )


class _Run(NamedTuple):
    """Frames of one form that follow each other without a gap."""

    begin_s: Fraction
    form: tuple[str, str, int]


def _placed(container: InputContainer, zero: Zero) -> Iterator[tuple[_Run, AudioFrame]]:
    """Each frame of sound with its run, on the clock that is wanted."""
    stream, pictures = sound_stream(container), picture_stream(container)
    frames, stamped, tick = container.decode(stream), has_time_stamps(container), tick_s(stream)
    if (first := next(frames, None)) is None:
        return
    # by the frame: for Opus the header is wrong by up to 14 ms
    begin_s = start_s(stream) if first.pts is None else first.pts * tick
    zero_s = begin_s if pictures is None or zero == "sound" else start_s(pictures)
    due_s = begin_s - zero_s
    run = _Run(due_s, _form(first))
    for frame in chain([first], frames):
        at_s = frame.pts * tick - zero_s if stamped and frame.pts is not None else due_s
        if pictures is None and at_s < due_s - JITTER_S:  # sounds in a row, each with its clock
            zero_s, at_s = zero_s + at_s - due_s, due_s
        if abs(at_s - due_s) > JITTER_S or _form(frame) != run.form:
            run, due_s = _Run(at_s, _form(frame)), at_s
        due_s += Fraction(frame.samples, frame.sample_rate)
        yield run, frame


def _form(frame: AudioFrame) -> tuple[str, str, int]:
    return frame.format.name, frame.layout.name, frame.sample_rate


def _resampled(
    frames: Iterable[AudioFrame], *, rate_hz: int, layout: str | None
) -> Iterator[Block]:
    """The samples of frames of one form."""
    graph: Graph | None = None
    for frame in chain(frames, [None]):
        if frame is not None and graph is None:
            graph = _filter_graph(frame, rate_hz=rate_hz, layout=layout)
        if graph is not None:
            yield from _pulled(graph, frame)


def _pulled(graph: Graph, frame: AudioFrame | None) -> Iterator[Block]:
    """What a frame of sound, or its end, makes come out of a filter."""
    graph.push(frame)
    with suppress(NotReady, NoMore):
        while True:
            yield _block(cast(AudioFrame, graph.pull()))


def _filter_graph(frame: AudioFrame, *, rate_hz: int, layout: str | None) -> Graph:
    """Windowed sinc of 64 taps and 1024 phases: aliasing from 8.5 kHz at -91 dB, and no delay."""
    graph = Graph()
    source = graph.add_abuffer(
        sample_rate=frame.sample_rate,
        format=frame.format.name,
        layout=frame.layout.name,
        time_base=Fraction(1, frame.sample_rate),
    )
    resample = graph.add(
        "aresample", f"{rate_hz}:filter_size=64:phase_shift=10:cutoff=0.97:rematrix_maxval=1"
    )
    form = "sample_fmts=flt" + (f":channel_layouts={layout}" if layout else "")
    graph.link_nodes(source, resample, graph.add("aformat", form), graph.add("abuffersink"))
    graph.configure()
    return graph


def _block(frame: AudioFrame) -> Block:
    # samples come packed: PyAV 18 crashes on the planes of eight and more channels
    places = [channel.name for channel in frame.layout.channels]
    samples = frame.to_ndarray().reshape(-1, len(places)).T
    if set(places) == {"NONE"}:
        return Block(samples, CENTRES.get(len(places)))
    return Block(samples, places.index("FC") if "FC" in places[1:] else None)
