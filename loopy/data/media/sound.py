"""Any sound of a user as the audio encoder takes it: mono, 16 kHz, float32, without delay."""

import warnings
from os import PathLike
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from loopy.data.media.container import open_media, sound_stream
from loopy.data.media.mono import Mixer
from loopy.data.media.sound_blocks import CENTRES, Block, Zero, check_rate, resampled, sound_blocks
from loopy.errors import MediaError
from loopy.paths import AnyPath
from loopy.timing import FPS, SAMPLE_RATE_HZ
from loopy.typed_values import check_number

SHORTEST_SAMPLES = int(SAMPLE_RATE_HZ / FPS)  # one frame of video, 0.04 s
LONGEST_S = 4 * 3600
"""Of a file that is read whole: 0.92 GB of samples."""
LOUD = 1.25
"""Lossy codecs and resampling go that far beyond full scale; the cut is not audible."""
LOUDEST = 2
"""More was never meant as a share of full scale: the numbers are those of integers."""
INTEGERS = {32_768: "16-bit", 8_388_608: "24-bit", 2_147_483_648: "32-bit"}
MOST_CHANNELS = 64

Samples = (
    Shaped[np.ndarray, " samples"]
    | Shaped[np.ndarray, "samples channels"]
    | Shaped[Tensor, " samples"]
    | Shaped[Tensor, "samples channels"]
)
"""Sound in memory: floats of full scale 1, or integers of 8 (unsigned), 16 or 32 bits."""
Sound = AnyPath | Samples | tuple[int, Samples] | tuple[Samples, int]
"""Sound in any form: a file, samples, or samples with their rate, as gradio, scipy and soundfile
give them."""
ACCEPTED_SOUND = (
    "a file, samples as a numpy array or torch tensor (samples,) or (samples, channels), or a "
    "pair of rate and samples"
)


def as_samples(
    sound: Sound, *, rate_hz: int = SAMPLE_RATE_HZ, longest_s: float = LONGEST_S
) -> Float[Tensor, " samples"]:
    """Sound in any form, from its own start on: see `read_audio` of a file, else `check_audio`."""
    if isinstance(sound, str | PathLike):
        return read_audio(sound, longest_s=longest_s)
    return check_audio(sound, rate_hz=rate_hz)


def read_audio(
    path: AnyPath, *, zero: Zero = "sound", longest_s: float = LONGEST_S
) -> Float[Tensor, " samples"]:
    """Reads a sound file, or the sound of a video file.

    Of several sounds the one that players play is taken, with a warning. Channels are averaged, of
    surround sound the centre is taken; where that would lose the voice, as with channels in
    opposite phase, the file is decoded a second time for its loudest channel. Where packets are
    missing there is silence, so that what follows keeps its time.

    Args:
        path: Whatever PyAV can decode: wav, mp3, m4a, flac, ogg, opus, webm, mp4, mov ...
        zero: Where sample 0 is: "sound", the whole sound, also where pictures begin later or
            earlier; "pictures", at the first picture of a file that has any, as the frames of
            `loopy.data.media.video_reader`.
        longest_s: More is an error: an hour takes 0.23 GB of memory.

    Returns:
        Mono samples at 16 kHz, float32, clipped to [-1, 1].

    Raises:
        MediaError: No such file, a folder, empty, no sound in it, undecodable, NaN or infinite
            samples, numbers that are none of a sound (a peak over 2), shorter than 0.04 s or longer
            than ``longest_s``.
    """
    check_number("longest_s", longest_s, float, least=0)
    mixer = Mixer()
    data, peak = _decoded(path, zero=zero, longest_s=longest_s, mixer=mixer)
    if (better := mixer.better()) is not None:
        del data
        data, peak = _decoded(path, zero=zero, longest_s=longest_s, mixer=better)
    _warn_of_several(path)
    samples = torch.frombuffer(data, dtype=torch.float32) if data else torch.zeros(0)
    return _checked(samples, peak, f"sound {path}")


def check_audio(
    sound: Samples | tuple[int, Samples] | tuple[Samples, int], *, rate_hz: int = SAMPLE_RATE_HZ
) -> Float[Tensor, " samples"]:
    """Brings sound that is already in memory to mono and 16 kHz, and checks it as a file.

    Args:
        sound: Samples (samples,) or (samples, channels): floats of full scale 1, int16, int32 or
            uint8; or a pair of them and their rate, in any order.
        rate_hz: Sample rate of samples that come without one.

    Returns:
        Mono samples at 16 kHz, float32, clipped to [-1, 1], on the device they came on.

    Raises:
        MediaError: Another type or shape, an impossible rate, NaN or infinite samples, a peak over
            2, or shorter than 0.04 s.
    """
    samples, rate_hz = _with_rate(sound, rate_hz)
    device = samples.device if isinstance(samples, Tensor) else None
    floats = _as_floats(samples)
    peak = peak_of(floats, "sound in memory")
    block, mixer = Block(np.ascontiguousarray(floats.T), CENTRES.get(floats.shape[1])), Mixer()
    mono = mixer(block)
    mono = mono if (better := mixer.better()) is None else better(block)
    if rate_hz != SAMPLE_RATE_HZ:
        mono = resampled(mono, rate_hz=rate_hz, wanted_hz=SAMPLE_RATE_HZ)
    return _checked(torch.from_numpy(mono.clip(-1, 1)).to(device), peak, "sound in memory")


