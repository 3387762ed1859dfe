"""Clips of synthetic talkers with portrait, past and sound, for the image and the clip stage.

A sample is a talk of 6 s. Of its 150 frames only those a step can read are drawn and encoded:
the 20 that the segments pick from 124 past frames, the 12 of the clip, and one portrait from
elsewhere in the talk. Samples are kept in shards, each written atomically, so an interrupted
build goes on where it was.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from safetensors.torch import load_file
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from loopy.errors import ConfigurationError
from loopy.models import AudioEncoder
from loopy.models.latents import Autoencoder, encode_images
from loopy.models.weights import store_fingerprints
from loopy.motion import FACE_PARTS, expression_variance, head_motion_variance, part_mask
from loopy.randomness import generator
from loopy.records import Clip
from loopy.segments import SegmentLayout
from loopy.synthetic.talker import random_talk
from loopy.tensor_file import save_tensors
from loopy.timing import AudioWindow
from loopy.training.datamodule import ClipData, ClipOptions, DataSignature
from loopy.training.start import FrozenParts, load_frozen

HELD_OUT = 10**9
"""Number of the first talk of the held-out set."""

SHARD = 32
AFTER_S = 0.56
"""Sound behind the clip, so that the encoder hears on as it does in a whole recording."""

KINDS = ("speech",) * 15 + ("mixed",) * 2 + ("listening", "noise", "silence")
"""What a talk is, drawn evenly: mostly speech, 15 % no speech at all."""


@dataclass(frozen=True)
class Recipe:
    """What decides the content of a cache: past frames that are kept, and what a talk is drawn by.

    ``first_talk`` is a number; held-out sets start elsewhere.
    """

    layout: SegmentLayout
    clip_frames: int
    size_px: int
    seed: int
    first_talk: int = 0
    audio_window: AudioWindow = field(default=AudioWindow(), repr=False)

    def __str__(self) -> str:
        """As caches are named; those of the paper's window are older than other ones."""
        other = self.audio_window != AudioWindow()
        return f"{self!r} {self.audio_window}" if other else repr(self)


@dataclass(eq=False)
class TalkShards(Dataset[str]):
    """Builds shards in a folder; item i is the path of shard i, built unless it is there."""

    folder: Path
    shards: int
    recipe: Recipe
    vae: Autoencoder
    audio_encoder: AudioEncoder

    def __post_init__(self) -> None:
        """Each recipe, with the networks that it is drawn by, has a folder of its own."""
        marks = sorted(store_fingerprints(self.vae, self.audio_encoder).items())
        self.folder /= f"{generator(f'{self.recipe} {marks}').initial_seed():016x}"

    def __len__(self) -> int:
        """Return the number of shards."""
        return self.shards

    def __getitem__(self, index: int) -> str:
        """Build a shard, unless it is there."""
        path = self.folder / f"{index:05d}.safetensors"
        if not path.is_file():
            first = self.recipe.first_talk + index * SHARD
            samples = [self._sample(first + i) for i in range(SHARD)]
            stacked = {k: torch.stack([s[k] for s in samples]) for k in samples[0]}
            save_tensors(path, stacked)
        return str(path)

    def load(self, *, workers: int) -> dict[str, Tensor]:
        """Build what is missing, with a progress bar, and read all into memory."""
        self.folder.mkdir(parents=True, exist_ok=True)
        loader = DataLoader(self, batch_size=None, num_workers=workers)
        shards = [load_file(path) for path in tqdm(loader, desc="talks", unit="shard")]
        return {name: torch.cat([shard[name] for shard in shards]) for name in shards[0]}

    def _sample(self, number: int) -> dict[str, Tensor]:
        recipe = self.recipe
        past, frames = recipe.layout.past_frames, recipe.clip_frames
        dice = generator(recipe.seed, "talk", number)
        kind, portrait, seed = torch.randint(2**40, (3,), generator=dice).tolist()
        seconds = (past + frames) / 25 + AFTER_S
        talk = random_talk(seed, seconds=seconds, kind=KINDS[kind % len(KINDS)])
        slots = past - 1 - recipe.layout.distances(dice)
        shown = [*slots.tolist(), *range(past, past + frames), portrait % max(past - 30, 1)]
        pictures = talk.frames(shown, size_px=recipe.size_px)
        clip = talk.motion[past : past + frames]
        # Half precision: its error is far below what the autoencoder itself loses.
        with torch.autocast(self.vae.device.type, torch.bfloat16):
            features = self.audio_encoder.features(talk.audio)
            latents = encode_images(self.vae, pictures)
        cells = latents.shape[-1]
        heard = recipe.audio_window
        around = torch.arange(past - heard.before, past + frames + heard.after)
        return {
            "latents": latents.half(),
            "audio": features[around.clamp(0, len(features) - 1)].half(),
            "landmarks": clip.normalised(),
            "measures": torch.stack([head_motion_variance(clip), expression_variance(clip)]),
            **{part: part_mask(clip, part, cells=cells).half() for part in FACE_PARTS},
        }


