"""Clips of synthetic talkers with portrait, past and sound, for the image and the clip stage."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.utils.data import DataLoader

from loopy.errors import ConfigurationError
from loopy.models.weights import store_fingerprints
from loopy.randomness import generator
from loopy.records import Clip
from loopy.segments import SegmentLayout
from loopy.timing import AudioWindow
from loopy.training.cache import SHARD, Recipe, TalkShards
from loopy.training.datamodule import ClipData, DataSignature
from loopy.training.dropout import ConditionDropout
from loopy.training.start import FrozenParts, load_frozen

HELD_OUT = 10**9
"""Number of the first talk of the held-out set."""


class SyntheticTalks(ClipData):
    """Clips out of a cache of talks; histories are cut short at random.

    Args:
        parts: Folder with the trained ``vae`` and ``audio_encoder`` that make them; as the model's.
        cache: Folder for what they make of the talks.
        talks: Number of talks, rounded up to whole shards.
        held_out: Number of talks for validation.
        layout: How the past is squeezed; as in the model.
        past_frames: So many past frames the cache keeps, all of them, so that one cache serves
            every layout and mode that reach no further; histories are drawn up to this length.
            None keeps only the frames that ``layout`` reads.
        clip_frames: Frames of a clip.
        audio_window: Whose sound a frame hears; as the model's projection.
        size_px: Side of the pictures.
        reference: Where the portrait is from: ``outside`` the clip, or ``within`` it (the paper;
            it is then one of the frames to learn).
        static_history: A history that is cut short is that of a video which began with the portrait
            held still; as in the model (`DiffusionContract`). False, the paper: it is masked.
        mouth_weight: Weight of the loss in the mouth's box; 1 = plain, the paper.
        eye_weight: Weight in the box around both eyes, likewise.
        drops: Only the share of whole histories is read here.
        batch_size: Clips in a batch.
        seed: Of talks and batches.
        build_workers: Processes that build the cache.
        workers: Processes that make batches.
    """

    def __init__(
        self,
        *,
        parts: Path,
        cache: Path,
        talks: int,
        held_out: int = 32,
        layout: SegmentLayout = SegmentLayout(),  # noqa: B008 (frozen)
        past_frames: int | None = None,
        clip_frames: int = 12,
        audio_window: AudioWindow = AudioWindow(),  # noqa: B008 (frozen)
        size_px: int = 128,
        reference: Literal["outside", "within"] = "outside",
        static_history: bool = False,
        mouth_weight: float = 1.0,
        eye_weight: float = 1.0,
        drops: ConditionDropout = ConditionDropout(),  # noqa: B008 (frozen)
        batch_size: int = 6,
        seed: int = 0,
        build_workers: int = 2,
        workers: int = 0,
    ) -> None:
        if held_out % batch_size:
            raise ConfigurationError(
                f"held_out ({held_out}) must be a multiple of batch_size ({batch_size})"
            )
        if batch_size < 2:
            raise ConfigurationError("batch_size 1 leaves no other talk to compare with; give 2")
        if past_frames is None and layout.mode not in ("far", "middle", "near"):
            raise ConfigurationError(
                f"the cache keeps fixed past frames: layout mode far, middle or near, "
                f"got {layout.mode!r}; past_frames keeps all of them, for any mode"
            )
        if past_frames is not None and past_frames < layout.past_frames:
            raise ConfigurationError(
                f"past_frames ({past_frames}) is less than the {layout.past_frames} that the "
                "layout reaches"
            )
        super().__init__(
            batch_size=batch_size,
            validation_batches=held_out // batch_size,
            seed=seed,
            workers=workers,
        )
        self.parts, self.cache = parts, cache
        self.talks, self.held_out_talks = talks, held_out
        self.layout, self.clip_frames = layout, clip_frames
        self.whole_past = past_frames is not None
        self.kept = SegmentLayout(past_frames, 1, 1) if past_frames is not None else layout
        self.audio_window = audio_window
        self.reference, self.static_history = reference, static_history
        self.weights, self.drops = {"mouth": mouth_weight, "eyes": eye_weight}, drops
        self.build_workers = build_workers
        self.samples: dict[str, Tensor] = {}
        self.held_out_samples: dict[str, Tensor] = {}
        self._size_px, self._made_by = size_px, dict[str, str]()

    @property
    def size_px(self) -> int:
        """Side of the pictures."""
        return self._size_px

    @property
    def made_by(self) -> Mapping[str, str]:
        """Fingerprints of ``parts``, from `setup` on."""
        return self._made_by

    def setup(self, stage: str) -> None:
        """Build what the cache lacks, and read it."""
        super().setup(stage)
        if not self.samples:
            networks = load_frozen(self.parts)
            self._made_by = store_fingerprints(*networks)
            self.held_out_samples = self._load(networks, self.held_out_talks, first_talk=HELD_OUT)
            self.samples = self._load(networks, self.talks, first_talk=0)

    def data_signature(self) -> DataSignature:
        """Talks are drawn from all there are."""
        return {"talks": self.talks}

    def batches(self) -> Callable[[str, int, int, int], Clip]:
        """What makes a batch."""
        return self._batch

    def _batch(self, purpose: str, number: int, rank: int, ranks: int) -> Clip:
        return self.make(generator(self.seed, purpose, number, rank))

    def make(self, generator: torch.Generator) -> Clip:
        """Draw a batch of training clips."""
        talks = len(self.samples["latents"])
        chosen = torch.randint(talks, (self.batch_size,), generator=generator)
        longest = self.kept.past_frames
        histories = [
            self.drops.history(generator, longest=longest, clip_frames=self.clip_frames)
            for _ in range(self.batch_size)
        ]
        clip = self._clip(self.samples, chosen, torch.tensor(histories), generator)
        if self.reference == "outside":
            return clip
        frames = torch.randint(self.clip_frames, (self.batch_size,), generator=generator)
        return replace(clip, reference=clip.latents[torch.arange(self.batch_size), frames])

    def val_dataloader(self) -> DataLoader:
        """The held-out talks, with whole histories."""
        whole = torch.full((self.batch_size,), self.kept.past_frames)
        batches = torch.arange(self.held_out_talks).split(self.batch_size)
        clips = [
            self._clip(self.held_out_samples, chosen, whole, generator(self.seed, "held out", i))
            for i, chosen in enumerate(batches)
        ]
        return DataLoader(clips, batch_size=None)  # pyright: ignore[reportArgumentType]  # a list is a data set

    def _load(self, networks: FrozenParts, talks: int, *, first_talk: int) -> dict[str, Tensor]:
        recipe = Recipe(
            self.kept, self.clip_frames, self.size_px, self.seed, first_talk, self.audio_window
        )
        shards = TalkShards(self.cache, -(-talks // SHARD), recipe, *networks)
        return shards.load(workers=self.build_workers)

    def _clip(
        self,
        samples: dict[str, Tensor],
        chosen: Tensor,
        histories: Int[Tensor, "b"],
        generator: torch.Generator,
    ) -> Clip:
        batch = {name: values[chosen].float() for name, values in samples.items()}
        slots = self.kept.slots
        present = self.kept.distances() < histories[:, None]
        latents = batch["latents"]
        motion_frames, portrait = latents[:, :slots], latents[:, -1]
        if self.static_history:
            motion_frames, portrait = _begun(motion_frames, portrait, present)
            present = torch.ones_like(present)
        motion_frames = motion_frames * present[..., None, None, None]
        if self.whole_past:
            lengths = present.sum(1).tolist()
            squeezed = [
                self.layout.select(frames[None, len(frames) - length :], generator)
                for frames, length in zip(motion_frames, lengths, strict=True)
            ]
            motion_frames, present = (torch.cat(each) for each in zip(*squeezed, strict=True))
        heard, own = self.audio_window, self.audio_window.before
        windows = heard.indices(range(own, own + self.clip_frames), batch["audio"].shape[1])
        extra = [(each - 1) * batch[part] for part, each in self.weights.items() if each != 1]
        weight = 1 + torch.stack(extra).sum(0) if extra else None
        return Clip(
            latents=latents[:, slots:-1],
            reference=portrait,
            motion_frames=motion_frames,
            past_present=present,
            audio=batch["audio"][:, windows],
            landmarks=batch["landmarks"],
            measures=batch["measures"],
            weight=weight,
        )


def _begun(
    motion_frames: Float[Tensor, "b m c h w"],
    portrait: Float[Tensor, "b c h w"],
    present: Bool[Tensor, "b m"],
) -> tuple[Float[Tensor, "b m c h w"], Float[Tensor, "b c h w"]]:
    """Past and portrait of videos that began where their history does.

    The newest frame that is not present becomes the portrait, and takes the place of all before
    it; where all are present nothing changes.
    """
    absent = (~present).sum(1)  # oldest first, so they are the first ones
    first = motion_frames[torch.arange(len(absent)), (absent - 1).clamp(min=0)]
    held = torch.where(present[..., None, None, None], motion_frames, first[:, None])
    return held, torch.where(absent[:, None, None, None] > 0, first, portrait)
