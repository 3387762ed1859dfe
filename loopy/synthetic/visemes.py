"""What the mouth does while a sound is spoken: IPA phonemes to co-articulated viseme tracks."""

import unicodedata
from dataclasses import dataclass
from fractions import Fraction

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from loopy.errors import ConfigurationError
from loopy.timing import SAMPLE_RATE_HZ, frame_count

# IPA letters -> open, wide, round, teeth (0 to 1) and dominance over the neighbours.
_LETTERS = {
    "i": (0.25, 0.85, 0.00, 0.10, 1.0),
    "ɪɨᵻɯ": (0.35, 0.60, 0.00, 0.10, 1.0),
    "e": (0.50, 0.65, 0.00, 0.10, 1.0),
    "ɛ": (0.62, 0.55, 0.00, 0.10, 1.0),
    "æ": (0.80, 0.60, 0.00, 0.10, 1.0),
    "a": (0.88, 0.45, 0.00, 0.10, 1.0),
    "ɑ": (1.00, 0.20, 0.00, 0.05, 1.0),
    "ɒ": (0.80, 0.00, 0.40, 0.00, 1.0),
    "ɔ": (0.70, 0.00, 0.60, 0.00, 1.0),
    "o": (0.52, 0.00, 0.80, 0.00, 1.0),
    "ʊ": (0.32, 0.00, 0.70, 0.00, 1.0),
    "u": (0.22, 0.00, 0.95, 0.00, 1.0),
    "ʉyʏ": (0.25, 0.05, 0.80, 0.00, 1.0),
    "øœɵ": (0.45, 0.05, 0.65, 0.00, 1.0),
    "ʌɐɤ": (0.65, 0.25, 0.00, 0.05, 1.0),
    "əɘ": (0.38, 0.20, 0.05, 0.05, 0.7),
    "ɜɚ": (0.40, 0.10, 0.30, 0.05, 0.9),
    "mbp": (0.00, 0.15, 0.00, 0.00, 1.0),
    "fvʋɱ": (0.08, 0.20, 0.00, 1.00, 1.4),
    "θð": (0.20, 0.30, 0.00, 0.60, 1.0),
    "sz": (0.12, 0.60, 0.00, 0.95, 1.2),
    "ʃʒɕʂʐ": (0.16, 0.00, 0.65, 0.75, 1.2),
    "tdʈɖ": (0.16, 0.40, 0.00, 0.40, 0.6),
    "nɲɳ": (0.20, 0.35, 0.00, 0.30, 0.6),
    "lɫɭʎ": (0.30, 0.30, 0.00, 0.15, 0.6),
    "ɾr": (0.28, 0.35, 0.00, 0.20, 0.5),
    "ɹ": (0.22, 0.00, 0.50, 0.15, 0.8),
    "wʍ": (0.12, 0.00, 1.00, 0.00, 1.5),
    "j": (0.22, 0.70, 0.00, 0.15, 0.7),
    "β": (0.08, 0.10, 0.10, 0.00, 1.2),
    "kɡgŋxɣcɟʁʀʝ": (0.26, 0.30, 0.00, 0.10, 0.4),
    "hʔɦ": (0.35, 0.25, 0.00, 0.05, 0.2),
}
_TARGETS = {letter: row for letters, row in _LETTERS.items() for letter in letters}

PHONEMES: tuple[str, ...] = ("", *_TARGETS)
"""The inventory of frame labels: silence first, then single IPA letters."""

_INDEX = {letter: index for index, letter in enumerate(PHONEMES)}
_TABLE = torch.tensor([(0.0, 0.0, 0.0, 0.0, 0.8), *_TARGETS.values()])
_STRESS_GAIN = torch.tensor([0.85, 0.93, 1.0])
_STEPS_HZ = 200
_LEAD_S = 0.02  # lips start to move before the sound
_SPREAD_STEPS = 5.0  # 25 ms of overlap on either side
_CLOSURE_STEPS = 8  # 40 ms: a closure is seen at 25 fps however short it sounds


@dataclass(frozen=True)
class Phoneme:
    """One spoken sound.

    Attributes:
        name: IPA letters without stress mark; empty for silence.
        start_s: Where it starts; it lasts until the next one starts.
        stress: 0 none, 1 secondary, 2 primary.
    """

    name: str
    start_s: float
    stress: int = 0


