"""What the probes are trained with: states of faces, pictures used more than once, one loop."""

import json
import math
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from tqdm import tqdm

from loopy.models.probe import AT_ONCE, ToonProbe
from loopy.models.weights import round_to_half
from loopy.pixels import from_pixels, to_pixels
from loopy.randomness import generator
from loopy.synthetic.face import CONTROLS
from loopy.synthetic.movement import POSE_LIMITS
from loopy.synthetic.talker import random_talk

P = TypeVar("P", bound=ToonProbe)
N = TypeVar("N", bound=nn.Module)

PASSES = 5
"""How often a picture is trained on: once fresh, then from the pool: drawing is the dear part."""


def random_controls(n: int, draw: torch.Generator) -> Float[Tensor, "n 14"]:
    """Any state of a face: each control over its whole range, each fourth mouth shut."""
    unit = torch.rand(len(CONTROLS) + 2, n, generator=draw)
    columns: dict[str, Tensor] = dict(zip(CONTROLS, unit, strict=False))
    for name in ("smile", "gaze_x", "gaze_y", "brow", *POSE_LIMITS):
        columns[name] = (2 * columns[name] - 1) * POSE_LIMITS.get(name, 1.0)
    columns["open"] = columns["open"] * (unit[-1] > 0.25)
    columns["blink"] = columns["blink"] * (unit[-2] > 0.5)
    return torch.stack([columns[name] for name in CONTROLS], 1)


@cache
def talk_controls(
    seed: int, *, talks: int = 48, seconds: float = 6.0
) -> Float[Tensor, "talks f 14"]:
    """What faces do that really talk: the tracks of talks that no benchmark uses."""
    seeds = torch.randint(2**40, (talks,), generator=generator(seed, "practice talks")).tolist()
    return torch.stack([random_talk(each, seconds=seconds).controls for each in seeds])


def states(
    faces: int, each: int, talks: Float[Tensor, "talks f 14"], draw: torch.Generator
) -> Float[Tensor, "faces each 14"]:
    """Some states of each face: of one talk for half of the faces, of any kind for the others."""
    uniform = random_controls(faces * each, draw).view(faces, each, -1)
    which = torch.randint(len(talks), (faces, 1), generator=draw)
    moments = torch.randint(talks.shape[1], (faces, each), generator=draw)
    spoken = torch.rand(faces, 1, 1, generator=draw) < 0.5
    return torch.where(spoken, talks[which, moments], uniform)


class Pool:
    """The latest sets of pictures, as bytes; a batch takes new ones and mirrored old ones."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._sets: list[tuple[UInt8[Tensor, "s 3 H W"], Float[Tensor, "s k"]]] = []

    def batch(
        self,
        pictures: Float[Tensor, "i s 3 H W"],
        truth: Float[Tensor, "i s k"],
        mirror: Float[Tensor, " k"],
        draw: torch.Generator,
    ) -> tuple[Float[Tensor, "j s 3 H W"], Float[Tensor, "j s k"]]:
        """The new sets and (PASSES - 1) times as many old ones; every other set is mirrored.

        Args:
            pictures: New ones in [-1, 1], by sets.
            truth: What should be read in them.
            mirror: What a mirror multiplies the truth by.
            draw: Chooses.
        """
        packed = to_pixels(pictures)
        new = list(zip(packed, truth, strict=True))
        self._sets = (self._sets + new)[-self._size :]
        old = torch.randint(len(self._sets), ((PASSES - 1) * len(new),), generator=draw).tolist()
        shown, read = zip(*new, *(self._sets[number] for number in old), strict=True)
        faces, values = from_pixels(torch.stack(shown)), torch.stack(read)
        turned = torch.rand(len(faces), generator=draw) < 0.5
        faces[turned] = faces[turned].flip(-1)
        values[turned] = values[turned] * mirror
        return faces, values


def train_probe(
    kind: type[P],
    loss_of: Callable[[P, torch.Generator], Float[Tensor, ""]],
    *,
    steps: int,
    learning_rate: float,
    seed: int,
) -> P:
    """Train a probe from nothing, see `train_network`."""
    given = {"steps": steps, "seed": seed}
    return train_network(kind, loss_of, name=kind.name, learning_rate=learning_rate, **given)


def train_network(
    make: Callable[[], N],
    loss_of: Callable[[N, torch.Generator], Float[Tensor, ""]],
    *,
    name: str,
    steps: int,
    learning_rate: float,
    seed: int,
) -> N:
    """Train a network from nothing, with a progress bar, and round its weights as its file does.

    AdamW; the rate rises over a twentieth of the steps and falls as a cosine.

    Args:
        make: Builds it with random weights.
        loss_of: The loss of a new batch, drawn by the generator.
        name: Of the bar, and of the draws.
        steps: Batches.
        learning_rate: At its peak.
        seed: Of the first weights and of every batch.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = make()
    optimizer = torch.optim.AdamW(network.parameters(), learning_rate, weight_decay=0.01)
    warm = max(1, steps // 20)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min((step + 1) / warm, 0.5 + 0.5 * math.cos(math.pi * step / steps)),
    )
    for step in (bar := tqdm(range(steps), desc=name, unit="batch", mininterval=5)):
        loss = loss_of(network, generator(seed, name, step))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        bar.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
    round_to_half(network)
    return network.eval()


@torch.no_grad()
def in_parts(probe: ToonProbe, pictures: Float[Tensor, "n 3 H W"]) -> Tensor:
    """A probe's outputs for many pictures, a few at a time."""
    return torch.cat([probe(part) for part in pictures.split(AT_ONCE)])


def save_and_print(probe: ToonProbe, out: Path | None, card: dict[str, Any]) -> None:
    """Write weights and card to a folder, the package's own if None, and print the card."""
    probe.save_pretrained(out or probe.home(), card=card)
    for section, figures in card.items():
        print(f"{section}: {json.dumps(figures, indent=1)}")


def rounded(value: Tensor | float) -> float:
    """A figure of a card."""
    return round(float(value), 4)
