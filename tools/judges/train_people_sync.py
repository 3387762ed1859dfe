"""Trains the sync judge for people: `python -m tools.judges.train_people_sync`.

::

    python -m tools.judges.train_people_sync --speaker s1 --others others --encoder audio_encoder

Three losses over sentences of one speaker, in a batch all from one moment on. InfoNCE over windows,
as for toons. The right offset among many, of each sentence (a softmax over mean distances). No
offset for the sound of another sentence: its distances are to be equal, although all sentences of
the corpus begin and end with a closed mouth, and share words.
"""

import json
import math
import random
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from loopy.models import AudioEncoder
from loopy.models.folder import load_audio_encoder
from loopy.models.people_sync import (
    HOME,
    SCALE,
    PeopleSyncJudge,
    PeopleSyncSettings,
    encoder_fingerprint,
    lip_motion,
)
from loopy.models.sync import CHIN_AND_LIPS, WINDOW
from loopy.motion import MIRRORED_68
from loopy.randomness import generator
from tools.judges.people_clips import SOURCE, PeopleClip, read_clips
from tools.judges.people_sync_accuracy import figures, line_of, measure
from tools.judges.practice import train_network
from tools.judges.train_sync import SHARPNESS, window_contrast
from tools.speech.train import augmented

VIEWS = 3
"""Times that each sentence is heard at another rate, through another room, in noise."""
SPAN = 50
"""Windows of a sentence in a batch."""
FARTHEST = 12
"""Frames of the offsets that are told apart."""
MIRROR = [CHIN_AND_LIPS.index(MIRRORED_68[point]) for point in CHIN_AND_LIPS]


@dataclass(frozen=True)
class People:
    """What sound and mouths of sentences are to the towers, before any change of view.

    Attributes:
        sounds: Features of each sentence, in several views.
        mouths: How the mouth moves in each, as fast as in that view of the sound.
    """

    sounds: list[Float[Tensor, "_f k a"]]
    mouths: list[Float[Tensor, "_f p 2"]]

    @classmethod
    def of(
        cls, clips: Sequence[PeopleClip], hearing: AudioEncoder, *, views: int = VIEWS, seed: int
    ) -> Self:
        """Hear clips, with a progress bar."""
        sounds, mouths = list[Tensor](), list[Tensor]()
        for number, clip in enumerate(tqdm(clips, desc="heard", unit="clip", mininterval=5)):
            mouth = lip_motion(clip.points).nan_to_num()
            heard = [(clip.sound, 1.0)]
            drawn = int(torch.randint(2**40, (), generator=generator(seed, "people", number)))
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(drawn)
                draw = random.Random(drawn)
                heard += [augmented(clip.sound, draw)[1:] for _ in range(views)]
            for sound, rate in heard:
                features = hearing.features(sound).half()
                shown = _faster(mouth, rate)
                together = min(len(features), len(shown))
                if together >= SPAN + WINDOW - 1:
                    sounds.append(features[:together])
                    mouths.append(shown[:together])
        return cls(sounds, mouths)

    def batch(
        self, sentences: int, draw: torch.Generator
    ) -> tuple[Float[Tensor, "b f k a"], Float[Tensor, "b f p 2"]]:
        """Spans of some sentences, all from one share of their time on.

        Half of the mouths are in a mirror; all are wider or higher, at rest a little otherwise,
        and tracked badly.
        """
        length, moment = SPAN + WINDOW - 1, torch.rand((), generator=draw).item()
        sounds, mouths = list[Tensor](), list[Tensor]()
        for place in torch.randperm(len(self.sounds), generator=draw)[:sentences].tolist():
            start = int(moment * (len(self.sounds[place]) - length + 1))
            sounds.append(self.sounds[place][start : start + length].float())
            mouth = self.mouths[place][start : start + length]
            size, coin = 0.7 + 0.6 * torch.rand(2, generator=draw), torch.rand(2, generator=draw)
            mouth = mouth[:, MIRROR] * mouth.new_tensor([-1, 1]) if coin[0] < 0.5 else mouth
            rest = torch.randn(1, *mouth.shape[1:], generator=draw)
            shake = coin[1] * torch.randn(mouth.shape, generator=draw)
            mouths.append(mouth * size + 0.02 * SCALE * (rest + shake))
        heard = torch.stack(sounds)
        spread = heard.std((0, 1), keepdim=True)
        noise = torch.randn(heard.shape, generator=draw)
        return heard + 0.3 * spread * noise, torch.stack(mouths)