class SyntheticTalks(ClipData):
    """Clips out of a cache of talks; histories are cut short at random.

    Args:
        parts: Folder with the trained ``vae`` and ``audio_encoder``, as the model's.
        cache: Folder for what they make of the talks.
        talks: Number of talks, rounded up to whole shards.
        held_out: Number of talks for validation.
        past_frames: So many past frames the cache keeps, all of them, so that one cache serves
            every layout and mode that reach no further; histories are drawn up to this length.
            None keeps only the frames that ``layout`` reads.
        size_px: Side of the pictures.
        batch_size: Clips in a batch.
        seed: Of talks and batches.
        build_workers: Processes that build the cache.
        workers: Processes that make batches.
        **clips: See `ClipOptions`.

    Raises:
        ConfigurationError: Numbers that do not go together.
    """

    def __init__(
        self,
        *,
        parts: Path,
        cache: Path,
        talks: int,
        held_out: int = 32,
        past_frames: int | None = None,
        size_px: int = 128,
        batch_size: int = 6,
        seed: int = 0,
        build_workers: int = 2,
        workers: int = 0,
        **clips: Any,
    ) -> None:
        options = ClipOptions(**clips)
        _check_sizes(options.layout, past_frames, held_out, batch_size)
        sizes = {"batch_size": batch_size, "validation_batches": held_out // batch_size}
        super().__init__(options, **sizes, seed=seed, workers=workers)
        self.parts, self.cache = parts, cache
        self.talks, self.held_out_talks, self.build_workers = talks, held_out, build_workers
        self.whole_past = past_frames is not None
        self.kept = SegmentLayout(past_frames, 1, 1) if past_frames is not None else self.layout
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
        if self.clips.reference == "within":
            frames = torch.randint(self.clip_frames, (self.batch_size,), generator=generator)
            clip.reference = clip.latents[torch.arange(self.batch_size), frames]
        return clip

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
        latents, slots = batch["latents"], torch.arange(self.kept.slots)
        present = self.kept.distances() < histories[:, None]
        portrait = torch.full_like(histories, latents.shape[1] - 1)
        slots = slots.expand_as(present)
        if self.static_history:
            # The newest frame that is not present (they are oldest first) becomes the portrait,
            # and takes the place of all before it.
            absent = (~present).sum(1)
            first = (absent - 1).clamp(min=0)
            portrait = first.where(absent > 0, portrait)
            slots, present = slots.where(present, first[:, None]), torch.ones_like(present)
        videos = torch.arange(len(chosen))
        motion_frames = latents[videos[:, None], slots] * present[..., None, None, None]
        if self.whole_past:
            lengths = present.sum(1).tolist()
            squeezed = [
                self.layout.select(frames[None, len(frames) - length :], generator)
                for frames, length in zip(motion_frames, lengths, strict=True)
            ]
            motion_frames, present = (torch.cat(each) for each in zip(*squeezed, strict=True))
        before, frames = self.audio_window.before, self.clip_frames
        heard = self.audio_window.indices(range(before, before + frames), batch["audio"].shape[1])
        return Clip(
            latents=latents[:, self.kept.slots : -1],
            reference=latents[videos, portrait],
            motion_frames=motion_frames,
            past_present=present,
            audio=batch["audio"][:, heard],
            landmarks=batch["landmarks"],
            measures=batch["measures"],
            weight=self.clips.weight(batch.__getitem__),
        )


def _check_sizes(
    layout: SegmentLayout, past_frames: int | None, held_out: int, batch_size: int
) -> None:
    """Makes sure that batches are whole, and that the cache keeps what the layout reads."""
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
