"""Who a toon talker is: the traits that stay constant while the head talks and moves."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

SKIN = "ffe0cc f7c9a9 eab48a d99c6c c07f50 a3653c 7f4a2b 5c3420 47281b"
HAIR = (
    "15110f 15110f 2b1b14 2b1b14 4b2c1a 4b2c1a 6e4226 6e4226 97622f c58a3f e6c468 e6c468 b5451f "
    "8a2a1b 9b96a3 e8e4de 35407c c8478e 2f7f86"
)
IRIS = "3b2314 5a3a1c 7b5a2a 3f6b3a 4f8a5f 2f6fae 5b9bd5 6b7a88"
CLOTHES = (
    "d93636 e8743b f0b429 3f9e58 2f8f8f 2f6fc0 5b4fb0 8a3f98 c94f86 f4f4f8 39404f 223a3a 7a5a44"
)
BACKDROP = (
    "cfe3f7 f7d9c9 d9f0dc fbe9a6 e3d3f4 bcd8d4 f3c4dc e9e4da 86a9cf 6b8b78 34506b "
    "403f55 a8766a f2f0fb"
)
FRAMES = "1c1c22 4a2b1a 8a1f2b 24406a c09a3f"

# Columns: hairline height at the middle, drop of the hairline at the temples, slant, zigzag depth,
# thickness over the skull, spike length, half width and lower end of the hair behind, bun size.
# Lengths are in half heads; a hairline above -1.2 leaves a bald head.
HAIR_STYLES = {
    "bald": (-1.80, 0.00, 0.00, 0.00, 0.00, 0.00, 0.00, -1.0, 0.00),
    "crop": (-0.62, 0.62, 0.00, 0.00, 0.05, 0.00, 0.00, -1.0, 0.00),
    "short": (-0.52, 0.50, 0.10, 0.06, 0.13, 0.00, 0.00, -1.0, 0.00),
    "fringe": (-0.36, 0.34, 0.00, 0.07, 0.15, 0.00, 0.00, -1.0, 0.00),
    "spiky": (-0.48, 0.36, 0.08, 0.16, 0.15, 0.20, 0.00, -1.0, 0.00),
    "side part": (-0.46, 0.42, 0.30, 0.00, 0.16, 0.00, 0.00, -1.0, 0.00),
    "bob": (-0.38, 1.05, 0.06, 0.03, 0.16, 0.00, 1.14, 0.72, 0.00),
    "long": (-0.56, 1.25, 0.18, 0.00, 0.15, 0.00, 1.20, 1.45, 0.00),
    "long fringe": (-0.36, 0.95, 0.00, 0.06, 0.16, 0.00, 1.18, 1.35, 0.00),
    "curls": (-0.50, 0.52, 0.00, 0.08, 0.26, 0.07, 1.22, 0.30, 0.00),
    "bun": (-0.58, 0.52, 0.06, 0.00, 0.10, 0.00, 0.00, -1.0, 0.36),
}


@dataclass(frozen=True)
class Identity:
    """Traits of n talkers, one row each; colours are RGB in [0, 1], lengths in half pictures.

    Attributes:
        head: Half width, half height, jaw taper, jaw squareness of the head outline.
        eyes: Half width, half height, half distance, height above the head's middle.
        brows: Thickness, arch, slant.
        nose: Half width, length.
        mouth: Half width at rest, lip fullness, height below the head's middle.
        ears: Size.
        hair: One row of `HAIR_STYLES`, varied a little.
        hair_side: -1 or 1, the side on which the hair parts.
        beard: Opacity of full beard, goatee and moustache.
        marks: Opacity of blush, freckles and glasses.
        collar: Opacity of a ring collar, a V neck and stripes.
        backdrop: Opacity of gradient, disc and diagonal band.
    """

    skin: Float[Tensor, "n 3"]
    head: Float[Tensor, "n 4"]
    eyes: Float[Tensor, "n 4"]
    iris: Float[Tensor, "n 3"]
    brows: Float[Tensor, "n 3"]
    nose: Float[Tensor, "n 2"]
    mouth: Float[Tensor, "n 3"]
    lips: Float[Tensor, "n 3"]
    ears: Float[Tensor, "n"]
    hair: Float[Tensor, "n 9"]
    hair_side: Float[Tensor, "n"]
    hair_colour: Float[Tensor, "n 3"]
    beard: Float[Tensor, "n 3"]
    marks: Float[Tensor, "n 3"]
    frames: Float[Tensor, "n 3"]
    shoulders: Float[Tensor, "n"]
    clothes: Float[Tensor, "n 3"]
    trim: Float[Tensor, "n 3"]
    collar: Float[Tensor, "n 3"]
    backdrop: Float[Tensor, "n 3"]
    near: Float[Tensor, "n 3"]
    far: Float[Tensor, "n 3"]

    def __len__(self) -> int:
        """Number of talkers."""
        return len(self.skin)

    def __getitem__(self, rows: int | slice | list[int] | Tensor) -> "Identity":
        """Selects rows; a single number keeps the row axis."""
        rows = [rows] if isinstance(rows, int) else rows
        return Identity(**{name: trait[rows] for name, trait in vars(self).items()})

    def expand(self, n: int) -> "Identity":
        """Repeats a single talker n times, without copying."""
        return Identity(**{k: trait.expand(n, *trait.shape[1:]) for k, trait in vars(self).items()})


class _Dice:
    """Reads one column of uniform numbers per trait, so that row i never depends on the others."""

    def __init__(self, n: int, generator: torch.Generator) -> None:
        uniform = torch.rand(n, 96, generator=generator, device=generator.device)
        self._columns = iter(uniform.unbind(1))

    def between(self, low: float, high: float) -> Float[Tensor, "n"]:
        return low + (high - low) * next(self._columns)

    def spans(self, *spans: tuple[float, float]) -> Float[Tensor, "n k"]:
        return torch.stack([self.between(*span) for span in spans], 1)

    def chance(self, probability: float) -> Float[Tensor, "n"]:
        return (next(self._columns) < probability).float()

    def row(self, table: Float[Tensor, "k v"]) -> Float[Tensor, "n v"]:
        column = next(self._columns)
        return table.to(column.device)[(column * len(table)).long()]

    def one_of(self, *probabilities: float) -> Float[Tensor, "n k"]:
        """At most one 1 per row; what the probabilities leave to 1 is a row of zeros."""
        upper = torch.tensor(probabilities).cumsum(0)
        column = next(self._columns)[:, None]
        upper = upper.to(column.device)
        lower = upper - torch.tensor(probabilities, device=column.device)
        return ((column >= lower) & (column < upper)).float()

    def colour(self, palette: str, *, blend: float = 0.25) -> Float[Tensor, "n 3"]:
        """A palette colour moved a little towards another one of the same palette."""
        table = torch.tensor([list(bytes.fromhex(code)) for code in palette.split()]) / 255
        return torch.lerp(self.row(table), self.row(table), self.between(0.0, blend)[:, None])


def random_identities(n: int, generator: torch.Generator) -> Identity:
    """Draws n different talkers; the same generator state gives the same talkers."""
    dice = _Dice(n, generator)
    skin = dice.colour(SKIN, blend=0.2)
    head = dice.spans((0.45, 0.53), (0.56, 0.62), (0.10, 0.30), (0.1, 0.6))
    styles = torch.tensor(list(HAIR_STYLES.values()))
    hair = dice.row(styles)
    hair = hair * dice.spans(
        (0.94, 1.06), *[(0.85, 1.15)] * 5, (0.97, 1.05), (0.92, 1.1), (0.9, 1.1)
    )
    hair_colour = dice.colour(HAIR, blend=0.15)
    bearded = dice.chance(0.45) * (hair[:, 6] < 0.1)
    beard = dice.one_of(0.4, 0.25) * dice.between(0.75, 1.0)[:, None]
    moustache = dice.chance(0.75)[:, None]
    marks = dice.spans((0.1, 0.5), (0.0, 1.0)) * torch.stack(
        [torch.ones_like(skin[:, 0]), dice.chance(0.2)], 1
    )
    near = dice.colour(BACKDROP)
    rosy = skin.new_tensor([0.80, 0.24, 0.26])
    return Identity(
        skin=skin,
        head=head,
        eyes=dice.spans((0.095, 0.120), (0.070, 0.098), (0.185, 0.225), (0.04, 0.10)),
        iris=dice.colour(IRIS),
        brows=dice.spans((0.016, 0.034), (0.015, 0.050), (-0.025, 0.025)),
        nose=dice.spans((0.055, 0.085), (0.15, 0.20)),
        mouth=dice.spans((0.180, 0.220), (0.024, 0.044), (0.270, 0.300)),
        lips=torch.lerp(skin * 0.82, rosy, dice.between(0.25, 0.65)[:, None]),
        ears=dice.between(0.085, 0.125),
        hair=hair,
        hair_side=2 * dice.chance(0.5) - 1,
        hair_colour=hair_colour,
        beard=torch.cat([beard, moustache], 1) * bearded[:, None],
        marks=torch.cat([marks, dice.chance(0.25)[:, None]], 1),
        frames=dice.colour(FRAMES),
        shoulders=dice.between(0.66, 0.84),
        clothes=dice.colour(CLOTHES),
        trim=dice.colour(CLOTHES),
        collar=dice.one_of(0.35, 0.25, 0.2),
        backdrop=dice.one_of(0.28, 0.32, 0.25),
        near=near,
        far=torch.lerp(dice.colour(BACKDROP), near, dice.between(0.0, 0.6)[:, None]),
    )
