"""Trains the recogniser on renders: `python -m tools.judges.train_recogniser`; minutes.

A batch is five groups of people who share background, clothes and skin, in half of the groups
hair as well; each person is shown in three states, most of them corrupted. The weights are a
function of the options (threads and library builds fixed).
"""

from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from loopy.evaluation.toon.talks import gallery, look_alikes, nearest_is_own
from loopy.models.probe import SIDE_PX
from loopy.models.recogniser import Recogniser
from loopy.randomness import generator
from loopy.synthetic.face import Identity, random_identities, render
from loopy.synthetic.talker import random_talk
from tools.judges.augmentation import corrupt, versions
from tools.judges.practice import (
    Pool,
    in_parts,
    rounded,
    save_and_print,
    states,
    talk_controls,
    train_probe,
)

PEOPLE, STATES = 16, 3
TEMPERATURE = 0.1


def draw_group(
    talks: Float[Tensor, "talks f 14"], draw: torch.Generator
) -> Float[Tensor, "s 3 H W"]:
    """Corrupted pictures of look-alikes, one after another, each in `STATES` states."""
    people = look_alikes(random_identities(1, draw), PEOPLE, draw)
    if torch.rand((), generator=draw) < 0.5:
        people = _same_hair(people)
    controls = states(PEOPLE, STATES, talks, draw).flatten(0, 1)
    rows = torch.arange(PEOPLE).repeat_interleave(STATES)
    return corrupt(render(people[rows], controls, size_px=SIDE_PX), draw)


def person_contrast(
    vectors: Float[Tensor, "i s d"], *, states: int = STATES, temperature: float = TEMPERATURE
) -> Float[Tensor, ""]:
    """Supervised contrast, Khosla et al. (2020), eq. 2, inside each group of look-alikes.

    Args:
        vectors: Unit vectors of groups; `states` rows of one person after those of another.
        states: Pictures of each person.
        temperature: Divides the cosines.
    """
    likeness = vectors @ vectors.transpose(1, 2) / temperature
    person = torch.arange(vectors.shape[1]) // states
    itself = torch.eye(len(person), dtype=torch.bool)
    same = (person[:, None] == person) & ~itself
    chance = likeness.masked_fill(itself, -torch.inf).log_softmax(-1)
    return -chance[:, same].mean()


def train_recogniser(*, steps: int = 500, learning_rate: float = 3e-3, seed: int = 0) -> Recogniser:
    """Train a recogniser from nothing in bfloat16 (the weights in float32).

    Args:
        steps: Batches, each of one new group of people and four seen before.
        learning_rate: At its peak.
        seed: Of the first weights and of every picture.
    """
    talks, pool, nothing = talk_controls(seed), Pool(60), torch.zeros(PEOPLE * STATES, 0)

    def loss(recogniser: Recogniser, draw: torch.Generator) -> Tensor:
        group = draw_group(talks, draw)
        pictures, _ = pool.batch(group[None], nothing[None], nothing[0], draw)
        with torch.autocast("cpu", torch.bfloat16):
            vectors = recogniser(pictures.flatten(0, 1))
        return person_contrast(vectors.float().unflatten(0, pictures.shape[:2]))

    return train_probe(Recogniser, loss, steps=steps, learning_rate=learning_rate, seed=seed)


def accuracy(
    recogniser: Recogniser, *, talks: int = 96, seconds: float = 4.0, every: int = 10, seed: int = 0
) -> dict[str, dict[str, float]]:
    """How many frames of unseen talks are nearest to their own of 32 look-alikes.

    Args:
        recogniser: The one to judge.
        talks: How many, each with a gallery of its own.
        seconds: Length of each.
        every: Only every so manyth frame is looked at.
        seed: Of talks and galleries.

    Returns:
        For pictures as drawn, blurred to half their size, and corrupted as in training: the share
        over all frames, and that of the worst talk.
    """
    draw = generator(seed, "recogniser accuracy")
    seeds = torch.randint(2**40, (talks,), generator=draw).tolist()
    found: dict[str, list[float]] = defaultdict(list)
    for each in seeds:
        talk = random_talk(each, seconds=seconds)
        people = gallery(recogniser, talk.identity, draw)
        frames = talk.frames(range(0, len(talk.controls), every))
        for kind, shown in versions(frames, draw).items():
            right = nearest_is_own(in_parts(recogniser, shown), people)
            found[kind].append(float(right.float().mean()))
    return {
        kind: {"share": rounded(sum(shares) / len(shares)), "worst": rounded(min(shares))}
        for kind, shares in found.items()
    }


def train_and_save(
    *, out: Path | None = None, steps: int = 500, talks: int = 96, seed: int = 0
) -> None:
    """Train the recogniser, print how well it knows faces again, and write it.

    Args:
        out: Folder for weights and card; the package's own by default.
        steps: Batches.
        talks: Unseen talks to measure it on.
        seed: Of everything.
    """
    recogniser = train_recogniser(steps=steps, seed=seed)
    measured = accuracy(recogniser, talks=talks, seed=seed)
    made = {"steps": steps, "seed": seed}
    save_and_print(recogniser, out, {"made_by": made, "accuracy": measured})


def _same_hair(people: Identity) -> Identity:
    """All with the hair of the first."""
    first = people[0].expand(len(people))
    return replace(
        people, hair=first.hair, hair_colour=first.hair_colour, hair_side=first.hair_side
    )


if __name__ == "__main__":
    from jsonargparse import auto_cli

    auto_cli(train_and_save)
