"""Any sound of a user as the audio encoder hears it: mono, 16 kHz, float32, without delay."""

from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import chain, groupby
from operator import itemgetter
from typing import NamedTuple, cast

import numpy as np
import torch
from av.audio.frame import AudioFrame
from av.container import InputContainer
from av.error import BlockingIOError as NotReady
from av.error import EOFError as NoMore
from av.filter import Graph
from jaxtyping import Float, Float32
from torch import Tensor

from loopy.data.media import (
    AnyPath,
    file_name,
    has_time_stamps,
    open_media,
    picture_stream,
    sound_stream,
    start_s,
    tick_s,
)
from loopy.errors import DependencyError, MediaError
from loopy.timing import FPS, SAMPLE_RATE_HZ

SHORTEST_SAMPLES = int(SAMPLE_RATE_HZ / FPS)  # one frame of video, 0.04 s
JITTER_S = Fraction(1, 50)
"""A time stamp that misses the end of the sound before by less is rounded, not meant."""
LONGEST_GAP_S = 3600
"""More is a damaged time stamp, and would fill the memory with silence."""
SILENT_SAMPLES = 65_536
"""Silence comes in blocks of at most this."""

Block = Float32[np.ndarray, "channels samples"]


def read_audio(path: AnyPath) -> Float[Tensor, " samples"]:
    """Reads a sound file, or the sound of a video file.

    Channels are averaged. In a file that also has pictures, sample 0 is at the first picture. Where
    packets are missing there is silence, so that what follows keeps its time.

    Args:
        path: Whatever PyAV can decode: wav, mp3, m4a, flac, ogg, opus, webm, mp4, mov ...

    Returns:
        Mono samples at 16 kHz, float32, clipped to [-1, 1].

    Raises:
        MediaError: No such file, a folder, empty, no sound in it, undecodable, NaN or infinite
            samples, or shorter than 0.04 s.
    """
    with open_media(path, "sound") as container:
        mono = [block.mean(0) for block in sound_blocks(container, rate_hz=SAMPLE_RATE_HZ)]
    samples = torch.from_numpy(np.concatenate([np.zeros(0, np.float32), *mono]))
    return _checked(samples, f"sound {path}")


def check_audio(
    samples: Tensor | np.ndarray, *, rate_hz: int = SAMPLE_RATE_HZ
) -> Float[Tensor, " samples"]:
    """Brings samples that are already in memory to 16 kHz, and checks them as ``read_audio`` does.

    Args:
        samples: Mono sound of one dimension, floating point, full scale at 1.
        rate_hz: Its sample rate.

    Returns:
        Mono samples at 16 kHz, float32, clipped to [-1, 1], on the device they came on.

    Raises:
        MediaError: Not one-dimensional, not floating point, an impossible rate, NaN or infinite
            samples, or shorter than 0.04 s.
        DependencyError: Resampling is needed and torchaudio is missing or of another build.
    """
    if not isinstance(samples, Tensor):
        samples = torch.from_numpy(np.ascontiguousarray(samples))
    if samples.ndim != 1:
        raise MediaError(
            f"sound in memory has shape {tuple(samples.shape)}, expected (samples,); "
            "average its channels first"
        )
    if not samples.is_floating_point():
        raise MediaError(
            f"sound in memory is {samples.dtype}, expected floating point in [-1, 1]; "
            "divide int16 samples by 32768"
        )
    if rate_hz != int(rate_hz) or rate_hz < 1:
        raise MediaError(f"rate_hz is {rate_hz}; give a positive whole number")
    samples = samples.detach().float()
    if rate_hz != SAMPLE_RATE_HZ and len(samples):
        samples = _resample(samples, rate_hz=int(rate_hz))
    return _checked(samples, "sound in memory")


