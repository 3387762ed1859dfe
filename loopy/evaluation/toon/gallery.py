"""A gallery of look-alikes: people who differ in face, hair and what the face wears alone."""

from dataclasses import replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from loopy.models.probe import AT_ONCE, SIDE_PX
from loopy.models.recogniser import Recogniser
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
    """Random people with the background, clothes and skin tone of a given one."""
    own = identity.expand(n)
    shared = {name: getattr(own, name) for name in SHARED}
    return replace(random_identities(n, generator), **shared)


def gallery(
    recogniser: Recogniser, identity: Identity, generator: torch.Generator, *, people: int = PEOPLE
) -> Float[Tensor, "people d"]:
    """A person in row 0, look-alikes in the others: the mean of four views of each."""
    others = look_alikes(identity, people - 1, generator)
    return torch.cat([_mean_of_views(recogniser, who) for who in (identity, others)])


def nearest_is_own(
    embedded: Float[Tensor, "f d"], people: Float[Tensor, "people d"], *, own: int = 0
) -> Bool[Tensor, "f"]:
    """Whether the nearest person of a gallery is the right one, frame by frame."""
    return (embedded @ people.T).argmax(1) == own


@torch.no_grad()
def _mean_of_views(recogniser: Recogniser, people: Identity) -> Float[Tensor, "n d"]:
    controls = torch.zeros(len(_VIEWS), len(CONTROLS))
    for row, view in zip(controls, _VIEWS, strict=True):
        for name, value in view.items():
            row[CONTROLS.index(name)] = value
    each = torch.arange(len(people)).repeat_interleave(len(_VIEWS))
    seen = [
        recogniser(render(people[each[rows]], controls[rows % len(_VIEWS)], size_px=SIDE_PX))
        for rows in torch.arange(len(each)).split(AT_ONCE)
    ]
    return functional.normalize(torch.cat(seen).unflatten(0, (len(people), -1)).mean(1), dim=1)
