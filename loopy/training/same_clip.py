"""Overfitting on purpose: one clip, again and again, and how near sampling comes to it.

What does not learn one clip learns nothing. The first thing to run with new data, new weights or
changed code: minutes tell what a long run would tell in days.
"""

from collections.abc import Mapping
from functools import cached_property

import torch

from loopy.records import Clip
from loopy.training.datamodule import ClipData, DataSignature


class SameClip(ClipData):
    """The first training clip of other data, in every batch, for training and validation.

    Noise, timesteps and drops differ from sample to sample, so the loss that falls is that of all
    noise levels. Sensitivities of the validation are 0: there is no other clip.

    Args:
        data: Where the clip is from.
        batch_size: How often it stands in a batch.
        validation_batches: Batches of the validation: so many times ``batch_size`` noise levels,
            the same every time.
    """

    def __init__(self, data: ClipData, *, batch_size: int = 2, validation_batches: int = 8) -> None:
        sizes = {"batch_size": batch_size, "validation_batches": validation_batches}
        super().__init__(data.clips, **sizes, seed=data.seed)
        self.data = data

    @property
    def size_px(self) -> int:
        """Side of the crop."""
        return self.data.size_px

    @property
    def made_by(self) -> Mapping[str, str]:
        """As of the other data."""
        return self.data.made_by

    def setup(self, stage: str) -> None:
        """Opens the other data."""
        super().setup(stage)
        self.data.setup(stage)

    @cached_property
    def clip(self) -> Clip:
        """The clip, alone."""
        return self.data.batches()("training", 0, 0, 1).rows(slice(1))

    def data_signature(self) -> DataSignature:
        """The clip is that of the other data, of whose run this is none."""
        told = self.data.data_signature()
        all_of_them = next(iter(told))
        return told | {all_of_them: f"the first of {told[all_of_them]}"}

    def held_out_stretch(self, frames: int) -> list[Clip]:
        """The clip itself, to see how near sampling comes to it."""
        return [self.clip]

    def make(self, generator: torch.Generator) -> Clip:
        """The clip, so many times."""
        return Clip.cat([self.clip] * self.batch_size)
