"""A training as its recipe says it, for `loopy estimate`: no data, no weights, no trainer."""

import json
from collections.abc import Mapping
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
from loopy.training.callbacks import MovingAverage, SampleSheet
from loopy.training.estimate import Needs, Spread, Strategy, needs
from loopy.training.estimate_inference import InferenceCost, inference_cost
from loopy.training.estimate_step import Device, StepCost, step_cost
from loopy.training.module import LoopyModule
from loopy.training.same_clip import Reproduction
from loopy.training.speaking import SpeakingPortraits

SAMPLERS = (SampleSheet, SpeakingPortraits, Reproduction)
"""Callbacks that make videos while validating."""


@dataclass(frozen=True)
class Plan:
    """A training as its recipe says it, without its data.

    Args:
        model: Class and options of the stage.
        batch_size: On each device.
        precision: As lightning's trainer takes it.
        accumulates: Whether gradients of several batches are added up.
        weighted: Whether the loss has weights of places.
        samples: Whether videos are made while validating.
        vae: Configuration of the autoencoder.
        device: What computes.
        spread: Over which devices; its ``sampling`` is not known yet.
    """

    model: dict[str, Any]
    batch_size: int
    precision: str
    accumulates: bool
    weighted: bool
    samples: bool
    vae: dict[str, Any]
    device: Device
    spread: Spread

    @classmethod
    def of(cls, recipe: Namespace) -> Self:
        """What a recipe says.

        Raises:
            ConfigurationError: Something in it has no estimate.
        """
        plain = recipe.as_dict()
        stage = plain["model"]["class_path"]
        if not issubclass(resolve_name(stage), LoopyModule):
            raise ConfigurationError(f"no estimate for {stage}; give an image or clip stage")
        trainer, data = plain["trainer"], plain["data"].get("init_args", {})
        strategy, bucket_view = _strategy(plain)
        callbacks = [resolve_name(entry["class_path"]) for entry in trainer["callbacks"] or []]
        precision = str(trainer["precision"] or "32-true")
        cpu = trainer["accelerator"] == "cpu" and plain["card"] is None
        return cls(
            model=plain["model"],
            batch_size=data.get("batch_size", 1),
            precision=precision,
            accumulates=trainer["accumulate_grad_batches"] > 1,
            weighted=any(data.get(name, 1) != 1 for name in ("mouth_weight", "eye_weight")),
            samples=any(issubclass(each, SAMPLERS) for each in callbacks),
            vae=_autoencoder(data, plain["model"]),
            device="cpu" if cpu else "cuda",
            spread=Spread(
                strategy=strategy,
                devices=_devices(plain),
                bucket_view=bucket_view,
                half=precision == "bf16-mixed",
                optimizer=plain["model"]["init_args"].get("optimizer", "adamw"),
                averaged=any(issubclass(each, MovingAverage) for each in callbacks),
            ),
        )

    @property
    def stage(self) -> type[LoopyModule]:
        """Class of the stage."""
        return resolve_name(self.model["class_path"])

    def make(self) -> LoopyModule:
        """Build the stage, on whatever device or mode is set; no weights are read."""
        model = deepcopy(self.model)
        model.get("init_args", {}).pop("init_from", None)
        parser = ArgumentParser()
        parser.add_subclass_arguments(pl.LightningModule, "model")
        return parser.instantiate(parser.parse_object({"model": model}))["model"]

    def needs(self, step: StepCost, inference: InferenceCost) -> Needs:
        """Bytes on each device, of what `step` and `inference` found."""
        sampling = inference.around + inference.transient if self.samples else 0
        return needs(step, replace(self.spread, sampling=sampling))

    @property
    def latent_px(self) -> int:
        """Side of the latents."""
        halvings = len(self.vae["block_out_channels"]) - 1
        return self.model["init_args"]["settings"]["size_px"] // 2**halvings

    def step(self) -> StepCost:
        """One training step by shapes."""
        return step_cost(
            self.make,
            batch_size=self.batch_size,
            latent_px=self.latent_px,
            precision=self.precision,
            accumulates=self.accumulates,
            weighted=self.weighted,
            device=self.device,
        )

    def inference(self) -> InferenceCost:
        """One clip of inference by shapes, as `loopy animate` makes it."""
        return inference_cost(self.make, self.vae, latent_px=self.latent_px)


def _strategy(plain: Mapping[str, Any]) -> tuple[Strategy, bool]:
    """The kind of strategy, and whether DDP's gradients are views of its buckets."""
    asked = plain["trainer"]["strategy"]
    options: Mapping[str, Any] = {}
    if isinstance(asked, dict):
        options = {**asked.get("init_args", {}), **asked.get("dict_kwargs", {})}
        asked = asked["class_path"].rpartition(".")[2]
    view = bool(options.get("gradient_as_bucket_view", False))
    if plain["strategy"] is not None:
        return plain["strategy"], view
    match str(asked).lower():
        case "auto":
            return ("ddp" if _devices(plain) > 1 else "one"), view
        case "singledevicestrategy":
            return "one", view
        case "modelparallelstrategy":
            return "fsdp2", view
        case name if name.startswith("ddp"):
            return "ddp", view
    raise ConfigurationError(
        f"no estimate for the strategy {asked!r}; give --strategy one of {get_args(Strategy)}"
    )


def _devices(plain: Mapping[str, Any]) -> int:
    if plain["gpus"] is not None:
        if plain["gpus"] < 1:
            raise ConfigurationError(f"--gpus is at least 1, got {plain['gpus']}")
        return plain["gpus"]
    devices, nodes = plain["trainer"]["devices"], plain["trainer"]["num_nodes"]
    here = len(devices) if isinstance(devices, list) else devices
    return nodes * (int(here) if str(here).isdigit() else 1)


def _autoencoder(data: Mapping[str, Any], model: Mapping[str, Any]) -> dict[str, Any]:
    """Configuration of the autoencoder whose latents the networks take.

    That of the recipe's own parts where they exist, else the first of the package's that fits.
    """
    inner = (data.get("data") or {}).get("init_args", {})
    parts = data.get("parts") or inner.get("parts")
    files = [Path(parts or ".") / "vae/config.json", ASSETS / "toon/vae/config.json"]
    known = [json.loads(file.read_text()) for file in files if file.is_file()]
    real = yaml.safe_load(find_recipe("configs/sd15/model.yaml").read_text())["autoencoder"]
    channels = model["init_args"]["network"]["init_args"]["denoiser"]["init_args"]["in_channels"]
    for config in (*known, real):
        if config["latent_channels"] == channels:
            return config
    raise ConfigurationError(
        f"no autoencoder has latents of {channels} channels; make the parts of the recipe first "
        f"({parts})"
    )
