"""Clips out of a clip store, for the image and the clip stage."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from torch import nn
from torch.utils.data import DataLoader

from loopy.data.store import ClipStore
from loopy.errors import ConfigurationError
from loopy.models.folder import load_part
from loopy.models.weights import fingerprint
from loopy.segments import SegmentLayout
from loopy.training.clip_sampler import ClipSampler
from loopy.training.datamodule import Deciders, LoopyDataModule
from loopy.training.drops import DropRates


class StoreClips(LoopyDataModule):
    """Windows of a clip store, each read by its rows alone.

    Args:
        store: The store: a folder, or an address of a bucket.
        parts: Folder with the ``vae`` and ``audio_encoder`` that made it.
        layout: How the past is squeezed; as in the model.
        clip_frames: Frames of a clip.
        reference: Where the portrait is from: ``outside`` the clip (30 frames away where it can
            be), or ``within`` it (the paper).
        still_start: A history that is cut short is that of a video which began with the portrait
            held still; as in the model. False, the paper: it is masked.
        mirror: How often a mirrored window is read; the store must hold mirrored latents.
        mouth_weight: Weight of the loss in the mouth's box; 1 = plain, the paper.
        eye_weight: Weight in the box around both eyes, likewise.
        drops: Only the share of whole histories is read here.
        batch_size: Clips in a batch, on each rank.
        validation_batches: Most batches of the validation split that are looked at.
        seed: Of order and windows.
        workers: Processes that read.

    Raises:
        StoreError: There is no store, or it has no index.
        ConfigurationError: Fewer clips to train on than a batch takes, or the store lacks what is
            asked for.
    """

    def __init__(
        self,
        *,
        store: str,
        parts: Path,
        layout: SegmentLayout = SegmentLayout(),  # noqa: B008 (frozen)
        clip_frames: int = 12,
        reference: Literal["outside", "within"] = "outside",
        still_start: bool = False,
        mirror: float = 0.0,
        mouth_weight: float = 1.0,
        eye_weight: float = 1.0,
        drops: DropRates = DropRates(),  # noqa: B008 (frozen)
        batch_size: int = 6,
        validation_batches: int = 8,
        seed: int = 0,
        workers: int = 2,
    ) -> None:
        super().__init__(
            batch_size=batch_size,
            validation_batches=validation_batches,
            seed=seed,
            workers=workers,
        )
        if batch_size < 2:
            raise ConfigurationError("batch_size 1 leaves no other talk to compare with; give 2")
        if layout.mode not in ("far", "middle", "near"):
            raise ConfigurationError(
                f"a window names fixed past frames: layout mode far, middle or near, "
                f"got {layout.mode!r}"
            )
        opened = ClipStore.open(store)
        if mirror and not opened.description.mirrored:
            raise ConfigurationError(
                f"{store} holds no mirrored latents; preprocess with them, or set mirror to 0"
            )
        # What a bucket is read with does not outlive a fork.
        self.worker_context = "spawn" if "://" in store else None
        self.layout, self.clip_frames, self.drops = layout, clip_frames, drops
        self.still_start = still_start
        self.size_px = opened.description.size_px
        self.vae = load_part(parts, "vae").requires_grad_(False)
        self.audio_encoder = load_part(parts, "audio_encoder")
        _check_models(opened, {"vae": self.vae, "audio_encoder": self.audio_encoder}, parts)
        self.sampler = ClipSampler(
            opened,
            batch_size,
            layout=layout,
            clip_frames=clip_frames,
            reference=reference,
            still_start=still_start,
            mirror=mirror,
            weights={"mouth": mouth_weight, "eyes": eye_weight},
            drops=drops,
            seed=seed,
        )
        self.sampler.check(ranks=1)

    def setup(self, stage: str) -> None:
        """Makes sure that the clips go round all ranks.

        Raises:
            ConfigurationError: They do not, or lightning would share them out once more.
        """
        super().setup(stage)
        if stage == "fit":
            self.sampler.check(self._trainer().world_size)

    def decided_by(self) -> Deciders:
        """Other clips in the store, or other rows of them, are other batches."""
        return self.sampler.decided_by()

    def batches(self) -> Callable[[str, int, int, int], Any]:
        """What makes a batch: the sampler, without trainer and networks."""
        return self.sampler.batch

    def held_out_batches(self, ranks: int) -> int:
        """Whole batches of the validation split, no more than asked for."""
        whole = len(self.sampler.held_out_rows) // (self.batch_size * ranks)
        return min(self.validation_batches, whole)

    def val_dataloader(self) -> DataLoader:
        """The first clips of the validation split, one window each, with whole histories."""
        ranks = self._trainer().world_size
        if self.validation_batches and not self.held_out_batches(ranks):
            warnings.warn(
                f"the validation split has {len(self.sampler.held_out_rows)} clips, under one "
                f"batch of {self.batch_size * ranks}: nothing is validated; index with a larger "
                "share",
                stacklevel=2,
            )
        return super().val_dataloader()


def _check_models(store: ClipStore, networks: dict[str, nn.Module], parts: Path) -> None:
    """Makes sure that a store holds what the given networks make.

    Raises:
        ConfigurationError: It was made with others.
    """
    made_with = store.description.models
    for name, network in networks.items():
        if name in made_with and made_with[name] != fingerprint(network):
            raise ConfigurationError(
                f"the clip store was made with another {name} than that in {parts}; give the "
                "parts it was made with, or preprocess again"
            )
