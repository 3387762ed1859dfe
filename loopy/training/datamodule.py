"""Training data that never ends and never repeats: a batch is a function of its number.

    batch of step i on rank r  =  batch("training", i, r, ranks)

So resuming needs the number of the next batch and nothing else; the loader keeps it.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Literal, TypeVar

import lightning.pytorch as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from loopy.errors import ConfigurationError
from loopy.randomness import generator
from loopy.segments import SegmentLayout
from loopy.timing import AudioWindow
from loopy.training.dropout import ConditionDropout

Batch = TypeVar("Batch")
DataSignature = dict[str, int | float | str]
"""What makes a number stand for a batch, by name."""


@dataclass(eq=False)
class Stream(Dataset[Batch]):
    """Batches by number: so many of `LoopyDataModule.batches`, at a place (rank, ranks)."""

    batch: Callable[[str, int, int, int], Batch]
    purpose: str
    place: tuple[int, int] = (0, 1)
    batches: int = field(kw_only=True)

    def __len__(self) -> int:
        """How many there are."""
        return self.batches

    def __getitem__(self, number: int) -> Batch:
        """Makes the batch of a number."""
        return self.batch(self.purpose, number, *self.place)


@dataclass(eq=False)
class ResumableSampler(Sampler[int]):
    """Numbers of the batches to come; a resumed run goes on behind its checkpoint.

    Its length counts those before too, as lightning does.

    Args:
        stop: Batches of the whole run.
        place: Tells how many batches have been trained on.
        data_signature: What makes a number stand for a batch; a checkpoint's must be the same.
        start: The first batch to come.
    """

    stop: int
    place: Callable[[], int]
    data_signature: DataSignature
    start: int = 0

    def __len__(self) -> int:
        """Batches of the whole run."""
        return self.stop

    def __iter__(self) -> Iterator[int]:
        """Counts."""
        return iter(range(self.start, self.stop))

    def state_dict(self) -> dict[str, Any]:
        """The place, and what makes it one."""
        return {"batches": self.place(), **self.data_signature}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on behind the last batch of a checkpoint.

        Raises:
            ConfigurationError: The batches to come would not be the ones that were left.
        """
        changed = [
            f"{name} {state_dict.get(name, 'unknown')}, now {value}"
            for name, value in self.data_signature.items()
            if state_dict.get(name) != value
        ]
        if changed:
            raise ConfigurationError(
                f"the checkpoint was trained with {'; with '.join(changed)}: set it back, or start "
                "anew with --resume=false"
            )
        self.start = state_dict["batches"]


