"""Clips out of a shot store, for the image and the clip stage."""

import warnings
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader

from loopy.data.store.shot_store import ShotStore
from loopy.data.store.storage import is_address
from loopy.data.store.windows import Window, read_window
from loopy.records import Clip
from loopy.training.clip_sampler import ClipSampler, WindowOptions
from loopy.training.datamodule import ClipData, DataSignature


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
        super().__init__(
            self.windows,
            batch_size=batch_size,
            validation_batches=validation_batches,
            seed=seed,
            workers=workers,
        )
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
        """Of the first video of the validation split.

        Raises:
            StoreError: It is damaged.
        """
        store, row, length = (
            self.sampler.store,
            int(self.sampler.held_out_rows[0]),
            self.clip_frames,
        )
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
        """Opens the store, and makes sure that the clips to train on go round all ranks.

        Raises:
            StoreError: There is no store, or it has no index.
            ConfigurationError: The clips do not go round, the store lacks what is asked for, or
                lightning would share batches out once more.
        """
        super().setup(stage)
        sampler = self.sampler
        if stage == "fit":
            sampler.check(1 if self.trainer is None else self.trainer.world_size)

    def data_signature(self) -> DataSignature:
        """Other clips in the store, or other rows of them, are other batches."""
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
            batch = self.sampler.held_out_size * ranks
            warnings.warn(
                f"the validation split has {len(self.sampler.held_out_rows)} clips, under one "
                f"batch of {batch}: nothing is validated; index with a larger share",
                stacklevel=2,
            )
        return super().val_dataloader()
