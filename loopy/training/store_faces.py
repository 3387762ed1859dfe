"""Pictures of a shot store, read again from its videos, for the autoencoder."""

from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor
from tqdm import tqdm

from loopy.data.media.video_reader import iterate_frames
from loopy.data.store.index import TRAIN, VALIDATION
from loopy.data.store.shot_store import ShotStore
from loopy.errors import ConfigurationError
from loopy.faces.framing import crop_frames
from loopy.pixels import from_pixels
from loopy.randomness import generator
from loopy.timing import FPS
from loopy.training.autoencoder import FaceBatch
from loopy.training.datamodule import DataSignature, LoopyDataModule


class Faces(NamedTuple):
    """Crops of one split.

    Attributes:
        pictures: As the store's latents were made of.
        points: 68 landmarks in pixels of the crop.
        valid: Which of them were found.
    """

    pictures: UInt8[Tensor, "n H W 3"]
    points: Float[Tensor, "n 68 2"]
    valid: Bool[Tensor, "n 68"]

    @classmethod
    def cat(cls, parts: list[Self]) -> Self:
        """One behind the other."""
        return cls(*map(torch.cat, zip(*parts, strict=True)))


class StoreFaces(LoopyDataModule):
    """Every n-th frame of each shot, cut out of its video once more; all are kept in memory.

    The latents of the store play no part: any autoencoder of its size will do to make it.

    Args:
        store: A store whose videos are where they were.
        every: Distance of two frames of a shot; 5 pictures a second of 128 px are 0.25 MB.
        batch_size: Pictures in a batch, on each rank.
        validation_batches: Batches of the validation split.
        **loader: See `LoopyDataModule`.
    """

    def __init__(
        self,
        *,
        store: Path,
        every: int = 5,
        batch_size: int = 8,
        validation_batches: int = 8,
        **loader: Any,
    ) -> None:
        super().__init__(batch_size=batch_size, validation_batches=validation_batches, **loader)
        self.store, self.every = store, every

    @cached_property
    def faces(self) -> dict[str, Faces]:
        """Crops by purpose; read at the first use, with a bar.

        Raises:
            StoreError: There is no store, or it has no index.
            MediaError: A video is not where it was, or has changed.
            ConfigurationError: A split has no shots.
        """
        store = ShotStore.open(self.store)
        splits = {"training": TRAIN, "validation": VALIDATION}
        rows = {
            name: (store.index["split"] == it).nonzero()[0].tolist() for name, it in splits.items()
        }
        if empty := [name for name, found in rows.items() if not found]:
            raise ConfigurationError(
                f"{self.store} has no shots for {empty[0]}; index it with another share "
                "(loopy data index --validation)"
            )
        with tqdm(total=sum(map(len, rows.values())), desc="pictures", unit="shot") as bar:
            return {name: self._read(store, found, bar) for name, found in rows.items()}

    def setup(self, stage: str) -> None:
        """Reads the pictures."""
        super().setup(stage)
        _ = self.faces

    def data_signature(self) -> DataSignature:
        """Pictures are drawn from all there are."""
        return {"pictures": len(self.faces["training"].pictures)}

    def _batch(self, purpose: str, number: int, rank: int, ranks: int) -> FaceBatch:
        faces = self.faces[purpose]
        drawn = generator(self.seed, purpose, number, rank)
        chosen = torch.randint(len(faces.pictures), (self.batch_size,), generator=drawn)
        pictures = from_pixels(faces.pictures[chosen].permute(0, 3, 1, 2))
        return FaceBatch(pictures, faces.points[chosen], faces.valid[chosen])

    def _read(self, store: ShotStore, rows: list[int], bar: tqdm) -> Faces:
        parts = list[Faces]()
        for row in rows:
            about = store.about(row)
            where, frames = about["provenance"], range(0, about["frames"], self.every)
            start = round(where["start_s"] * FPS)
            span = range(start, start + about["frames"], self.every)
            pictures = torch.stack(
                [*map(torch.from_numpy, iterate_frames(where["source"], span=span))]
            )
            found = store.read(row, {"points": frames, "valid": frames})
            left, top, right, bottom = map(round, where["crop_px"])
            box, size_px = (left, top, right, bottom), store.description.size_px
            crops = crop_frames(pictures, box, size_px=size_px)
            parts.append(Faces(crops, found["points"], found["valid"]))
            bar.update()
        return Faces.cat(parts)
