"""A gallery of look-alikes: people of whom only face, hair and what the face wears differ."""

from dataclasses import replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from loopy.evaluation.recogniser import Recogniser
from loopy.synthetic.face import CONTROLS, Identity, random_identities, render

PEOPLE = 32
SHARED = (
    "skin", "lips", "shoulders", "clothes", "trim", "collar", "backdrop", "near", "far",
)  # fmt: skip
"""Traits that look-alikes share: the whole picture but the face; the lips' colour follows skin."""

_VIEWS = (
    {"yaw": -0.2, "pitch": 0.05, "open": 0.3},
    {"yaw": -0.05, "pitch": -0.05},
    {"yaw": 0.05, "pitch": 0.05, "smile": 0.3},
    {"yaw": 0.2, "pitch": -0.05, "open": 0.1, "wide": 0.4},
)


def look_alikes(identity: Identity, n: int, generator: torch.Generator) -> Identity:
    """Random people with the background, clothes and skin tone of a given one.

    Args:
        identity: Whom they resemble; one row.
        n: How many.
        generator: Draws the rest of them.
    """
    own = identity.expand(n)
    shared = {name: getattr(own, name) for name in SHARED}
    return replace(random_identities(n, generator), **shared)


def gallery(
    recogniser: Recogniser,
    identity: Identity,
    generator: torch.Generator,
    *,
    people: int = PEOPLE,
) -> Float[Tensor, "people d"]:
    """A person in row 0, look-alikes in the others: the mean of four views of each.

    Args:
        recogniser: Embeds the views.
        identity: The person; one row.
        generator: Draws the look-alikes.
        people: How many in all.
    """
    controls = torch.zeros(len(_VIEWS), len(CONTROLS))
    for row, view in zip(controls, _VIEWS, strict=True):
        for name, value in view.items():
            row[CONTROLS.index(name)] = value
    others = look_alikes(identity, people - 1, generator)
    rows = [identity, *(others[number] for number in range(people - 1))]
    means = [_embed(recogniser, row.expand(len(controls)), controls).mean(0) for row in rows]
    return torch.nn.functional.normalize(torch.stack(means), dim=1)


def nearest_is_own(
    embedded: Float[Tensor, "f d"], people: Float[Tensor, "people d"], *, own: int = 0
) -> Bool[Tensor, "f"]:
    """Whether the nearest person of a gallery is the right one, frame by frame.

    Args:
        embedded: `Recogniser.embed` of the frames.
        people: Of `gallery`.
        own: The right person's row.
    """
    return (embedded @ people.T).argmax(1) == own


@torch.no_grad()
def _embed(
    recogniser: Recogniser, identity: Identity, controls: Float[Tensor, "n 14"]
) -> Float[Tensor, "n d"]:
    return recogniser(render(identity, controls))
