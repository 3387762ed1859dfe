"""Variants of a recipe, those that change least first, until one fits a card."""

import json
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

from loopy.commands.estimate_recipe import Plan
from loopy.training.estimate import CUDA, Needs
from loopy.training.estimate_inference import InferenceCost
from loopy.training.estimate_step import StepCost
from loopy.training.stages import ClipStage

OPTIONS: dict[str, dict[str, Any]] = {
    "gradient checkpointing": {"gradient_checkpointing": True},
    "8-bit optimiser": {"optimizer": "adamw_8bit"},
    "no history gradient": {"network": {"init_args": {"motion_gradient": False}}},
    "frozen nets": {"trained": "added"},
}
"""What may be changed, as options of the clip stage; the overlays of `_options` do the same."""

IMAGE = ("gradient checkpointing", "8-bit optimiser", "FSDP2")
"""What may be changed in the image stage."""

LADDER = (
    (),
    ("gradient checkpointing",),
    ("gradient checkpointing", "FSDP2"),
    ("gradient checkpointing", "8-bit optimiser"),
    ("gradient checkpointing", "no history gradient"),
    ("gradient checkpointing", "no history gradient", "FSDP2"),
    ("gradient checkpointing", "no history gradient", "8-bit optimiser"),
    ("gradient checkpointing", "frozen nets"),
    ("gradient checkpointing", "frozen nets", "8-bit optimiser"),
)
"""Computing again and spreading change no number but by rounding; 8 bits round the optimiser's
moments; then a path of the gradient is given up, then what is trained. The 8-bit optimiser does
not run under FSDP2."""


@dataclass(frozen=True)
class Rung:
    """A variant of a recipe.

    Attributes:
        changes: What is changed in it; nothing in the recipe as it stands.
        options: The same as options of `loopy fit`.
        needs: What it takes.
    """

    changes: tuple[str, ...]
    options: str
    needs: Needs

    def room(self, card: float) -> float:
        """Bytes that are left on a card of so many, with CUDA there; negative: it does not fit."""
        return card - CUDA - self.needs.peak


def climb(plan: Plan, step: StepCost, inference: InferenceCost, card: float) -> Iterator[Rung]:
    """Variants up to the first that fits; all, where none does.

    Args:
        plan: The recipe as it stands.
        step: Its cost.
        inference: Its cost; that of its variants is the same.
        card: Bytes of a card.
    """
    known = {_key(plan): step}
    seen: list[Plan] = []
    for rung in LADDER:
        changes = tuple(change for change in rung if _changed(plan, (change,)) != plan)
        variant = _changed(plan, changes)
        if variant is None or variant in seen:
            continue
        seen.append(variant)
        if _key(variant) not in known:
            known[_key(variant)] = variant.step()
        needs = variant.needs(known[_key(variant)], inference)
        found = Rung(changes, _options(changes, plan.spread.devices), needs)
        yield found
        if found.room(card) >= 0:
            return


def _changed(plan: Plan, changes: tuple[str, ...]) -> Plan | None:
    """A variant; None where the stage or the number of devices allows no such thing."""
    if not issubclass(plan.stage, ClipStage) and not set(changes) <= set(IMAGE):
        return None
    spread = plan.spread
    if "FSDP2" in changes:
        if spread.devices == 1:
            return None
        spread = replace(spread, strategy="fsdp2")
    model = deepcopy(plan.model)
    for change in changes:
        _merge(model["init_args"], OPTIONS.get(change, {}))
    spread = replace(spread, optimizer=model["init_args"].get("optimizer", "adamw"))
    if spread.strategy == "fsdp2" and spread.optimizer == "adamw_8bit":
        return None
    return replace(plan, model=model, spread=spread)


def _merge(into: dict[str, Any], options: dict[str, Any]) -> None:
    for name, value in options.items():
        if isinstance(value, dict):
            _merge(into[name], value)
        else:
            into[name] = value


def _options(changes: tuple[str, ...], devices: int) -> str:
    words = {
        "gradient checkpointing": "--model.init_args.gradient_checkpointing=true",
        "8-bit optimiser": "--config configs/sd15/adam_8bit.yaml",
        "no history gradient": "--config configs/sd15/no_history_gradient.yaml",
        "frozen nets": "--config configs/sd15/frozen.yaml",
        "FSDP2": "--config configs/sd15/fsdp2.yaml "
        f"--trainer.strategy.init_args.data_parallel_size={devices}",
    }
    return " ".join(words[change] for change in changes)


def _key(plan: Plan) -> str:
    """Of what a step by shapes depends on; the optimiser runs outside of it."""
    options = {name: v for name, v in plan.model["init_args"].items() if name != "optimizer"}
    return json.dumps(options, default=str, sort_keys=True)