class ResumableLoader(DataLoader[Batch]):
    """A loader that keeps its sampler's place in checkpoints, and knows how it was waited for."""

    waited_s = 0.0
    """Seconds until the batches so far were there, from when each was asked for."""

    def __init__(self, data: Dataset[Batch], sampler: ResumableSampler, **options: Any) -> None:
        super().__init__(data, sampler=sampler, **options)
        self.state_dict, self.load_state_dict = sampler.state_dict, sampler.load_state_dict

    def __iter__(self) -> Iterator[Batch]:  # pyright: ignore[reportIncompatibleMethodOverride]  # all that is used
        """The batches to come; workers start now."""
        return self._timed(super().__iter__())

    def _timed(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        asked = perf_counter()
        for batch in batches:
            self.waited_s += perf_counter() - asked
            yield batch
            asked = perf_counter()


class LoopyDataModule(pl.LightningDataModule):
    """One endless epoch of batches, and a fixed held-out set.

    Args:
        batch_size: Samples in a batch, on each rank.
        validation_batches: Batches of the held-out set.
        seed: Of every sample.
        workers: Processes that make batches; 0 makes them in the training process.
    """

    def __init__(
        self, *, batch_size: int, validation_batches: int, seed: int = 0, workers: int = 0
    ) -> None:
        super().__init__()
        self.batch_size, self.validation_batches = batch_size, validation_batches
        self.seed, self.workers = seed, workers

    worker_context: str | None = None
    """How workers start; None takes the system's way."""

    @property
    def made_by(self) -> Mapping[str, str]:
        """`loopy.models.weights.store_fingerprints` of the networks that made the clips, if known.

        From `setup` on.
        """
        return {}

    def make(self, generator: torch.Generator) -> Any:
        """Makes one batch of its generator; a subclass says how, or has other `batches`."""
        raise NotImplementedError

    def batches(self) -> Callable[[str, int, int, int], Any]:
        """What makes a batch.

        Returns:
            A function of purpose ("training" or "validation", whose batches have nothing in
            common), number of the batch, rank, and number of ranks.
        """
        return self._batch

    def _batch(self, purpose: str, number: int, rank: int, ranks: int) -> Any:
        return self.make(generator(self.seed, purpose, number, rank))

    def data_signature(self) -> DataSignature:
        """What else makes a number stand for a batch, for example how many samples there are."""
        return {}

    def held_out_batches(self, ranks: int) -> int:
        """How many batches of the held-out set each of so many ranks has."""
        return self.validation_batches

    def setup(self, stage: str) -> None:
        """Makes sure that lightning gives no rank a share of its share, shuffled."""
        if self.trainer is None:
            return
        chosen = self.trainer._accelerator_connector  # nothing public tells
        if chosen.is_distributed and chosen.use_distributed_sampler:
            raise ConfigurationError(
                "each rank draws batches of its own, and lightning would share them out once more; "
                "set --trainer.use_distributed_sampler=false"
            )

    def train_dataloader(self) -> DataLoader:
        """Batches up to the last step, resumable at any of them."""
        trainer = self._trainer()
        if trainer.max_steps < 0:
            raise ConfigurationError("the data never ends; give --trainer.max_steps")
        batches = trainer.max_steps * trainer.accumulate_grad_batches
        limit = trainer.limit_train_batches
        if limit < (batches if isinstance(limit, int) else 1):
            raise ConfigurationError(
                f"an epoch would end after {limit} of the batches, and the next one has the same "
                "batches and noise again; leave out --trainer.limit_train_batches and "
                "--trainer.overfit_batches, and set --trainer.max_steps"
            )
        current = trainer.fit_loop.epoch_loop.batch_progress.current
        order = ResumableSampler(
            batches,
            place=lambda: current.processed,  # pyright: ignore[reportAttributeAccessIssue]
            data_signature={
                "seed": self.seed,
                "batch_size": self.batch_size,
                "ranks": trainer.world_size,
                "accumulate_grad_batches": trainer.accumulate_grad_batches,
                **self.data_signature(),
            },
        )
        return self._loader("training", batches, sampler=order)

    def val_dataloader(self) -> DataLoader:
        """The same batches every time."""
        return self._loader("validation", self.held_out_batches(self._trainer().world_size))

    def held_out(self) -> Iterator[Any]:
        """The held-out batches of the first rank, without a trainer."""
        for number in range(self.held_out_batches(1)):
            yield self.batches()("validation", number, 0, 1)

    def _trainer(self) -> pl.Trainer:
        if self.trainer is None:
            raise ConfigurationError("the data needs a trainer: pass it to trainer.fit")
        return self.trainer

    def _loader(
        self, purpose: str, batches: int, *, sampler: ResumableSampler | None = None
    ) -> DataLoader:
        trainer = self._trainer()
        place = trainer.global_rank, trainer.world_size
        data = Stream(self.batches(), purpose, place, batches=batches)
        options: dict[str, Any] = {
            "batch_size": None,
            "num_workers": self.workers,
            "worker_init_fn": leave_group,
            "multiprocessing_context": self.worker_context if self.workers else None,
        }
        if sampler is None:
            return DataLoader(data, **options)
        return ResumableLoader(data, sampler, **options)


@dataclass(frozen=True)
class ClipOptions:
    """What a clip to learn is made of, and where its loss weighs more.

    Args:
        layout: How the past is squeezed; as in the model.
        clip_frames: Frames of a clip.
        audio_window: Whose sound a frame hears; as the model's projection.
        reference: Where the portrait is from: ``outside`` the clip (30 frames away where it can
            be), or ``within`` it (the paper; it is then one of the frames to learn).
        static_history: A history that is cut short is that of a video which began with the portrait
            held still; as in the model. False, the paper: it is masked.
        mouth_weight: Weight of the loss in the mouth's box; 1 = plain, the paper.
        eye_weight: Weight in the box around both eyes, likewise.
        drops: Only the share of whole histories is read by data.
    """

    layout: SegmentLayout = SegmentLayout()  # noqa: RUF009 (frozen)
    clip_frames: int = 12
    audio_window: AudioWindow = AudioWindow()  # noqa: RUF009 (frozen)
    reference: Literal["outside", "within"] = "outside"
    static_history: bool = False
    mouth_weight: float = 1.0
    eye_weight: float = 1.0
    drops: ConditionDropout = ConditionDropout()  # noqa: RUF009 (frozen)

    def weight(self, mask: Callable[[str], Tensor]) -> Tensor | None:
        """Weight of the loss at each place; None = plain everywhere.

        Args:
            mask: Where a part of the face is: ``mouth`` or ``eyes``.
        """
        extra = {"mouth": self.mouth_weight - 1, "eyes": self.eye_weight - 1}
        masks = [each * mask(part) for part, each in extra.items() if each]
        return 1 + torch.stack(masks).sum(0) if masks else None


class ClipData(LoopyDataModule):
    """Batches of clips; what the model must agree on are attributes, as `LoopyModule` reads them.

    Args:
        clips: How clips are made.
        **loader: See `LoopyDataModule`.
    """

    def __init__(self, clips: ClipOptions, **loader: Any) -> None:
        super().__init__(**loader)
        self.clips = clips
        self.layout, self.clip_frames, self.drops = clips.layout, clips.clip_frames, clips.drops
        self.audio_window, self.static_history = clips.audio_window, clips.static_history

    @property
    def size_px(self) -> int:
        """Side of the pictures; a subclass says which."""
        raise NotImplementedError


def leave_group(number: int) -> None:
    """Lets a worker of a loader work on where its training is asked to stop.

    torchrun and terminals send signals to a whole group of processes, and a loader whose worker
    died ends the training. A worker whose training died ends by itself, within seconds.
    """
    os.setpgrp()
