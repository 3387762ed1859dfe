"""What the frozen networks make of synthetic talks, computed once: latents and audio features.

A sample is a talk of 6 s. Of its 150 frames only those a step can read are drawn and encoded:
the 20 that the segments pick from 124 past frames, the 12 of the clip, and one portrait from
elsewhere in the talk. Samples are kept in shards, each written atomically, so an interrupted
build goes on where it was.
"""

from dataclasses import dataclass, field
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from loopy.models import AudioEncoder
from loopy.models.latents import encode_images
from loopy.models.weights import store_fingerprints
from loopy.motion import expression_variance, head_motion_variance
from loopy.randomness import generator
from loopy.segments import SegmentLayout
from loopy.synthetic.talker import random_talk
from loopy.tensor_file import save_tensors
from loopy.timing import AudioWindow
from loopy.training.faces import PARTS, part_mask

SHARD = 32
AFTER_S = 0.56
"""Sound behind the clip, so that the encoder hears on as it does in a whole recording."""

KINDS = ("speech",) * 15 + ("mixed",) * 2 + ("listening", "noise", "silence")
"""What a talk is, drawn evenly: mostly speech, 15 % no speech at all."""


@dataclass(frozen=True)
class Recipe:
    """What decides the content of a cache.

    Args:
        layout: Which past frames are kept.
        clip_frames: Frames of a clip.
        size_px: Side of the pictures.
        seed: Of the talks.
        first_talk: Number of the first talk; held-out sets start elsewhere.
        audio_window: Whose sound a frame of the clip hears.
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


class TalkShards(Dataset[str]):
    """Builds shards; item i is the path of shard i, built unless it is there.

    Args:
        folder: Where they are kept.
        shards: How many.
        recipe: What is in them.
        vae: Autoencoder.
        audio_encoder: wav2vec2.
    """

    def __init__(
        self,
        folder: Path,
        shards: int,
        recipe: Recipe,
        vae: AutoencoderKL,
        audio_encoder: AudioEncoder,
    ) -> None:
        parts = f"{recipe} {sorted(store_fingerprints(vae, audio_encoder).items())}"
        self.folder = folder / f"{generator(parts).initial_seed():016x}"
        self.shards, self.recipe = shards, recipe
        self.vae, self.audio_encoder = vae, audio_encoder

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
        """Build what is missing, with a progress bar, and read all into memory.

        Args:
            workers: Processes that build; 0 builds here.
        """
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
            **{part: part_mask(clip, part, cells=cells).half() for part in PARTS},
        }
