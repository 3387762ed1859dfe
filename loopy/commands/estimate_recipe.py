"""A training as its recipe says it, and its variants, for `loopy estimate`; no data, no weights."""

import json
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, Self, get_args

import lightning.pytorch as pl
import yaml
from jsonargparse import ArgumentParser, Namespace

from loopy.commands.recipes import find_recipe
from loopy.errors import ConfigurationError
from loopy.models.folder import ASSETS
from loopy.training.ema import MovingAverage
from loopy.training.memory import (
    MemoryBreakdown,
    Spread,
    StepCost,
    StepOptions,
    Strategy,
    step_cost,
    training_memory,
)
from loopy.training.memory_inference import InferenceCost
from loopy.training.module import LoopyModule
from loopy.training.samples import ValidationSamples
from loopy.training.stages import ClipStage

CUDA = 1.5 * 2**30
"""Bytes that CUDA, its libraries and gaps between blocks take besides; an assumption."""
CHECKPOINTING, FSDP2, EIGHT_BIT = "gradient checkpointing", "FSDP2", "8-bit optimiser"
NO_HISTORY, FROZEN = "no history gradient", "frozen nets"
CHANGES: dict[str, tuple[str, dict[str, Any]]] = {
    CHECKPOINTING: (
        "--model.init_args.gradient_checkpointing=true",
        {"gradient_checkpointing": True},
    ),
    FSDP2: (
        "--config configs/sd15/fsdp2.yaml --trainer.strategy.init_args.data_parallel_size={}",
        {},
    ),
    EIGHT_BIT: ("--config configs/sd15/adam_8bit.yaml", {}),
    NO_HISTORY: (
        "--config configs/sd15/no_history_gradient.yaml",
        {"network": {"init_args": {"motion_gradient": False}}},
    ),
    FROZEN: ("--config configs/sd15/frozen.yaml", {"trained": "added"}),
}
"""What may be changed in a recipe: by options of `loopy fit`, and in the stage of a step.
The image stage has no history and nothing that was added."""
VARIANTS = (
    (),
    (CHECKPOINTING,),
    (CHECKPOINTING, FSDP2),
    (CHECKPOINTING, EIGHT_BIT),
    (CHECKPOINTING, NO_HISTORY),
    (CHECKPOINTING, NO_HISTORY, FSDP2),
    (CHECKPOINTING, NO_HISTORY, EIGHT_BIT),
    (CHECKPOINTING, FROZEN),
    (CHECKPOINTING, FROZEN, EIGHT_BIT),
)
"""Computing again and spreading change no number but by rounding; 8 bits round the optimiser's
moments; then a path of the gradient is given up, then what is trained."""


@dataclass(frozen=True)
class TrainingPlan:
    """A training as its recipe says it, without its data.

    Args:
        model: Class and options of the stage.
        vae: Configuration of the autoencoder.
        options: Of its step.
        samples: Whether videos are made while validating.
        spread: Over which devices; its ``sampling`` is not known yet.
    """

    model: dict[str, Any]
    vae: dict[str, Any]
    options: StepOptions
    samples: bool
    spread: Spread

    @classmethod
    def of(cls, recipe: Namespace) -> Self:
        """What a recipe says.

        Raises:
            ConfigurationError: Something in it has no estimate.
        """
        plain = recipe.as_dict()
        model, trainer = plain["model"], plain["trainer"]
        if not issubclass(resolve_name(model["class_path"]), LoopyModule):
            raise ConfigurationError(
                f"no estimate for {model['class_path']}; give an image or clip stage"
            )
        data = plain["data"].get("init_args", {})
        callbacks = [resolve_name(entry["class_path"]) for entry in trainer["callbacks"] or []]
        vae, settings = _autoencoder(model["init_args"]), model["init_args"]["settings"]
        options = StepOptions(
            batch_size=data.get("batch_size", 1),
            latent_px=settings["size_px"] // 2 ** (len(vae["block_out_channels"]) - 1),
            precision=str(trainer["precision"] or "32-true"),
            accumulates=trainer["accumulate_grad_batches"] > 1,
            device="cpu" if trainer["accelerator"] == "cpu" and plain["card"] is None else "cuda",
        )
        devices = _devices(plain)
        strategy, bucket_view = _strategy(plain, devices)
        spread = Spread(
            strategy=strategy,
            devices=devices,
            bucket_view=bucket_view,
            half=options.precision == "bf16-mixed",
            optimizer=model["init_args"].get("optimizer", "adamw"),
            averaged=any(issubclass(each, MovingAverage) for each in callbacks),
        )
        samples = any(issubclass(each, ValidationSamples) for each in callbacks)
        return cls(model, vae, options, samples, spread)

    def make(self) -> LoopyModule:
        """Build the stage, on whatever device or mode is set; no weights are read."""
        model = deepcopy(self.model)
        model.get("init_args", {}).pop("init_from", None)
        parser = ArgumentParser()
        parser.add_subclass_arguments(pl.LightningModule, "model")
        return parser.instantiate(parser.parse_object({"model": model}))["model"]

    def memory(self, step: StepCost, inference: InferenceCost) -> MemoryBreakdown:
        """Bytes on each device."""
        sampling = inference.around + inference.transient if self.samples else 0
        return training_memory(step, replace(self.spread, sampling=sampling))

    def changed(self, changes: Sequence[str]) -> Self | None:
        """A variant; None where the stage or the devices allow no such thing."""
        model, spread = deepcopy(self.model), self.spread
        clips = issubclass(resolve_name(model["class_path"]), ClipStage)
        if not clips and {NO_HISTORY, FROZEN} & set(changes):
            return None
        for change in changes:
            _lay_over(model["init_args"], CHANGES[change][1])
        if EIGHT_BIT in changes:
            spread = replace(spread, optimizer="adamw_8bit")
        if FSDP2 in changes:
            spread = replace(spread, strategy="fsdp2")
        alone = FSDP2 in changes and spread.devices == 1
        if alone or (spread.strategy, spread.optimizer) == ("fsdp2", "adamw_8bit"):
            return None
        return replace(self, model=model, spread=spread)


