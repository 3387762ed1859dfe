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
from loopy.training.distillation.stage import DistillationStage
from loopy.training.ema import MovingAverage
from loopy.training.memory import (
    MemoryBreakdown,
    StepCost,
    Strategy,
    TrainingSetup,
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
CHANGES = {
    CHECKPOINTING: "--model.init_args.gradient_checkpointing=true",
    FSDP2: "--config configs/sd15/fsdp2.yaml "
    "--trainer.strategy.init_args.data_parallel_size={devices}",
    EIGHT_BIT: "--config configs/sd15/adam_8bit.yaml",
    NO_HISTORY: "--config configs/sd15/no_history_gradient.yaml",
    FROZEN: "--config configs/sd15/frozen.yaml",
}
"""What may be changed in a recipe, and the options of `loopy fit` that do it."""
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
        setup: Of its step, and over which devices it is spread.
        samples: Whether videos are made while validating.
    """

    model: dict[str, Any]
    vae: dict[str, Any]
    setup: TrainingSetup
    samples: bool

    @classmethod
    def of(cls, recipe: Namespace) -> Self:
        """What a recipe says.

        Raises:
            ConfigurationError: A model, strategy or data of which there is no estimate.
        """
        plain = recipe.as_dict()
        model, trainer = plain["model"], plain["trainer"]
        kind = resolve_name(model["class_path"])
        if not issubclass(kind, LoopyModule) or issubclass(kind, DistillationStage):
            raise ConfigurationError(
                f"no estimate for {model['class_path']}; give an image or clip stage"
            )
        options = model["init_args"]
        callbacks = [resolve_name(entry["class_path"]) for entry in trainer["callbacks"] or []]
        samples = any(issubclass(each, ValidationSamples) for each in callbacks)
        vae, devices = _autoencoder(options), _devices(plain)
        strategy, bucket_view = _strategy(plain, devices)
        setup = TrainingSetup(
            batch_size=plain["data"].get("init_args", {}).get("batch_size", 1),
            latent_px=options["settings"]["size_px"] // 2 ** (len(vae["block_out_channels"]) - 1),
            precision=str(trainer["precision"] or "32-true"),
            accumulates=trainer["accumulate_grad_batches"] > 1,
            device="cpu" if trainer["accelerator"] == "cpu" and plain["card"] is None else "cuda",
            strategy=strategy,
            devices=devices,
            bucket_view=bucket_view,
            optimizer=options.get("optimizer", "adamw"),
            averaged=any(issubclass(each, MovingAverage) for each in callbacks),
        )
        return cls(model, vae, setup, samples)

    def make(self) -> LoopyModule:
        """Build the stage, on whatever device or mode is set; no weights are read."""
        model = deepcopy(self.model)
        for read in ("init_from", "sync_weight"):  # files; the judge of lips is not counted
            model["init_args"].pop(read, None)
        scheduler = model["init_args"]["scheduler"].get("init_args", {})
        scheduler.pop("rescale_betas_zero_snr", None)  # its check asks values, and there are none
        parser = ArgumentParser()
        parser.add_subclass_arguments(pl.LightningModule, "model")
        return parser.instantiate(parser.parse_object({"model": model}))["model"]

    def memory(self, step: StepCost, inference: InferenceCost) -> MemoryBreakdown:
        """Bytes on each device."""
        sampling = inference.around + inference.transient if self.samples else 0
        return training_memory(step, self.setup, sampling=sampling)

    def changed(self, changes: Sequence[str]) -> Self | None:
        """A variant; None where the stage or the devices allow no such thing."""
        model, setup = deepcopy(self.model), self.setup
        options = model["init_args"]
        of_clips = issubclass(resolve_name(model["class_path"]), ClipStage)
        if {NO_HISTORY, FROZEN} & set(changes) and not of_clips:
            return None  # the image stage has no history and nothing that was added
        if CHECKPOINTING in changes:
            options["gradient_checkpointing"] = True
        if NO_HISTORY in changes:
            options["network"]["init_args"]["motion_gradient"] = False
        if FROZEN in changes:
            options["trained"] = "added"
        if EIGHT_BIT in changes:
            setup = replace(setup, optimizer="adamw_8bit")
        if FSDP2 in changes:
            setup = replace(setup, strategy="fsdp2")
        alone = FSDP2 in changes and setup.devices == 1
        if alone or (setup.strategy, setup.optimizer) == ("fsdp2", "adamw_8bit"):
            return None
        return replace(self, model=model, setup=setup)


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
    """Variants up to the first that fits a card of so many bytes; all, where none does.

    ``step`` and ``inference`` are what it takes as it stands; no variant changes the latter.
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
            cost = step_cost(changed.make, changed.setup)
            costs.append((changed.model, cost))
        options = " ".join(CHANGES[name] for name in changes).format(devices=plan.setup.devices)
        variant = Variant(changes, options, changed.memory(cost, inference))
        yield variant
        if variant.room(card) >= 0:
            return