def _faster(mouth: Float[Tensor, "f p 2"], rate: float) -> Float[Tensor, "g p 2"]:
    """A mouth that moves at another rate, by straight lines between its frames."""
    numbers = mouth.flatten(1).T[None]
    size = max(1, int(len(mouth) / rate))
    drawn = functional.interpolate(numbers, size=size, mode="linear", align_corners=False)
    return drawn[0].T.unflatten(1, mouth.shape[1:])


def offset_profiles(
    heard: Float[Tensor, "b g d"], seen: Float[Tensor, "b g d"], *, farthest: int = FARTHEST
) -> Float[Tensor, "b b offsets"]:
    """Mean distances of each mouth (first) and each sound (second), for each offset."""
    alike = torch.einsum("bid,cjd->bcij", seen, heard)
    distances = (2 - 2 * alike).clamp(min=1e-4).sqrt()
    offsets = range(-farthest, farthest + 1)
    return torch.stack([distances.diagonal(k, 2, 3).mean(-1) for k in offsets], -1)


def offset_contrast(profiles: Float[Tensor, "b b offsets"]) -> Float[Tensor, ""]:
    """Cross-entropy of the offset: in its middle for an own sound, anywhere for a stranger's."""
    logs = (-SHARPNESS * profiles).log_softmax(-1)
    own = torch.eye(len(logs), dtype=torch.bool)
    anywhere = -logs[~own].mean(-1) - math.log(logs.shape[-1])
    return anywhere.mean() - logs[own][:, logs.shape[-1] // 2].mean()


def train_people_sync(
    people: People,
    settings: PeopleSyncSettings,
    *,
    steps: int = 500,
    sentences: int = 12,
    learning_rate: float = 2e-3,
    seed: int = 0,
) -> PeopleSyncJudge:
    """Train a judge from nothing.

    Args:
        people: Sentences.
        settings: Of the judge.
        steps: Batches.
        sentences: In a batch.
        learning_rate: At its peak.
        seed: Of the first weights and of every batch.
    """

    def loss(judge: PeopleSyncJudge, draw: torch.Generator) -> Tensor:
        sounds, mouths = people.batch(sentences, draw)
        heard, seen = judge.sound(judge.norm(sounds)), judge.landmarks(mouths)
        return window_contrast(heard, seen) + offset_contrast(offset_profiles(heard, seen))

    return train_network(
        lambda: PeopleSyncJudge(settings),
        loss,
        name="people sync",
        steps=steps,
        learning_rate=learning_rate,
        seed=seed,
    )


def train_and_save(
    *,
    speaker: Path,
    others: Path,
    encoder: Path,
    out: Path = HOME,
    cache: Path | None = None,
    steps: int = 500,
    seed: int = 0,
) -> None:
    """Train the judge, print how well it does on clips it never met, and write it.

    Args:
        speaker: Folder with clips of one speaker; a part of them is held out and measured.
        others: Folder with clips of others, measured too.
        encoder: Folder of the audio encoder, whose numbers are taken in half precision.
        out: Folder for weights and card; the package's own by default.
        cache: Folder for the points of the clips; None reads them anew.
        steps: Batches.
        seed: Of everything.
    """
    clips, strange = read_clips(speaker, cache=cache), read_clips(others, cache=cache)
    hearing = deepcopy(load_audio_encoder(encoder)).half().float()
    trained = [clip for clip in clips if not clip.held_out]
    settings = PeopleSyncSettings(
        hearing.layers, hearing.width, encoder_fingerprint(hearing), sure=0.0
    )
    judge = train_people_sync(
        People.of(trained, hearing, seed=seed), settings, steps=steps, seed=seed
    )
    measured = {
        "speaker": measure(judge, hearing, [clip for clip in clips if clip.held_out]),
        "others": measure(judge, hearing, strange),
    }
    sure = round(line_of([*measured.values()]), 3)
    judge.settings = replace(settings, sure=sure)
    made = {"clips": len(trained), "steps": steps, "seed": seed}
    accuracy = {n: figures(each, sure=sure) for n, each in measured.items()}
    card: dict[str, Any] = {"made_by": made, "data": SOURCE, "accuracy": accuracy}
    judge.save_pretrained(out, card=card)
    print(json.dumps(judge.card(out), indent=1))


if __name__ == "__main__":
    from jsonargparse import auto_cli

    auto_cli(train_and_save)
