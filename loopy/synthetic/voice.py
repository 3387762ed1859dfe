"""A speaking voice with exact phoneme times: espeak-ng, as shipped by `espeakng_loader`."""
# ruff: noqa: RUF001 (IPA stress marks)

import _ctypes
import ctypes
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TypedDict

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from loopy.errors import ConfigurationError, DependencyError, MediaError
from loopy.synthetic.visemes import Phoneme
from loopy.timing import SAMPLE_RATE_HZ

_ACCENTS = (
    "en-us", "en", "en-gb-x-rp", "en-gb-scotland", "en-029", "en-gb-x-gbclan", "en-gb-x-gbcwmd",
)  # fmt: skip
_TIMBRES = ("", *(f"+f{i}" for i in range(1, 6)), *(f"+m{i}" for i in range(1, 9)))
_RATE, _PITCH, _PITCH_RANGE = 1, 3, 4  # espeak_PARAMETER
_PHONEME_EVENT = 7
_ONE_AT_A_TIME = threading.Lock()  # espeak-ng is a single voice per process


@dataclass(frozen=True)
class SpokenText:
    """A spoken text.

    Attributes:
        audio: 16 kHz mono in [-1, 1].
        phonemes: In order of time; silences have an empty name.
    """

    audio: Float[Tensor, " samples"]
    phonemes: tuple[Phoneme, ...]

    @property
    def duration_s(self) -> float:
        """Length of the sound."""
        return len(self.audio) / SAMPLE_RATE_HZ


class VoiceParameters(TypedDict):
    """Keyword arguments of `speak`."""

    voice: str
    rate_wpm: int
    pitch: int
    pitch_range: int


class _Event(ctypes.Structure):
    """espeak_EVENT of speak_lib.h; the name is IPA with stress mark in UTF-8."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position_ms", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("name", ctypes.c_char * 8),
    )


_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)


def speak(
    text: str,
    *,
    voice: str = "en-us",
    rate_wpm: int = 170,
    pitch: int = 50,
    pitch_range: int = 50,
) -> SpokenText:
    """Speak a text; the same arguments always give the same samples.

    Args:
        text: What to say.
        voice: An espeak-ng voice, with a variant if wanted: "en-us", "en-gb-x-rp+f3", "de".
        rate_wpm: Words a minute, 80 to 450.
        pitch: 0 to 99.
        pitch_range: Liveliness of the pitch, 0 to 99.

    Raises:
        DependencyError: espeakng_loader is not installed.
        ConfigurationError: No such voice.
        MediaError: Nothing in the text can be spoken.
    """
    parameters = {_RATE: rate_wpm, _PITCH: pitch, _PITCH_RANGE: pitch_range}
    with _ONE_AT_A_TIME:
        samples, rate_hz, events = _synthesise(text.encode(), voice, parameters)
    if not any(name for _, name in events):
        raise MediaError(f"nothing to say in {text[:40]!r}; give a text with words")
    sound = torch.from_numpy(samples.astype(np.float32) / 32768)
    return SpokenText(audio=to_16_khz(rate_hz)(sound), phonemes=_phonemes(events, rate_hz))


@cache
def to_16_khz(rate_hz: int) -> Callable[[Float[Tensor, "*b t"]], Float[Tensor, "*b t"]]:
    """A resampler from `rate_hz` to 16 kHz that lets no alias through (below -110 dB).

    Raises:
        DependencyError: torchaudio is missing, or its build is not that of torch.
    """
    try:
        from torchaudio.transforms import Resample
    except (ImportError, OSError, RuntimeError) as error:
        raise DependencyError(
            f"torchaudio does not load ({error}); install the torch and torchaudio builds of "
            "constraints.txt"
        ) from error
    return Resample(
        rate_hz,
        SAMPLE_RATE_HZ,
        resampling_method="sinc_interp_kaiser",
        lowpass_filter_width=64,
        rolloff=0.9476,
        beta=14.77,
    )


def random_voice(generator: torch.Generator) -> VoiceParameters:
    """Keyword arguments of `speak` for a random English voice."""

    def draw(low: int, high: int) -> int:
        return int(torch.randint(low, high, (), generator=generator))

    accent, timbre = _ACCENTS[draw(0, len(_ACCENTS))], _TIMBRES[draw(0, len(_TIMBRES))]
    return {
        "voice": accent + timbre,
        "rate_wpm": draw(125, 225),
        "pitch": draw(15, 86),
        "pitch_range": draw(25, 91),
    }


def _synthesise(
    text: bytes, voice: str, parameters: dict[int, int]
) -> tuple[np.ndarray, int, list[tuple[int, str]]]:
    """Samples (int16), their rate, and (sample, name) of each phoneme.

    The library is loaded anew for each text (0.3 ms): pitch flutter and noise live in its static
    variables, and what was said before would otherwise be heard in what is said now.
    """
    try:
        import espeakng_loader
    except ImportError as error:
        raise DependencyError(
            "speech needs espeakng_loader; run: pip install loopy-portrait[synthetic]"
        ) from error
    pieces: list[bytes] = []
    events: list[tuple[int, str]] = []

    def receive(samples, count, event):
        if count > 0:
            pieces.append(ctypes.string_at(samples, 2 * count))
        index = 0
        while event[index].type != 0:
            if event[index].type == _PHONEME_EVENT:
                events.append((event[index].sample, event[index].name.decode(errors="ignore")))
            index += 1
        return 0

    callback = _Callback(receive)
    library = ctypes.CDLL(espeakng_loader.get_library_path())
    try:
        # 2: synchronous; 1 phoneme events + 2 named in IPA + 0x8000 never exit the process
        data = str(espeakng_loader.get_data_path()).encode()
        rate_hz = library.espeak_Initialize(2, 0, data, 1 | 2 | 0x8000)
        library.espeak_ng_SetRandSeed(ctypes.c_long(1))
        library.espeak_SetSynthCallback(callback)
        if library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise ConfigurationError(f"espeak-ng has no voice {voice!r}; try 'en-us' or 'en+f3'")
        for parameter, value in parameters.items():
            library.espeak_SetParameter(parameter, value, 0)
        utf8 = 1
        library.espeak_Synth(text, len(text) + 1, 0, 0, 0, utf8, None, None)
        library.espeak_Terminate()
    finally:
        _ctypes.dlclose(library._handle)
    return np.frombuffer(b"".join(pieces), np.int16), rate_hz, events


def _phonemes(events: list[tuple[int, str]], rate_hz: int) -> tuple[Phoneme, ...]:
    return tuple(
        Phoneme(
            name=name.lstrip("ˈˌ"),
            start_s=sample / rate_hz,
            stress=2 if name.startswith("ˈ") else int(name.startswith("ˌ")),
        )
        for sample, name in events
        if not name.startswith("(")  # "(en)" marks a change of language, no sound
    )
