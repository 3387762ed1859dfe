"""Clips out of a shot store, for the image and the clip stage."""

import warnings
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from torch.utils.data import DataLoader

from loopy.data.store.shot_store import ShotStore
from loopy.data.store.storage import is_address
from loopy.data.store.windows import Window, read_window
from loopy.errors import ConfigurationError
from loopy.records import Clip
from loopy.segments import SegmentLayout
from loopy.timing import AudioWindow
from loopy.training.clip_sampler import ClipSampler
from loopy.training.datamodule import ClipData, DataSignature
from loopy.training.dropout import ConditionDropout


class StoreClips(ClipData):
    """Windows of a shot store, each read by its rows alone.

    The store is opened in `setup`, or where it is first looked at: an export needs none.

    Args:
        store: The store: a folder, or an address of a bucket.
        layout: How the past is squeezed; as in the model.
        clip_frames: Frames of a clip.
        audio_window: Whose sound a frame hears; as the model's projection.
        reference: Where the portrait is from: ``outside`` the clip (30 frames away where it can
            be), or ``within`` it (the paper).
        static_history: A history that is cut short is that of a video which began with the portrait
            held still; as in the model. False, the paper: it is masked.
        past: Whether frames before the clip are read. False is for the image stage, which has no
            use for them: its frames come from all over a video, not only from behind a past.
        mirror: How often a mirrored window is read; the store must hold mirrored latents.
        posterior: Latents are the ``mean`` of their posterior, or a ``sample`` of it, drawn anew
            for each window; the store must hold log-variances.
        mouth_weight: Weight of the loss in the mouth's box; 1 = plain, the paper.
        eye_weight: Weight in the box around both eyes, likewise.
        drops: Only the share of whole histories is read here.
        batch_size: Clips in a batch, on each rank; validation takes two at least, to give one
            clip the sound and the past of another.
        validation_batches: Most batches of the validation split that are looked at.
        skip_damaged: So many damaged clips each rank leaves out, with a warning; others take their
            places, and ``damaged`` is logged. 0 ends the run at the first one.
        copies: Folder that clips of a bucket are copied to, whole, at their first use.
        copies_gb: Bound of that folder.
        bucket_options: Of `obstore.store.from_url`, for a bucket.
        seed: Of order and windows.
        workers: Processes that read.

    Raises:
        ConfigurationError: Options that exclude each other.
    """

    def __init__(
        self,
        *,
        store: str,
        layout: SegmentLayout = SegmentLayout(),  # noqa: B008 (frozen)
        clip_frames: int = 12,
        audio_window: AudioWindow = AudioWindow(),  # noqa: B008 (frozen)
        reference: Literal["outside", "within"] = "outside",
        static_history: bool = False,
        past: bool = True,
        mirror: float = 0.0,
        posterior: Literal["mean", "sample"] = "mean",
        mouth_weight: float = 1.0,
        eye_weight: float = 1.0,
        drops: ConditionDropout = ConditionDropout(),  # noqa: B008 (frozen)
        batch_size: int = 6,
        validation_batches: int = 8,
        skip_damaged: int = 0,
        copies: Path | None = None,
        copies_gb: float = 50.0,
        bucket_options: dict[str, Any] | None = None,
        seed: int = 0,
        workers: int = 2,
    ) -> None:
        super().__init__(
            batch_size=batch_size,
            validation_batches=validation_batches,
            seed=seed,
            workers=workers,
        )
        if layout.mode not in ("far", "middle", "near"):
            raise ConfigurationError(
                f"a window names fixed past frames: layout mode far, middle or near, "
                f"got {layout.mode!r}"
            )
        if mirror and posterior == "sample":
            raise ConfigurationError(
                "a store keeps no log-variance of mirrored pictures; set mirror to 0, or posterior "
                "to mean"
            )
        # What a bucket is read with does not outlive a fork.
        self.worker_context = "spawn" if is_address(store) else None
        self.store = store
        self.reading = {"copies": copies, "copies_gb": copies_gb, "options": bucket_options}
        self.layout, self.clip_frames, self.drops = layout, clip_frames, drops
        self.audio_window = audio_window
        self.reference: Literal["outside", "within"] = reference
        self.posterior: Literal["mean", "sample"] = posterior
        self.static_history, self.mirror, self.skip_damaged = static_history, mirror, skip_damaged
        self.past = past
        self.weights = {"mouth": mouth_weight, "eyes": eye_weight}

    @cached_property
    def sampler(self) -> ClipSampler:
        """What reads the store, which is opened at the first call.

        Raises:
            StoreError: There is no store, or it has no index.
            ConfigurationError: It lacks what is asked for.
        """
        store = ShotStore.open(self.store, **self.reading)
        _check_content(store, mirror=self.mirror, posterior=self.posterior)
        return ClipSampler(
            store,
            self.batch_size,
            layout=self.layout,
            clip_frames=self.clip_frames,
            audio_window=self.audio_window,
            reference=self.reference,
            static_history=self.static_history,
            past=self.past,
            mirror=self.mirror,
            weights=self.weights,
            drops=self.drops,
            posterior=self.posterior,
            skip_damaged=self.skip_damaged,
            seed=self.seed,
        )

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


def _check_content(store: ShotStore, *, mirror: float, posterior: str) -> None:
    """Makes sure that a store holds what shall be read.

    Raises:
        ConfigurationError: It does not.
    """
    if mirror and not store.description.mirrored:
        raise ConfigurationError(
            f"{store.root} holds no mirrored latents; preprocess with them, or set mirror to 0"
        )
    if posterior == "sample" and not store.description.log_variance:
        raise ConfigurationError(
            f"{store.root} holds no log-variance; preprocess with it, or set posterior to mean"
        )