def _lay_over(below: dict[str, Any], above: Mapping[str, Any]) -> None:
    for name, value in above.items():
        if isinstance(value, dict):
            _lay_over(below[name], value)
        else:
            below[name] = value


def _strategy(plain: Mapping[str, Any], devices: int) -> tuple[Strategy, bool]:
    """The kind of strategy, and whether DDP's gradients are views of its buckets."""
    given, options = plain["trainer"]["strategy"], {}
    if isinstance(given, dict):
        options = {**given.get("init_args", {}), **given.get("dict_kwargs", {})}
        given = given["class_path"].rpartition(".")[2]
    name = str(given).lower()
    known: dict[str, Strategy] = {
        "auto": "ddp" if devices > 1 else "one",
        "singledevicestrategy": "one",
        "modelparallelstrategy": "fsdp2",
    }
    found = plain["strategy"] or ("ddp" if name.startswith("ddp") else known.get(name))
    if found is None:
        raise ConfigurationError(
            f"no estimate for the strategy {given!r}; give --strategy one of {get_args(Strategy)}"
        )
    return found, bool(options.get("gradient_as_bucket_view", False))


def _devices(plain: Mapping[str, Any]) -> int:
    if plain["gpus"] is not None:
        if plain["gpus"] < 1:
            raise ConfigurationError(f"--gpus is at least 1, got {plain['gpus']}")
        return plain["gpus"]
    devices, nodes = plain["trainer"]["devices"], plain["trainer"]["num_nodes"]
    here = len(devices) if isinstance(devices, list) else devices
    return nodes * (int(here) if str(here).isdigit() else 1)


def _autoencoder(model: Mapping[str, Any]) -> dict[str, Any]:
    """Configuration of the autoencoder whose latents the networks take.

    That of the recipe's own parts where they exist, else the first of the package's that fits.
    """
    parts = model.get("parts")
    files = [Path(parts or ".") / "vae/config.json", ASSETS / "toon/vae/config.json"]
    known = [json.loads(file.read_text()) for file in files if file.is_file()]
    real = yaml.safe_load(find_recipe("configs/sd15/model.yaml").read_text())["autoencoder"]
    channels = model["network"]["init_args"]["denoiser"]["init_args"]["in_channels"]
    for config in (*known, real):
        if config["latent_channels"] == channels:
            return config
    raise ConfigurationError(
        f"no autoencoder has latents of {channels} channels; make the parts of the recipe first "
        f"({parts})"
    )


@dataclass(frozen=True)
class Variant:
    """A variant of a recipe, by its `CHANGES`, and what it takes."""

    changes: tuple[str, ...]
    options: str
    memory: MemoryBreakdown

    def room(self, card: float) -> float:
        """Bytes that are left on a card of so many, with CUDA there; negative: it does not fit."""
        return card - CUDA - self.memory.peak


def first_fit(
    plan: TrainingPlan, step: StepCost, inference: InferenceCost, card: float
) -> Iterator[Variant]:
    """Variants up to the first that fits; all, where none does.

    Args:
        plan: The recipe as it stands.
        step: Its cost.
        inference: Its cost; that of its variants is the same.
        card: Bytes of a card.
    """
    costs, seen = [(plan.model, step)], []
    for names in VARIANTS:
        changes = tuple(name for name in names if plan.changed((name,)) != plan)
        changed = plan.changed(changes)
        if changed is None or changed in seen:
            continue
        seen.append(changed)
        cost = next((cost for model, cost in costs if model == changed.model), None)
        if cost is None:
            cost = step_cost(changed.make, changed.options)
            costs.append((changed.model, cost))
        options = " ".join(CHANGES[name][0].format(plan.spread.devices) for name in changes)
        variant = Variant(changes, options, changed.memory(cost, inference))
        yield variant
        if variant.room(card) >= 0:
            return
