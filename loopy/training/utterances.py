"""Random utterances with the truth of every 20 ms, for the audio encoder."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from loopy.synthetic.noise import augment
from loopy.synthetic.talker import Kind, random_talk
from loopy.synthetic.visemes import phoneme_labels, viseme_tracks
from loopy.training.datamodule import SyntheticData

RATE_HZ = 50
"""Rate of wav2vec2's vectors."""

_KINDS: tuple[tuple[Kind, float], ...] = (
    ("speech", 0.7),
    ("mixed", 0.15),
    ("noise", 0.08),
    ("listening", 0.04),
    ("silence", 0.03),
)


class Utterances(NamedTuple):
    """A batch of sounds of the same length.

    Attributes:
        audio: 16 kHz, of mean 0 and variance 1, as the encoder wants it.
        phonemes: Index into `PHONEMES` at 50 Hz; 0 is silence.
        visemes: Open, wide, round and teeth at 50 Hz, each 0 to 1.
    """

    audio: Float[Tensor, "n samples"]
    phonemes: Int[Tensor, "n l"]
    visemes: Float[Tensor, "n l 4"]


class SyntheticSpeech(SyntheticData):
    """Random voices in random rooms; one sound in seven holds no speech, and no mouth opens.

    Args:
        seconds: Length of a sound.
        batch_size: Samples in a batch, on each rank.
        validation_batches: Batches of the held-out set.
        seed: Of every sample.
        workers: Processes that make batches; 0 makes them in the training process.
    """

    def __init__(
        self,
        *,
        seconds: float = 4.0,
        batch_size: int = 6,
        validation_batches: int = 8,
        seed: int = 0,
        workers: int = 0,
    ) -> None:
        super().__init__(
            batch_size=batch_size,
            validation_batches=validation_batches,
            seed=seed,
            workers=workers,
        )
        self.seconds = seconds

    def make(self, generator: torch.Generator) -> Utterances:
        """Speaks one batch."""
        return Utterances(*map(torch.stack, zip(*self._sounds(generator), strict=True)))

    def _sounds(self, generator: torch.Generator) -> list[tuple[Tensor, Tensor, Tensor]]:
        kinds, shares = zip(*_KINDS, strict=True)
        drawn = torch.multinomial(
            torch.tensor(shares), self.batch_size, replacement=True, generator=generator
        )
        seeds = torch.randint(2**62, (self.batch_size,), generator=generator)
        sounds = []
        for seed, index in zip(seeds.tolist(), drawn.tolist(), strict=True):
            talk = random_talk(seed, seconds=self.seconds, kind=kinds[index])
            audio = augment(talk.audio, generator)
            audio = (audio - audio.mean()) * (audio.var(correction=0) + 1e-7).rsqrt()
            truth = (talk.phonemes, self.seconds)
            visemes = viseme_tracks(*truth, fps=RATE_HZ)
            sounds.append((audio, phoneme_labels(*truth, rate_hz=RATE_HZ), visemes))
        return sounds
