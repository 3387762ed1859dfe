"""Many channels to one voice: the centre or the mean, unless the voice is lost in it."""

from typing import NamedTuple, Self

import numpy as np
from jaxtyping import Float32, Float64

from loopy.data.media.sound_blocks import PART_SAMPLES, Block

SILENT = 1e-10
"""Under this power (-100 dB) nothing is audible, and rounding must not decide."""
FAINT = 0.01
"""A centre of less than this share of the power of the loudest channel (-20 dB) has no voice."""
CANCELLED = 0.5
"""Unrelated channels add up to the sum of their powers, and all of a voice to more; a sum of less
than this share of it says that they are in opposite phase and cancel each other."""


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
        self._products = dict[Form, np.ndarray]()

    def __call__(self, block: Block) -> Float32[np.ndarray, " samples"]:
        """One channel for many."""
        samples, form = block.samples, Form(len(block.samples), block.centre)
        if form.channels == 1:
            return samples[0]
        products = self._products.setdefault(form, np.zeros((form.channels + 1,) * 2))
        for start in range(0, samples.shape[1], PART_SAMPLES):
            exact = samples[:, start : start + PART_SAMPLES].astype(np.float64)
            exact = np.vstack([exact, np.ones(exact.shape[1])])
            products += exact @ exact.T
        pick = self._picks.setdefault(form, form.centre)
        return samples.mean(0) if pick is None else samples[pick]

    def better(self) -> Self | None:
        """How to mix in a second pass so that the voice is heard; None: there is no need."""
        picks = {form: _pick(each, form.centre) for form, each in self._products.items()}
        return type(self)(picks) if picks != self._picks else None


def _pick(products: Float64[np.ndarray, "c1 c1"], centre: int | None) -> int | None:
    """The channel to take; None: the mean of all.

    Products of any two channels, the last of which is 1, are summed over time: from them follows
    the power of any mixture.
    """
    *means, _ = products[-1] / max(products[-1, -1], 1)
    powers = products[:-1, :-1] / max(products[-1, -1], 1) - np.outer(means, means)
    each = powers.diagonal()
    if each.max() < SILENT or (centre is not None and each[centre] >= FAINT * each.max()):
        return centre
    return int(each.argmax()) if powers.sum() < CANCELLED * each.sum() else None
