"""Clips out of a shot store, for the image and the clip stage: which comes when, and where in it.

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
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor
from torch.utils.data import DataLoader

from loopy.data.store.index import TRAIN, VALIDATION
from loopy.data.store.shot_store import ShotStore
from loopy.data.store.storage import is_address
from loopy.data.store.windows import Window, draw_window, read_window
from loopy.errors import ConfigurationError, CorruptFileError
from loopy.motion import part_mask
from loopy.randomness import generator
from loopy.records import Clip
from loopy.training.datamodule import ClipData, ClipOptions, DataSignature

FEWEST_HELD_OUT = 2
"""Clips in a batch of the validation split, at least: each takes the voice of the next one."""


@dataclass(frozen=True)
class WindowOptions(ClipOptions):
    """How windows are drawn and read; see `ClipOptions`.

    Args:
        past: Whether frames before the clip are read. False is for the image stage, which has no
            use for them: its frames come from all over a video, and all slots are empty.
        mirror: How often a mirrored window is read in training; the store must hold mirrored
            latents.
        posterior: Latents are the ``mean`` of their posterior, or a ``sample`` of it, drawn anew
            for each window; the store must hold log-variances.
    """

    past: bool = True
    mirror: float = 0.0
    posterior: Literal["mean", "sample"] = "mean"

    def __post_init__(self) -> None:
        """Refuse what no store can give."""
        if self.layout.mode not in ("far", "middle", "near"):
            raise ConfigurationError(
                f"a window names fixed past frames: layout mode far, middle or near, "
                f"got {self.layout.mode!r}"
            )
        if self.mirror and self.posterior == "sample":
            raise ConfigurationError(
                "a store keeps no log-variance of mirrored pictures; set mirror to 0, or posterior "
                "to mean"
            )

    @property
    def longest_history(self) -> int:
        """Most frames before a clip that are read."""
        return self.layout.past_frames if self.past else 0

    def check(self, store: ShotStore) -> None:
        """Makes sure that a store holds what is read."""
        if self.mirror and not store.description.mirrored:
            raise ConfigurationError(
                f"{store.root} holds no mirrored latents; preprocess with them, or set mirror to 0"
            )
        if self.posterior == "sample" and not store.description.log_variance:
            raise ConfigurationError(
                f"{store.root} holds no log-variance; preprocess with it, or set posterior to mean"
            )


@dataclass(eq=False)
class ClipSampler:
    """Makes batches; it pickles, for workers that are spawned.

    Args:
        store: Where from.
        batch_size: Clips in a batch, on each rank.
        windows: What is read of a shot.
        skip_damaged: So many damaged shots are left out by each rank, with a warning; the next
            shot in the order takes the place of one. It is found damaged by what a window reads
            of it, so that a batch remains a function of its number and the files.
        seed: Of order and windows.
    """

    store: ShotStore
    batch_size: int
    windows: WindowOptions = WindowOptions()
    skip_damaged: int = 0
    seed: int = 0
    _damaged: Bool[Tensor, " shots"] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Count damaged clips in memory that workers share."""
        self._damaged = torch.zeros(len(self.store.index), dtype=torch.bool).share_memory_()

    @property
    def damaged(self) -> int:
        """Clips that were found damaged so far, by this process and its workers."""
        return int(self._damaged.sum())

    @cached_property
    def rows(self) -> Int[np.ndarray, " shots"]:
        """Clips of the training split that are longer than a window."""
        return self._long_enough(TRAIN)

    @cached_property
    def held_out_rows(self) -> Int[np.ndarray, " shots"]:
        """The same of the validation split."""
        return self._long_enough(VALIDATION)

    @property
    def held_out_size(self) -> int:
        """Clips in a batch of the validation split: two at least, to be compared."""
        return max(self.batch_size, FEWEST_HELD_OUT)

    def __getstate__(self) -> dict[str, object]:
        """Another process looks the rows up itself."""
        return {k: v for k, v in vars(self).items() if k not in ("rows", "held_out_rows")}

    def data_signature(self) -> DataSignature:
        """Which rows of which clips are read, beside seed, batch size and ranks.

        Neither weights of the loss nor how many damaged clips may be left out: both may change.
        """
        shots, windows = self.store.index["id"][self.rows].tobytes(), self.windows
        drawn = ", drawn from their posteriors" if windows.posterior == "sample" else ""
        return {
            "clips": f"{len(self.rows)} ({sha256(shots).hexdigest()[:12]}){drawn}",
            "clip_frames": windows.clip_frames,
            "layout": str(windows.layout) if windows.past else "without a past",
            "reference": windows.reference,
            "static_history": windows.static_history,
            "mirror": windows.mirror,
            "full_history": windows.drops.full_history,
        }

    def check(self, ranks: int) -> None:
        """Makes sure that no clip is trained on twice in one step."""
        clips, together = len(self.rows), self.batch_size * ranks
        if clips < together:
            raise ConfigurationError(
                f"{clips} clips of more than {self.windows.clip_frames} frames to train on, and a "
                f"step takes {together} (batch_size {self.batch_size}, ranks {ranks}); use a "
                "smaller batch_size, fewer ranks, or more clips"
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
        if not validation:
            self.check(ranks)
        read = self._held_out if validation else self._training
        return Clip.cat([read(place) for place in range(first, first + size)])

    def _long_enough(self, split: int) -> Int[np.ndarray, " shots"]:
        index, shortest = self.store.index, self.windows.clip_frames + 1
        return np.flatnonzero((index["split"] == split) & (index["frames"] >= shortest))

    def _training(self, sample: int) -> Clip:
        epoch, place = divmod(sample, len(self.rows))
        windows, clips = self.windows, len(self.rows)
        order = _order(self.seed, epoch, clips)

        def read(row: int) -> Clip:
            draw = generator(self.seed, "window", sample)
            history = windows.drops.history(
                draw, longest=windows.longest_history, clip_frames=windows.clip_frames
            )
            return self._read(row, draw, history=history, mirror=windows.mirror)

        places = (order[(place + step) % clips] for step in range(clips))
        return self._first_whole((int(self.rows[each]) for each in places), read)

    def _held_out(self, place: int) -> Clip:
        def read(row: int) -> Clip:
            draw = generator(self.seed, "held-out window", row)
            return self._read(row, draw, history=self.windows.longest_history, mirror=0.0)

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
        windows = self.windows
        still = windows.longest_history if windows.static_history and windows.past else None
        window = draw_window(
            int(self.store.index["frames"][row]),
            draw,
            clip_frames=windows.clip_frames,
            history=history,
            reference=windows.reference,
            mirror=mirror,
            static_history=still,
        )
        clip, motion = read_window(
            self.store,
            row,
            window,
            layout=windows.layout,
            clip_frames=windows.clip_frames,
            audio_window=windows.audio_window,
            noise=draw if windows.posterior == "sample" else None,
        )
        cells = clip.latents.shape[-1]
        weight = windows.weight(lambda part: part_mask(motion, part, cells=cells))
        return replace(clip, weight=None if weight is None else weight[None])


@lru_cache(maxsize=2)
def _order(seed: int, epoch: int, clips: int) -> Int[Tensor, " shots"]:
    return torch.randperm(clips, generator=generator(seed, "order", epoch))


class StoreClips(ClipData):
    """Windows of a shot store, each read by its rows alone.

    The store is opened in `setup`, or where it is first looked at: an export needs none.

    Args:
        store: The store: a folder, or an address of a bucket.
        batch_size: Clips in a batch, on each rank; validation takes two at least, to give one
            clip the sound and the past of another.
        validation_batches: Most batches of the validation split that are looked at.
        skip_damaged: So many damaged shots each rank leaves out, with a warning; others take their
            places, and ``damaged`` is logged. 0 ends the run at the first one.
        copies: Folder that shots of a bucket are copied to, whole, at their first use.
        copies_gb: Bound of that folder.
        bucket_options: Of `obstore.store.from_url`, for a bucket.
        seed: Of order and windows.
        workers: Processes that read.
        **windows: See `WindowOptions`.

    Raises:
        ConfigurationError: Options that exclude each other.
    """

    def __init__(
        self,
        *,
        store: str,
        batch_size: int = 6,
        validation_batches: int = 8,
        skip_damaged: int = 0,
        copies: Path | None = None,
        copies_gb: float = 50.0,
        bucket_options: dict[str, Any] | None = None,
        seed: int = 0,
        workers: int = 2,
        **windows: Any,
    ) -> None:
        self.windows = WindowOptions(**windows)
        sizes = {"batch_size": batch_size, "validation_batches": validation_batches}
        super().__init__(self.windows, **sizes, seed=seed, workers=workers)
        # What a bucket is read with does not outlive a fork.
        self.worker_context = "spawn" if is_address(store) else None
        self.store, self.skip_damaged = store, skip_damaged
        self.reading = {"copies": copies, "copies_gb": copies_gb, "options": bucket_options}

    @cached_property
    def sampler(self) -> ClipSampler:
        """What reads the store, which is opened at the first call.

        Raises:
            StoreError: There is no store, or it has no index.
            ConfigurationError: It lacks what is asked for.
        """
        store = ShotStore.open(self.store, **self.reading)
        self.windows.check(store)
        return ClipSampler(store, self.batch_size, self.windows, self.skip_damaged, self.seed)

    @property
    def damaged(self) -> int:
        """Damaged clips that this rank left out since it was started."""
        return self.sampler.damaged

    @property
    def size_px(self) -> int:
        """Side of the crop; it opens the store."""
        return self.sampler.store.description.size_px

    @property
    def made_by(self) -> Mapping[str, str]:
        """As the store's description says; it opens the store."""
        return self.sampler.store.description.models

    def held_out_stretch(self, frames: int) -> list[Clip]:
        """Clips in a row of the first video of the validation split, from frame 1 on.

        Frame 0 is the portrait; there are fewer where the video ends.
        """
        store, row = self.sampler.store, int(self.sampler.held_out_rows[0])
        length = self.clip_frames
        last = min(max(frames, length), int(store.index["frames"][row]) - 1) + 1 - length
        return [
            read_window(
                store,
                row,
                Window(start, history=0, reference=0),
                layout=self.layout,
                clip_frames=length,
                audio_window=self.audio_window,
            )[0]
            for start in range(1, last + 1, length)
        ]

    def setup(self, stage: str) -> None:
        """Opens the store, and makes sure that the clips to train on go round all ranks."""
        super().setup(stage)
        sampler = self.sampler
        if stage == "fit":
            sampler.check(1 if self.trainer is None else self.trainer.world_size)

    def data_signature(self) -> DataSignature:
        """See `ClipSampler.data_signature`."""
        return self.sampler.data_signature()

    def batches(self) -> Callable[[str, int, int, int], Any]:
        """What makes a batch: the sampler, without trainer and networks."""
        return self.sampler.batch

    def held_out_batches(self, ranks: int) -> int:
        """Whole batches of the validation split, no more than asked for."""
        whole = len(self.sampler.held_out_rows) // (self.sampler.held_out_size * ranks)
        return min(self.validation_batches, whole)

    def val_dataloader(self) -> DataLoader:
        """The first clips of the validation split, one window each, with whole histories."""
        ranks = self._trainer().world_size
        if self.validation_batches and not self.held_out_batches(ranks):
            warnings.warn(
                f"the validation split has {len(self.sampler.held_out_rows)} clips, under one "
                f"batch of {self.sampler.held_out_size * ranks}: nothing is validated; index with "
                "a larger share",
                stacklevel=2,
            )
        return super().val_dataloader()
