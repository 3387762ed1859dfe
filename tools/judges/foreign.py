"""Pictures for the gate: toon portraits, and what is none.

Nearly half of the latter are renders with something wrong, so that each part of a face has to be
there and look as drawn; the others were never toons. None is a photograph, so that photographs can
measure what was learned.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from loopy.models.probe import SIDE_PX
from loopy.synthetic.face import random_identities, render
from tools.judges.practice import random_controls
from tools.judges.scenery import coloured_fields, fields, leaves, pixels, uniform
from tools.judges.soft_portrait import soft_portraits

Pictures = Float[Tensor, "n 3 128 128"]


def toons(n: int, draw: torch.Generator) -> Pictures:
    """Renders of n unrelated faces in [-1, 1], two fifths near rest, the others in any state."""
    return render(random_identities(n, draw), _controls(n, draw), size_px=SIDE_PX)


def framed(pictures: Pictures, draw: torch.Generator) -> Pictures:
    """Cut out as a user might: a square of 0.72 to 1 of the side around the face."""
    n = len(pictures)
    side = uniform(n, 0.72, 1.1, draw).clamp(max=1)
    room = 1 - side
    across, down = uniform(n, -1, 1, draw) * room, uniform(n, -1, 0.3, draw) * room
    return _seen(pictures, _grid(side, across, down))


def foreign(n: int, draw: torch.Generator) -> dict[str, Pictures]:
    """N pictures that the embedded model cannot animate, in [-1, 1], by their kind in `KINDS`."""
    shares = torch.tensor([share for share, _ in KINDS.values()])
    which = torch.multinomial(shares, n, replacement=True, generator=draw)
    counts = which.bincount(minlength=len(KINDS)).tolist()
    kinds = zip(KINDS.items(), counts, strict=True)
    return {name: paint(count, draw) for (name, (_, paint)), count in kinds if count}


def _controls(n: int, draw: torch.Generator) -> Float[Tensor, "n 14"]:
    controls = random_controls(n, draw)
    calm = torch.rand(n, 1, generator=draw) < 0.4
    return torch.where(calm, controls * 0.25, controls)


def _small_eyed(n: int, draw: torch.Generator) -> Pictures:
    """Eyes and mouths of the size that people have, under a light, roughened."""
    people = random_identities(n, draw)
    narrow, low = uniform(n, 0.4, 0.7, draw)[..., 0], uniform(n, 0.2, 0.5, draw)[..., 0]
    eyes = people.eyes * torch.cat([narrow, low, torch.ones(n, 2)], 1)
    mouth = people.mouth * torch.cat([narrow, torch.ones(n, 2)], 1)
    pictures = render(replace(people, eyes=eyes, mouth=mouth), _controls(n, draw), size_px=SIDE_PX)
    return _rough(framed(pictures, draw), uniform(n, 0.25, 0.6, draw), draw)


def _textured(n: int, draw: torch.Generator) -> Pictures:
    """Bent, lit from a side and roughened until no surface is plain."""
    bend = fields(2 * n, SIDE_PX, draw, falls=(1.8, 2.5)) * uniform(2 * n, 0, 0.08, draw)
    grid = _grid(torch.ones(n, 1, 1)) + bend.unflatten(0, (n, 2)).movedim(1, -1)
    return _rough(_seen(framed(toons(n, draw), draw), grid), uniform(n, 0.35, 1, draw), draw)


def _rough(pictures: Pictures, strength: Float[Tensor, "n 1 1"], draw: torch.Generator) -> Pictures:
    """Under uneven light, and with a texture."""
    n = len(pictures)
    light = 0.7 * strength * fields(n, SIDE_PX, draw, falls=(1.2, 2.2))
    grain = 0.35 * strength * fields(n, SIDE_PX, draw, falls=(0.4, 1.2))
    return ((pictures + 1) * torch.exp(light + grain)[:, None] - 1).clamp(-1, 1)


def _without_a_part(n: int, draw: torch.Generator) -> Pictures:
    """Eyes, mouth or both smeared over, covered, or other things in their place."""
    pictures = toons(n, draw)
    others = (
        _blurred(pictures, 6),
        2 * coloured_fields(n, SIDE_PX, draw) - 1,
        toons(n, draw).flip(-2),
    )
    for each in range(n):
        other, rows = (int(torch.randint(3, (), generator=draw)) for _ in range(2))
        part = (slice(30, 64), slice(64, 100), slice(28, 104))[rows]
        pictures[each, :, part, 28:100] = others[other][each, :, part, 28:100]
    return pictures


def _blurred(pictures: Pictures, size: int) -> Pictures:
    """As if enlarged from so few pixels."""
    small = functional.interpolate(pictures, (size, size), mode="area")
    return functional.interpolate(small, (SIDE_PX, SIDE_PX), mode="bicubic").clamp(-1, 1)


def _shuffled(n: int, draw: torch.Generator) -> Pictures:
    """Tiles of a render in another order."""
    pictures = toons(n, draw)
    for each in range(n):
        tiles = (2, 4, 8)[int(torch.randint(3, (), generator=draw))]
        size, count = SIDE_PX // tiles, tiles * tiles
        order = torch.randperm(count, generator=draw)
        order = order.flip(0) if (order == torch.arange(count)).float().mean() > 0.3 else order
        cut = functional.unfold(pictures[each : each + 1], size, stride=size)[..., order]
        pictures[each] = functional.fold(cut, (SIDE_PX, SIDE_PX), size, stride=size)[0]
    return pictures


def _turned(n: int, draw: torch.Generator) -> Pictures:
    """Lying or upside down."""
    pictures = framed(toons(n, draw), draw)
    quarters = torch.randint(1, 4, (n,), generator=draw).tolist()
    turned = [p.rot90(q, (1, 2)) for p, q in zip(pictures, quarters, strict=True)]
    return torch.stack(turned)


def _cut(n: int, draw: torch.Generator) -> Pictures:
    """A wrong box: the face outside or cut through, or far too near or far."""
    near = torch.rand(n, 1, 1, generator=draw) < 0.6
    side = torch.where(near, uniform(n, 0.25, 0.6, draw), uniform(n, 2.0, 4.0, draw))
    away = torch.where(near, uniform(n, 0.6, 0.8, draw), uniform(n, 0, 0.6, draw) * side)
    angle = uniform(n, 0, 6.3, draw)
    grid = _grid(side, away * angle.cos(), away * angle.sin())
    beside = (grid.abs() > 1).any(-1)[:, None]
    scene = 2 * coloured_fields(n, SIDE_PX, draw) - 1
    return torch.where(beside, scene, _seen(toons(n, draw), grid))


def _off_colour(n: int, draw: torch.Generator) -> Pictures:
    """As a film negative, or with levels bent to and fro."""
    pictures = framed(toons(n, draw), draw)
    bent = torch.sin(pictures * 4 * uniform(n, 1.2, 2.5, draw)[:, None])
    return torch.where(torch.rand(n, 1, 1, 1, generator=draw) < 0.5, -pictures, bent)


def _soft(n: int, draw: torch.Generator) -> Pictures:
    return soft_portraits(n, SIDE_PX, draw)


def _scene(n: int, draw: torch.Generator) -> Pictures:
    """Noise of any spectrum, or leaves over each other; all leaves of a call are as many."""
    noise = int((torch.rand(n, generator=draw) < 0.35).sum())
    counts = ((leaves, n - noise), (coloured_fields, noise))
    return 2 * torch.cat([paint(count, SIDE_PX, draw) for paint, count in counts if count]) - 1


def _grid(
    side: Float[Tensor, "n 1 1"], x: Tensor | float = 0.0, y: Tensor | float = 0.0
) -> Float[Tensor, "n 128 128 2"]:
    """Where the pixels of a square of a picture are, around a point, in half pictures."""
    across, down = pixels(SIDE_PX)
    shape = (len(side), SIDE_PX, SIDE_PX)
    places = ((across * side + x).expand(shape), (down * side + y).expand(shape))
    return torch.stack(places, -1)


def _seen(pictures: Pictures, grid: Float[Tensor, "n 128 128 2"]) -> Pictures:
    """Pictures at other places; their edge goes on."""
    return functional.grid_sample(pictures, grid, padding_mode="border", align_corners=False)


KINDS: dict[str, tuple[float, Callable[[int, torch.Generator], Pictures]]] = {
    "soft portrait": (0.40, _soft),
    "scene": (0.15, _scene),
    "small eyes": (0.05, _small_eyed),
    "textured": (0.10, _textured),
    "part missing": (0.12, _without_a_part),
    "shuffled": (0.05, _shuffled),
    "turned": (0.05, _turned),
    "cut": (0.05, _cut),
    "off colour": (0.03, _off_colour),
}
"""What is no toon portrait: the share of each kind, and how it is drawn."""
