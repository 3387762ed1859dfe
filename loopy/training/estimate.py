"""Before any run: the bytes that a training takes on each device.

A training is largest at one of three moments. In a step old gradients, then activations and new
gradients are held; at the update the optimiser's own tensors; while validating one tensor more (raw
weights and average exchange places), and what sampling takes.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from loopy.errors import ConfigurationError
from loopy.training.estimate_ledger import Kind
from loopy.training.estimate_step import StepCost
from loopy.training.optimisers import OptimiserName

Strategy = Literal["one", "ddp", "fsdp2"]
"""One device; DDP; or FSDP2 by `loopy.training.sharding`."""

PARTS = (
    "weights",
    "gradients",
    "optimiser",
    "average",
    "buckets",
    "gathered",
    "batch",
    "casts",
    "activations",
)
"""What memory is for, in the order of the table."""

CUDA = 1.5 * 2**30
"""Bytes that CUDA, its libraries and gaps between blocks take besides; an assumption."""

NOMINAL: Mapping[str, float] = {
    "t4": 15,
    "v100": 32,
    "rtx3090": 24,
    "rtx4090": 24,
    "rtx5090": 32,
    "l4": 22.5,
    "a10": 22.5,
    "l40s": 44.5,
    "a6000": 47.5,
    "a100-40": 39.4,
    "a100-80": 79.2,
    "h100": 79.2,
    "h200": 139.8,
    "b200": 178,
}
"""GiB that a program can see on a card; T4 to A10 with error correction on."""


BLOCK, SMALL = 256, 4096
"""Of bitsandbytes: values that share a scale; tensors with fewer keep moments in float32."""


@dataclass(frozen=True)
class Spread:
    """How a training is spread over devices, and what callbacks keep beside it.

    Args:
        strategy: See `Strategy`.
        devices: How many.
        bucket_view: Whether DDP's gradients are views of its buckets.
        half: Whether FSDP2 gathers weights in half precision.
        optimizer: Of the weights; the stage's own.
        averaged: Whether there is a moving average of the weights.
        sampling: Most bytes that samples take while validating; networks are there already.
    """

    strategy: Strategy = "one"
    devices: int = 1
    bucket_view: bool = False
    half: bool = False
    optimizer: OptimiserName = "adamw"
    averaged: bool = False
    sampling: int = 0


@dataclass(frozen=True)
class Needs:
    """Bytes on each device at the three moments, by what they are for (`PARTS`)."""

    step: Counter[str]
    update: Counter[str]
    validation: Counter[str]

    @property
    def largest(self) -> str:
        """Name of the largest moment."""
        return max(vars(self), key=lambda name: vars(self)[name].total())

    @property
    def peak(self) -> int:
        """Bytes at that moment."""
        return vars(self)[self.largest].total()


def needs(cost: StepCost, spread: Spread) -> Needs:
    """Bytes on each device.

    FSDP2 keeps a part of weights, gradients, moments and average on each device. Of what it
    gathers two units are there at once, the one that runs and the next (each as it came and as
    parameters), and a unit's gradients in float32 on their way to the others. DDP keeps a second
    copy of all gradients, its buckets, unless gradients are views of them.

    Args:
        cost: One step with the whole model on one device.
        spread: Over which devices.
    """
    trained = sum(cost.trained)
    part = 1 / spread.devices if spread.strategy == "fsdp2" else 1.0
    share: dict[Kind, float] = {"weights": part, "gradients": part}
    held = Counter(optimiser=round(_moments(cost, spread.optimizer) * part))
    if spread.averaged:
        held["average"] = round(trained * part)
    gradients = round(trained * part)
    if spread.strategy == "fsdp2":
        if spread.half:  # what is gathered is in half precision already
            share["casts"] = 0.0
        held["gathered"] = cost.unit + 4 * (cost.unit // (2 if spread.half else 1))
    if spread.strategy == "ddp":
        held["gradients" if spread.bucket_view else "buckets"] = trained
        if spread.bucket_view:
            share["gradients"], gradients = 0.0, 0
    in_step = cost.ledger.peak(share)
    between = held + Counter(weights=in_step["weights"], gradients=gradients)
    swapped = round(max(cost.trained) * part) if spread.averaged else 0
    return Needs(
        step=held + Counter({str(kind): size for kind, size in in_step.items()}),
        update=between + Counter(activations=round(_updating(cost, spread.optimizer) * part)),
        validation=between
        + Counter(average=swapped, activations=max(cost.validating, spread.sampling)),
    )


def _moments(cost: StepCost, optimizer: OptimiserName) -> int:
    """Two moments of each weight; in 8 bits with a scale for each block, where that is worth it."""
    if optimizer == "adamw":
        return 2 * sum(cost.trained)
    counts = [size // 4 for size in cost.trained]
    return sum(2 * n + 8 * -(-n // BLOCK) if n >= SMALL else 8 * n for n in counts)


def _updating(cost: StepCost, optimizer: OptimiserName) -> int:
    """AdamW takes roots of the second moments: of all at once on CUDA, else one by one, twice."""
    if optimizer != "adamw":
        return 0
    return sum(cost.trained) if cost.device == "cuda" else 2 * max(cost.trained)


def card_bytes(card: str) -> float:
    """Bytes of a card, by its name (``a100-80``) or its GiB (``24``, ``24GB``).

    Raises:
        ConfigurationError: Neither.
    """
    name = card.lower().replace(" ", "").replace("_", "-")
    number = name.removesuffix("gib").removesuffix("gb")
    try:
        gib = NOMINAL[name] if name in NOMINAL else float(number)
    except ValueError as error:
        raise ConfigurationError(
            f"no card {card!r}; give its GiB, for example 24GB, or one of {', '.join(NOMINAL)}"
        ) from error
    if not gib > 0:
        raise ConfigurationError(f"a card has more than {card!r}; give its GiB, for example 24GB")
    return gib * 2**30