def check_piece(samples: Samples) -> Float[np.ndarray, " samples"]:
    """A piece of a mono sound that goes on, clipped to [-1, 1]; it may be empty.

    Args:
        samples: Floats of full scale 1, int16, int32 or uint8.

    Raises:
        MediaError: Another type or shape, NaN or infinite samples, or a peak over 2.
    """
    if not isinstance(samples, np.ndarray | Tensor):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise MediaError(
            f"a piece of sound is of type {type(samples).__name__}; give samples as a numpy array "
            "or torch tensor (samples,)"
        )
    floats, name = _as_floats(samples), "the piece of sound"
    if floats.shape[1] != 1:
        raise MediaError(
            f"{name} has shape {tuple(samples.shape)}, expected (samples,); mix channels first"
        )
    check_peak(peak_of(floats, name), name)
    return floats[:, 0].clip(-1, 1)


def peak_of(samples: Float[np.ndarray, "*shape"], name: str) -> float:
    """The largest distance of a sample from 0; NaN or infinite samples are a MediaError."""
    peak = float(max(samples.max(), -samples.min())) if samples.size else 0.0
    if not np.isfinite(peak):
        raise MediaError(f"{name} has NaN or infinite samples; export it again")
    return peak


def check_peak(peak: float, name: str) -> None:
    """Refuses, by a MediaError, numbers that are no sound of full scale 1."""
    if peak > LOUDEST:
        scales = (scale for scale in INTEGERS if peak <= LOUD * scale)
        cures = (f"divide by {scale}, if these are {INTEGERS[scale]} integers" for scale in scales)
        cure = next(cures, "export it again")
        raise MediaError(f"{name} peaks at {peak:.6g}; full scale is 1; {cure}")


def _decoded(
    path: AnyPath, *, zero: Zero, longest_s: float, mixer: Mixer
) -> tuple[bytearray, float]:
    """Mono samples at 16 kHz and the peak of all channels.

    The array grows in its place: lists of blocks that are joined would take twice the memory.
    """
    data, peak = bytearray(), 0.0
    with open_media(path, "sound") as container:
        blocks = sound_blocks(container, rate_hz=SAMPLE_RATE_HZ, zero=zero, longest_s=longest_s)
        for block in blocks:
            peak = max(peak, peak_of(block.samples, f"sound {path}"))
            data += mixer(block).clip(-1, 1).tobytes()
    return data, peak


def _warn_of_several(path: AnyPath) -> None:
    with open_media(path, "sound") as container:
        streams, taken = container.streams.audio, sound_stream(container)
        if len(streams) > 1:
            about = [taken.metadata.get(word) for word in ("language", "title")]
            words = ", ".join([word for word in about if word] or [taken.codec_context.name])
            place = [stream.index for stream in streams].index(taken.index)
            warnings.warn(
                f"{path} has {len(streams)} sounds; number {place + 1} ({words}) is used, as in a "
                "player. To use another one write it out first: ffmpeg -i IN -map 0:a:0 OUT.wav "
                "takes number 1",
                stacklevel=3,
            )


def _with_rate(sound: Any, rate_hz: Any) -> tuple[np.ndarray | Tensor, int]:
    samples = sound
    if isinstance(sound, tuple) and len(sound) == 2:
        rate_hz, samples = sound[::-1] if isinstance(sound[0], np.ndarray | Tensor) else sound
    if not isinstance(samples, np.ndarray | Tensor):
        raise MediaError(f"sound is of type {type(sound).__name__}; give {ACCEPTED_SOUND}")
    if not isinstance(rate_hz, int | float | np.number) or not float(rate_hz).is_integer():
        shown = type(rate_hz).__name__ if hasattr(rate_hz, "__len__") else rate_hz
        raise MediaError(f"rate_hz is {shown}; give a whole number of samples a second")
    check_rate(int(rate_hz), "sound in memory")
    return samples, int(rate_hz)


def _as_floats(samples: np.ndarray | Tensor) -> Float[np.ndarray, "samples channels"]:
    """Floats of full scale 1."""
    if isinstance(samples, Tensor):
        if samples.is_meta:
            raise MediaError("sound in memory is on no device (meta); give its samples")
        samples = samples.detach().cpu()
        samples = (samples.float() if samples.is_floating_point() else samples).numpy()
    shape = samples.shape
    if samples.ndim == 1:
        samples = samples[:, None]
    if samples.ndim != 2 or not 1 <= samples.shape[1] <= MOST_CHANNELS:
        turn = "; turn (channels, samples) by .T" if samples.ndim == 2 else ""
        raise MediaError(
            f"sound in memory has shape {shape}, expected (samples,) or (samples, channels){turn}"
        )
    if samples.dtype == np.uint8:
        return (samples.astype(np.float32) - 128) / 128
    if samples.dtype in (np.int16, np.int32):
        return samples.astype(np.float32) / np.float32(-np.iinfo(samples.dtype).min)
    if not np.issubdtype(samples.dtype, np.floating):
        raise MediaError(
            f"sound in memory is {samples.dtype}, expected floating point in [-1, 1], int16, int32 "
            "or uint8"
        )
    with np.errstate(over="ignore"):  # what float32 cannot hold is found as infinite
        return samples.astype(np.float32)


def _checked(
    samples: Float[Tensor, " samples"], peak: float, name: str
) -> Float[Tensor, " samples"]:
    if len(samples) < SHORTEST_SAMPLES:
        seconds = len(samples) / SAMPLE_RATE_HZ
        raise MediaError(f"{name} lasts {seconds:.4f} s; give at least 0.04 s, one video frame")
    check_peak(peak, name)
    if peak > LOUD:
        warnings.warn(
            f"{name} peaks at {peak:.3g} of full scale and is clipped there; export it more softly",
            stacklevel=3,
        )
    return samples