def viseme_tracks(
    phonemes: tuple[Phoneme, ...], duration_s: float, *, fps: float | Fraction = 25
) -> Float[Tensor, "f 4"]:
    """Mouth shape in the middle of every video frame.

    Neighbouring sounds blend by dominance: smoothed targets over smoothed weights, after Cohen
    and Massaro (1993), "Modeling coarticulation in synthetic visual speech". Lips are exactly
    closed in m, b and p, and in silence.

    Args:
        phonemes: In order of time; what comes before the first is silent.
        duration_s: Length of the sound.
        fps: Rows per second.

    Returns:
        Columns open, wide, round and teeth, each 0 to 1.

    Raises:
        ConfigurationError: A phoneme has a letter outside `PHONEMES`.
    """
    frames = _frames(duration_s, fps)
    steps = max(1, round(duration_s * _STEPS_HZ) + 1)
    letters, starts, stress = _letters(phonemes, duration_s)
    place = ((starts - _LEAD_S) * _STEPS_HZ).round().long().clamp(0, steps)
    lasts = torch.diff(place, append=torch.tensor([steps]))
    rows = _TABLE[letters]
    weight = rows[:, 4:]
    target = rows[:, :4] * torch.stack([_STRESS_GAIN[stress], *[torch.ones(len(stress))] * 3], 1)
    weighted = torch.cat([target * weight, weight], 1).repeat_interleave(lasts, dim=0)
    smooth = blurred(weighted, _SPREAD_STEPS)
    tracks = smooth[:, :4] / smooth[:, 4:]
    lips = torch.isin(letters, _BILABIAL)
    tracks[:, 0] *= _closure_gate(place[lips], lasts[lips], steps)
    middle = (torch.arange(frames) + 0.5) * (_STEPS_HZ / float(fps))
    return tracks[middle.long().clamp(max=steps - 1)]


def phoneme_labels(
    phonemes: tuple[Phoneme, ...], duration_s: float, *, rate_hz: float | Fraction = 50
) -> Int[Tensor, " f"]:
    """Index into `PHONEMES` of what sounds in the middle of every label frame.

    A phoneme of several letters (a diphthong, an affricate) is shared out among them.

    Args:
        phonemes: In order of time; what comes before the first is silent.
        duration_s: Length of the sound.
        rate_hz: Labels per second; 50 is the rate of wav2vec2.

    Raises:
        ConfigurationError: A phoneme has a letter outside `PHONEMES`.
    """
    letters, starts, _ = _letters(phonemes, duration_s)
    middle = (torch.arange(_frames(duration_s, rate_hz)) + 0.5) / float(rate_hz)
    return letters[torch.searchsorted(starts, middle.double(), right=True) - 1]


_BILABIAL = torch.tensor([_INDEX[letter] for letter in "mbp"])


def _frames(duration_s: float, rate: float | Fraction) -> int:
    return frame_count(round(duration_s * SAMPLE_RATE_HZ), fps=Fraction(rate))


def _letters(
    phonemes: tuple[Phoneme, ...], duration_s: float
) -> tuple[Int[Tensor, " l"], Float[Tensor, " l"], Int[Tensor, " l"]]:
    """Single letters with start (s) and stress; the first is the silence from time zero."""
    indices, starts, stress = [0], [0.0], [0]
    stops = [*(phoneme.start_s for phoneme in phonemes[1:]), duration_s]
    for phoneme, stop in zip(phonemes, stops, strict=False):
        shares = _shares(phoneme.name)
        total, start = sum(share for _, share in shares), phoneme.start_s
        for index, share in shares:
            indices.append(index)
            starts.append(start)
            stress.append(phoneme.stress)
            start += (stop - phoneme.start_s) * share / total
    return torch.tensor(indices), torch.tensor(starts, dtype=torch.double), torch.tensor(stress)


def _shares(name: str) -> list[tuple[int, int]]:
    """Indices of the letters of a phoneme; a long one takes two shares of its time."""
    shares: list[tuple[int, int]] = []
    for letter in unicodedata.normalize("NFD", name):
        if letter in "ː:" and shares:
            shares[-1] = (shares[-1][0], 2)
        elif letter in _INDEX:
            shares.append((_INDEX[letter], 1))
        elif unicodedata.category(letter) not in ("Mn", "Lm"):
            raise ConfigurationError(
                f"phoneme {name!r} has letter {letter!r}, which has no mouth shape; "
                "use a voice whose sounds are all in loopy.synthetic.visemes.PHONEMES"
            )
    return shares or [(0, 1)]


def blurred(values: Float[Tensor, "t c"], width: float) -> Float[Tensor, "t c"]:
    """Blend in time by a Gaussian of finite reach, so that silence stays exactly neutral.

    Args:
        values: Columns of steps.
        width: Standard deviation in steps.
    """
    kernel = gaussian(width)
    reach = len(kernel) // 2
    padded = functional.pad(values.T[:, None], (reach, reach), mode="replicate")
    return functional.conv1d(padded, (kernel / kernel.sum())[None, None])[:, 0].T


def gaussian(width: float) -> Float[Tensor, "t"]:
    """A bell of height 1 out to three standard deviations, which are ``width`` steps each."""
    reach = round(3 * width)
    return torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / width) ** 2)


def _closure_gate(
    place: Int[Tensor, " p"], lasts: Int[Tensor, " p"], steps: int
) -> Float[Tensor, " t"]:
    """Zero while the lips are closed, one elsewhere, ramps of 30 ms between."""
    closed = torch.zeros(steps)
    spare = (_CLOSURE_STEPS - lasts).clamp(min=0)
    for start, length in zip((place - spare // 2).tolist(), (lasts + spare).tolist(), strict=True):
        closed[max(0, start) : max(0, start) + length] = 1
    wide = functional.max_pool1d(closed[None], 7, stride=1, padding=3)
    return 1 - functional.avg_pool1d(wide, 7, stride=1, padding=3, count_include_pad=False)[0]
