"""Batches out of a shot store: which clip comes when, and where in it.

The samples of all ranks are one endless row: epoch after epoch, each clip of the training split
once an epoch, in an order that depends on (seed, epoch). Sample g of that row belongs to batch
g // (batch size x ranks), so ranks share it out and never meet, whatever their number. Only where
one epoch ends and the next begins can a batch look at a clip twice.
"""

import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from hashlib import sha256
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from loopy.data.store.index import TRAIN, VALIDATION
from loopy.data.store.shot_store import ShotStore
from loopy.data.store.windows import draw_window, read_window
from loopy.errors import ConfigurationError, CorruptFileError
from loopy.randomness import generator
from loopy.records import Clip
from loopy.segments import SegmentLayout
from loopy.timing import AudioWindow
from loopy.training.datamodule import DataSignature
from loopy.training.dropout import ConditionDropout
from loopy.training.faces import part_mask

FEWEST_HELD_OUT = 2
"""Clips in a batch of the validation split, at least: each takes the voice of the next one."""


@dataclass(frozen=True, eq=False)
class ClipSampler:
    """Makes batches; it pickles, for workers that are spawned.

    Args:
        store: Where from.
        batch_size: Clips in a batch, on each rank.
        layout: How the past is squeezed.
        clip_frames: Frames of a clip.
        audio_window: Whose sound a frame hears.
        reference: Where the portrait is from.
        static_history: A history cut short is that of a video which began with the portrait.
        past: Whether frames before the clip are read; False leaves all slots empty.
        mirror: How often a mirrored window is read in training.
        weights: Weight of the loss around ``eyes`` and ``mouth``.
        drops: Only the share of whole histories is read here.
        posterior: Latents are the ``mean`` of their posterior, or a ``sample`` of it.
        skip_damaged: So many damaged clips are left out by each rank, with a warning; the next
            clip in the order takes the place of one. It is found damaged by what a window reads
            of it, so that a batch remains a function of its number and the files.
        seed: Of order and windows.
    """

    store: ShotStore
    batch_size: int
    layout: SegmentLayout = SegmentLayout()  # noqa: RUF009 (frozen)
    clip_frames: int = 12
    audio_window: AudioWindow = AudioWindow()  # noqa: RUF009 (frozen)
    reference: Literal["outside", "within"] = "outside"
    static_history: bool = False
    past: bool = True
    mirror: float = 0.0
    weights: Mapping[str, float] = field(default_factory=dict)
    drops: ConditionDropout = ConditionDropout()  # noqa: RUF009 (frozen)
    posterior: Literal["mean", "sample"] = "mean"
    skip_damaged: int = 0
    seed: int = 0
    _damaged: Bool[Tensor, " clips"] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Count damaged clips in memory that workers share."""
        seen = torch.zeros(len(self.store.index), dtype=torch.bool).share_memory_()
        object.__setattr__(self, "_damaged", seen)

    @property
    def damaged(self) -> int:
        """Clips that were found damaged so far, by this process and its workers."""
        return int(self._damaged.sum())

    @cached_property
    def rows(self) -> Int[np.ndarray, " clips"]:
        """Clips of the training split that are longer than a window."""
        return self._long_enough(TRAIN)

    @cached_property
    def held_out_rows(self) -> Int[np.ndarray, " clips"]:
        """The same of the validation split."""
        return self._long_enough(VALIDATION)

    @property
    def longest_history(self) -> int:
        """Most frames before a clip that are read."""
        return self.layout.past_frames if self.past else 0

    @property
    def held_out_size(self) -> int:
        """Clips in a batch of the validation split: two at least, to be compared."""
        return max(self.batch_size, FEWEST_HELD_OUT)

    def __getstate__(self) -> dict[str, object]:
        """Another process looks the rows up itself."""
        return {k: v for k, v in vars(self).items() if k not in ("rows", "held_out_rows")}

    def data_signature(self) -> DataSignature:
        """Which rows of which clips are read, beside seed, batch size and ranks.

        Weights of the loss are not among it: they may change in mid-run. Nor is how many damaged
        clips may be left out: whoever goes on without one has no other way.
        """
        clips = self.store.index["id"][self.rows].tobytes()
        drawn = ", drawn from their posteriors" if self.posterior == "sample" else ""
        return {
            "clips": f"{len(self.rows)} ({sha256(clips).hexdigest()[:12]}){drawn}",
            "clip_frames": self.clip_frames,
            "layout": str(self.layout) if self.past else "without a past",
            "reference": self.reference,
            "static_history": self.static_history,
            "mirror": self.mirror,
            "full_history": self.drops.full_history,
        }

    def check(self, ranks: int) -> None:
        """Makes sure that the clips go round.

        Raises:
            ConfigurationError: The ranks would train on some clip twice in one step.
        """
        clips, together = len(self.rows), self.batch_size * ranks
        if clips < together:
            raise ConfigurationError(
                f"{clips} clips of more than {self.clip_frames} frames to train on, and a step "
                f"takes {together} (batch_size {self.batch_size}, ranks {ranks}); use a smaller "
                "batch_size, fewer ranks, or more clips"
            )

    def batch(self, purpose: str, number: int, rank: int, ranks: int) -> Clip:
        """One batch of a rank; see `LoopyDataModule.batches`.

        Raises:
            ConfigurationError: Fewer clips than a step takes.
            CorruptFileError: More clips than `skip_damaged` are missing or damaged.
            StoreError: A clip is out of reach.
        """
        validation = purpose == "validation"
        size = self.held_out_size if validation else self.batch_size
        first = (number * ranks + rank) * size
        places = range(first, first + size)
        if validation:
            return Clip.cat([self._held_out(place) for place in places])
        self.check(ranks)
        return Clip.cat([self._training(place) for place in places])

    def _long_enough(self, split: int) -> Int[np.ndarray, " clips"]:
        index = self.store.index
        return np.flatnonzero((index["split"] == split) & (index["frames"] > self.clip_frames))

    def _training(self, sample: int) -> Clip:
        epoch, place = divmod(sample, len(self.rows))
        clips = len(self.rows)
        order = _order(self.seed, epoch, clips)

        def read(row: int) -> Clip:
            draw = generator(self.seed, "window", sample)
            history = self.drops.history(
                draw, longest=self.longest_history, clip_frames=self.clip_frames
            )
            return self._read(row, draw, history=history, mirror=self.mirror)

        places = (order[(place + step) % clips] for step in range(clips))
        return self._first_whole((int(self.rows[each]) for each in places), read)

    def _held_out(self, place: int) -> Clip:
        def read(row: int) -> Clip:
            draw = generator(self.seed, "held-out window", row)
            return self._read(row, draw, history=self.longest_history, mirror=0.0)

        rows = self.held_out_rows
        return self._first_whole(
            (int(rows[(place + i) % len(rows)]) for i in range(len(rows))), read
        )

    def _first_whole(self, rows: Iterable[int], read: Callable[[int], Clip]) -> Clip:
        """What the first clip gives that is not damaged, as long as few are."""
        for row in rows:
            try:
                return read(row)
            except CorruptFileError as error:
                if not self._damaged[row]:
                    if self.damaged >= self.skip_damaged:
                        raise CorruptFileError(
                            f"{error}; loopy data check lists all damage, and skip_damaged "
                            f"(now {self.skip_damaged}) leaves so many clips out"
                        ) from error
                    self._damaged[row] = True
                    warnings.warn(f"a clip is left out: {error}", stacklevel=2)
        raise CorruptFileError(f"{self.store.root}: not one clip is whole; preprocess again")

    def _read(self, row: int, draw: torch.Generator, *, history: int, mirror: float) -> Clip:
        window = draw_window(
            int(self.store.index["frames"][row]),
            draw,
            clip_frames=self.clip_frames,
            history=history,
            reference=self.reference,
            mirror=mirror,
            static_history=self.longest_history if self.static_history and self.past else None,
        )
        clip, motion = read_window(
            self.store,
            row,
            window,
            layout=self.layout,
            clip_frames=self.clip_frames,
            audio_window=self.audio_window,
            noise=draw if self.posterior == "sample" else None,
        )
        extra = {part: each - 1 for part, each in self.weights.items() if each != 1}
        if not extra:
            return clip
        cells = clip.latents.shape[-1]
        masks = [each * part_mask(motion, part, cells=cells) for part, each in extra.items()]
        return replace(clip, weight=1 + torch.stack(masks).sum(0)[None])


@lru_cache(maxsize=2)
def _order(seed: int, epoch: int, clips: int) -> Int[Tensor, " clips"]:
    return torch.randperm(clips, generator=generator(seed, "order", epoch))
