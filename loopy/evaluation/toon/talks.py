"""The talks of the toon benchmark: faces and voices that no training saw, and look-alikes."""

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor
from torch.nn import functional

from loopy.errors import ConfigurationError
from loopy.models.probe import AT_ONCE, SIDE_PX
from loopy.models.recogniser import Recogniser
from loopy.pixels import to_pixels
from loopy.randomness import generator
from loopy.synthetic.face import CONTROLS, Identity, random_identities, render
from loopy.synthetic.talker import Kind, Talk, random_talk

HELD_OUT = 2**62
"""Seeds of held-out talks start here; training draws its own below 2**40 (`loopy.training`)."""

POSE_SPANS = {"yaw": 0.10, "pitch": 0.05, "roll": 0.04}
"""How far the head of a portrait is turned at most, in radians."""

SHORTEST_S = 2.0

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


class Group(NamedTuple):
    """One of the benchmark's sets of talks."""

    name: str
    kind: Kind
    talks: int
    quick: int  # how many in a quick look
    seconds: float
    first: int  # number of the first one; no two sets share a number


SETS = (
    Group("speech", "mixed", 16, 2, 8.0, 0),  # with pauses
    Group("long", "speech", 4, 1, 20.0, 100),
    Group("silence", "silence", 4, 1, 8.0, 200),
    Group("noise", "noise", 4, 1, 8.0, 300),
)
ENDLESS = Group("endless", "speech", 1, 1, 600.0, 400)
"""The talk of ten minutes, measured only when asked for."""


@dataclass(frozen=True)
class Scene:
    """A held-out talk before it is made: its set, number, kind, length; the benchmark's seed."""

    group: str
    number: int
    kind: Kind
    seconds: float
    seed: int

    def talk(self) -> Talk:
        """The talker, the words, and the truth of every frame.

        Raises:
            DependencyError: The synthetic voice is not installed.
        """
        return held_out_talk(self.seed, self.number, seconds=self.seconds, kind=self.kind)

    def dice(self, purpose: str) -> torch.Generator:
        """Randomness for what is drawn for this talk besides itself."""
        return generator(self.seed, purpose, self.number)

    @property
    def noise_seed(self) -> int:
        """Seed of the model's noise."""
        return _entropy(self.seed, self.number)


def scenes(
    seed: int = 0, *, quick: bool = False, endless: bool = False, seconds: float | None = None
) -> list[Scene]:
    """The talks of the benchmark: a few of each set, with the one of ten minutes, cut to a length.

    Raises:
        ConfigurationError: Too short for a first and a last second.
    """
    if seconds is not None and seconds < SHORTEST_S:
        raise ConfigurationError(
            f"talks of {seconds:g} s have no first and last second; give {SHORTEST_S:g} or more"
        )
    return [
        Scene(each.name, each.first + i, each.kind, min(each.seconds, seconds or torch.inf), seed)
        for each in (*SETS, *[ENDLESS] * endless)
        for i in range(each.quick if quick else each.talks)
    ]


def held_out_talk(seed: int, number: int, *, seconds: float, kind: Kind = "speech") -> Talk:
    """A talk that no training saw, by the benchmark's seed and its number.

    torch's CPU generator uses only the lower 32 bits of a seed, so a range of its own is not
    enough. Those bits are hashed: a talk with a random seed is this one with a chance of 2**-32.
    """
    return random_talk(HELD_OUT + _entropy(seed, number), seconds=seconds, kind=kind)


def portrait_controls(draw: torch.Generator) -> Float[Tensor, "1 14"]:
    """The talker at rest: mouth shut, eyes open, head turned a little."""
    controls = torch.zeros(1, len(CONTROLS))
    for name, span in POSE_SPANS.items():
        controls[:, CONTROLS.index(name)] = span * (2 * torch.rand((), generator=draw) - 1)
    return controls


def held_out_portrait(talk: Talk, draw: torch.Generator, *, size_px: int) -> UInt8[Tensor, "h w 3"]:
    """The talker at rest, as a user would show it."""
    return pixels(render(talk.identity, portrait_controls(draw), size_px=size_px))[0]


def pixels(pictures: Float[Tensor, "n 3 H W"]) -> UInt8[Tensor, "n H W 3"]:
    """Pictures in [-1, 1] as the frames of a video."""
    return to_pixels(pictures).permute(0, 2, 3, 1).contiguous()


def _entropy(seed: int, number: int) -> int:
    return int(torch.randint(2**32, (), generator=generator(seed, "held-out talk", number)))


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