def sound_blocks(
    container: InputContainer, *, rate_hz: int, layout: str | None = None
) -> Iterator[Block]:
    """Decodes the sound of an open file piece by piece, in flat memory.

    Args:
        container: From ``open_media``.
        rate_hz: Sample rate wanted.
        layout: Channel layout wanted ("mono", "stereo"); None keeps the file's own.

    Yields:
        Consecutive samples. The first one is at the first picture, if the file has pictures. All
        stand where their time stamps put them: silence fills what is missing, and sound of a time
        that is over already is left out.

    Raises:
        MediaError: No sound stream, or time stamps that jump by more than an hour.
    """
    made = 0
    for run, group in groupby(_placed(container), itemgetter(0)):
        place = round(run.begin_s * rate_hz)
        if place - made > LONGEST_GAP_S * rate_hz:
            raise MediaError(
                f"the sound of {file_name(container)} jumps from {made / rate_hz:.2f} s to "
                f"{float(run.begin_s):.2f} s; write it anew with ffmpeg first"
            )
        for block in _resampled((frame for _, frame in group), rate_hz=rate_hz, layout=layout):
            while made < place:
                silent = min(place - made, SILENT_SAMPLES)
                yield np.zeros((len(block), silent), np.float32)
                made += silent
            yield block[:, made - place :]
            place += block.shape[1]
            made = max(made, place)


class _Run(NamedTuple):
    """Frames of one form that follow each other without a gap."""

    begin_s: Fraction
    form: tuple[str, str, int]


def _placed(container: InputContainer) -> Iterator[tuple[_Run, AudioFrame]]:
    """Each frame of sound with its run, on a clock that is 0 at the first picture, or sound."""
    stream, pictures = sound_stream(container), picture_stream(container)
    frames, stamped, tick = container.decode(stream), has_time_stamps(container), tick_s(stream)
    if (first := next(frames, None)) is None:
        return
    # by the frame: for Opus the header is wrong by up to 14 ms
    begin_s = start_s(stream) if first.pts is None else first.pts * tick
    zero_s = begin_s if pictures is None else start_s(pictures)
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
    for frame in frames:
        graph = graph or _filter_graph(frame, rate_hz=rate_hz, layout=layout)
        yield from _pushed(graph, frame)
    if graph is not None:
        yield from _pushed(graph, None)


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


def _pushed(graph: Graph, frame: AudioFrame | None) -> Iterator[Block]:
    """Gives the graph one frame (None: the end) and takes what is ready."""
    graph.push(frame)
    while True:
        try:
            ready = cast(AudioFrame, graph.pull())
        except (NotReady, NoMore):
            return
        # samples come packed: PyAV 18 crashes on the planes of eight and more channels
        yield ready.to_ndarray().reshape(-1, ready.layout.nb_channels).T


def _resample(
    samples: Float[Tensor, " samples"], *, rate_hz: int
) -> Float[Tensor, " samples_at_16_khz"]:
    """Kaiser window with -118 dB of aliasing; the default of torchaudio has only -11 dB."""
    try:
        from torchaudio.functional import resample
    except (ImportError, OSError, RuntimeError) as error:
        raise DependencyError(
            "torchaudio cannot be loaded, and this sound needs resampling; install the torchaudio "
            f"of your torch {torch.__version__}, or give 16 kHz sound or a file"
        ) from error
    return resample(
        samples,
        rate_hz,
        SAMPLE_RATE_HZ,
        lowpass_filter_width=64,
        rolloff=0.9476,
        resampling_method="sinc_interp_kaiser",
        beta=14.77,
    )


def _checked(samples: Float[Tensor, " samples"], name: str) -> Float[Tensor, " samples"]:
    if len(samples) < SHORTEST_SAMPLES:
        seconds = len(samples) / SAMPLE_RATE_HZ
        raise MediaError(f"{name} lasts {seconds:.4f} s; give at least 0.04 s, one video frame")
    if not samples.isfinite().all():
        raise MediaError(f"{name} has NaN or infinite samples; export it again")
    return samples.clamp(-1, 1)
