"""Many channels to one voice: the centre or the mean, unless the voice is lost in it."""

from typing import NamedTuple, Self

import numpy as np
from jaxtyping import Float32

from loopy.data.media.sound_blocks import PART_SAMPLES, Block, Channels

SILENT = 1e-10
"""Under this power (-100 dB) nothing is audible, and rounding must not decide."""
FAINT = 0.01
"""A centre of less than this share of the power of the loudest channel (-20 dB) has no voice."""
CANCELLED = 0.5
"""Unrelated channels add up to the sum of their powers, and all of a voice to more; a sum of less
than this share of it says that they are in opposite phase and cancel each other."""

Mono = Float32[np.ndarray, " samples"]


class Form(NamedTuple):
    """Channels, and which of them is the centre."""

    channels: int
    centre: int | None


class Mixer:
    """Mixes sound to one channel, and finds out whether that loses the voice.

    Of surround sound that is the centre, where films have the voice; of all other sound the mean
    of the channels. Only at the end is it known whether the centre was silent, or whether the mean
    cancelled what is in opposite phase; `better` then says how to mix in a second pass.

    Args:
        picks: Per form the channel to take; None: the mean.
    """

    def __init__(self, picks: dict[Form, int | None] | None = None) -> None:
        self._picks = dict(picks or {})
        self._powers = dict[Form, Powers]()

    def __call__(self, block: Block) -> Mono:
        """One channel for many."""
        samples, form = block.samples, Form(len(block.samples), block.centre)
        if form.channels == 1:
            return samples[0]
        self._powers.setdefault(form, Powers(form.channels)).add(samples)
        pick = self._picks.setdefault(form, form.centre)
        return samples.mean(0) if pick is None else samples[pick]

    def better(self) -> Self | None:
        """How to mix in a second pass so that the voice is heard; None: there is no need."""
        picks = {form: powers.pick(form.centre) for form, powers in self._powers.items()}
        return type(self)(picks) if picks != self._picks else None


class Powers:
    """Sums of the products of any two channels: from them follows the power of any mixture."""

    def __init__(self, channels: int) -> None:
        self._count = 0
        self._sums = np.zeros(channels)
        self._products = np.zeros((channels, channels))

    def add(self, samples: Channels) -> None:
        """Takes in some samples."""
        self._count += samples.shape[1]
        for start in range(0, samples.shape[1], PART_SAMPLES):
            exact = samples[:, start : start + PART_SAMPLES].astype(np.float64)
            self._sums += exact.sum(1)
            self._products += exact @ exact.T

    def pick(self, centre: int | None) -> int | None:
        """The channel to take; None: the mean of all."""
        means = self._sums / max(self._count, 1)
        powers = self._products / max(self._count, 1) - np.outer(means, means)
        each = powers.diagonal()
        if each.max() < SILENT or (centre is not None and each[centre] >= FAINT * each.max()):
            return centre
        return int(each.argmax()) if powers.sum() < CANCELLED * each.sum() else None
