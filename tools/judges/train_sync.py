"""Trains the sync judge on toon talkers: `python -m tools.judges.train_sync`.

InfoNCE: among all windows of a batch, other moments of the same talk as well as other talkers, the
one of the same moment is to be found, from what is heard by what is seen and the other way round.
Takes about 7 minutes of one core, figures included. The weights are a function of the
options (threads and library builds fixed).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from loopy.models.folder import ASSETS, load_part
from loopy.models.latents import encode_images
from loopy.models.sync import MOUTH_CELLS, WINDOW, SyncJudge, upright
from loopy.pixels import from_pixels, to_pixels
from loopy.randomness import generator
from loopy.synthetic.talker import random_talk
from tools.judges.augmentation import corrupt
from tools.judges.practice import save_and_print, train_probe
from tools.judges.sync_accuracy import accuracy

SECONDS = 4.0
SHOWN = range(32, 68)
"""Frames of a talk that are drawn; what is heard in them has its sound before and behind."""
SPAN = 24
"""Windows of a talk in a batch: each has the 23 others against it, up to 23 frames off."""
AROUND = (slice(20, 58), slice(8, 56))
"""Mouth and surroundings in a picture of 64 px, so that the place of the mouth may vary."""
SHARPNESS = 14.0
"""Cosines are multiplied by this in InfoNCE: a temperature of 0.07."""


@dataclass(frozen=True)
class Practice:
    """What sound and faces of talks are to the towers, before any change of view."""

    sound: Float[Tensor, "n f k a"]
    around: UInt8[Tensor, "n f 3 38 48"]
    shape: Float[Tensor, "n f p 2"]
    cells: Float[Tensor, "n f c 8 10"]

    @classmethod
    def of(cls, talks: int, *, seed: int) -> Self:
        """Talk, draw and encode, with a progress bar; two talks in three are corrupted."""
        hearing = load_part(ASSETS / "toon", "audio_encoder").float()
        vae = load_part(ASSETS / "toon", "vae").float()
        made: list[tuple[Tensor, ...]] = []
        for number in tqdm(range(talks), desc="talks", unit="talk", mininterval=5):
            draw = generator(seed, "sync practice", number)
            drawn = int(torch.randint(2**40, (), generator=draw))
            talk = random_talk(drawn, seconds=SECONDS)
            pictures = talk.frames(SHOWN)
            pictures = corrupt(pictures, draw) if number % 3 else pictures
            around = functional.avg_pool2d(pictures, 2)[:, :, *AROUND]
            with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
                cells = encode_images(vae, pictures)[:, :, *MOUTH_CELLS]
            shown = slice(SHOWN.start, SHOWN.stop)
            sound = hearing.features(talk.audio)[shown].half()
            packed = to_pixels(around)
            made.append((sound, packed, upright(talk.motion.points)[shown], cells.half()))
        return cls(*map(torch.stack, zip(*made, strict=True)))

    def batch(
        self, talks: int, draw: torch.Generator
    ) -> tuple[
        Float[Tensor, "b f k a"],
        Float[Tensor, "b f 3 30 40"],
        Float[Tensor, "b f p 2"],
        Float[Tensor, "b f c 8 10"],
    ]:
        """Spans of some talks; faces are seen from elsewhere, tracked and encoded badly."""
        length = SPAN + WINDOW - 1
        who = torch.randperm(len(self.sound), generator=draw)[:talks, None]
        first = torch.randint(len(SHOWN) - length + 1, (len(who), 1), generator=draw)
        at = first + torch.arange(length)
        sound, shape = self.sound[who, at].float(), self.shape[who, at]
        cells = self.cells[who, at].float()
        amount = torch.rand(2, len(who), generator=draw)[:, :, None, None, None]
        shake = torch.randn(shape.shape, generator=draw)
        noise = torch.randn(cells.shape, generator=draw)
        size = 0.85 + 0.3 * torch.rand(len(who), 1, 1, 1, generator=draw)
        return (
            sound + 0.3 * torch.randn(sound.shape, generator=draw),
            torch.stack([_elsewhere(each, draw) for each in self.around[who, at]]),
            shape * size + 0.03 * amount[0] * shake,
            cells + 0.8 * amount[1, ..., None] * noise,
        )


def window_contrast(
    heard: Float[Tensor, "b g d"], seen: Float[Tensor, "b g d"]
) -> Float[Tensor, ""]:
    """InfoNCE (arXiv 1807.03748) over all windows of a batch, both ways round."""
    alike = SHARPNESS * heard.flatten(0, 1) @ seen.flatten(0, 1).T
    own = torch.arange(len(alike))
    return (functional.cross_entropy(alike, own) + functional.cross_entropy(alike.T, own)) / 2


def train_sync(
    practice: Practice,
    *,
    steps: int = 1000,
    talks: int = 16,
    learning_rate: float = 2e-3,
    seed: int = 0,
) -> SyncJudge:
    """Train a judge from nothing.

    Args:
        practice: Talks.
        steps: Batches.
        talks: In a batch.
        learning_rate: At its peak.
        seed: Of the first weights and of every batch.
    """

    def loss(judge: SyncJudge, draw: torch.Generator) -> Tensor:
        sound, mouths, shape, cells = practice.batch(talks, draw)
        heard = judge.sound(sound)
        views = (judge.pictures(mouths), judge.landmarks(shape), judge.latents(cells))
        return torch.stack([window_contrast(heard, seen) for seen in views]).sum()

    return train_probe(SyncJudge, loss, steps=steps, learning_rate=learning_rate, seed=seed)


def train_and_save(
    *,
    out: Path | None = None,
    practice: int = 280,
    steps: int = 1000,
    unseen: int = 40,
    seed: int = 0,
) -> None:
    """Train the judge, print how well it does, and write it.

    Args:
        out: Folder for weights and card; the package's own by default.
        practice: Talks to practise on.
        steps: Batches.
        unseen: Talks of unseen speakers and voices to measure it on.
        seed: Of everything.
    """
    judge = train_sync(Practice.of(practice, seed=seed), steps=steps, seed=seed)
    measured = accuracy(judge, talks=unseen, seed=seed)
    made = {"practice": practice, "steps": steps, "seed": seed}
    save_and_print(judge, out, {"made_by": made, "accuracy": measured})


def _elsewhere(around: UInt8[Tensor, "f 3 38 48"], draw: torch.Generator) -> Tensor:
    """The mouth of a talk nearer or further, moved aside, in a mirror, in other light."""
    zoom, down, right, mirror, light, tint = torch.rand(6, generator=draw).tolist()
    height = round(30 * (0.8 + 0.45 * zoom))
    width = round(height * 4 / 3)
    rows, columns = around.shape[-2] - height, around.shape[-1] - width
    top, left = round(rows * down), round(columns * right)
    cut = from_pixels(around[..., top : top + height, left : left + width])
    cut = cut.flip(-1) if mirror < 0.5 else cut
    cut = functional.interpolate(cut, (30, 40), mode="bilinear", antialias=True)
    return (cut * (0.7 + 0.6 * light) + 0.4 * (tint - 0.5)).clamp(-1, 1)


if __name__ == "__main__":
    from jsonargparse import auto_cli

    auto_cli(train_and_save)
