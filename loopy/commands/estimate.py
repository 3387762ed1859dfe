"""`loopy estimate`: what a recipe will take, before it is run."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from itertools import pairwise
from typing import Any

import lightning.pytorch as pl
from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser

from loopy.commands.estimate_recipe import CUDA, TrainingPlan, Variant, first_fit
from loopy.commands.lightning import RecipeCLI, typed_errors
from loopy.commands.recipes import with_recipe
from loopy.errors import ConfigurationError
from loopy.training.memory import PARTS, MemoryBreakdown, StepCost, Strategy, step_cost
from loopy.training.memory_inference import InferenceCost, inference_cost

GIB, TERA = 2**30, 1e12
CARDS = {
    **{"t4": 15, "v100": 32, "rtx3090": 24, "rtx4090": 24, "rtx5090": 32, "l4": 22.5, "a10": 22.5},
    **{"l40s": 44.5, "a6000": 47.5, "a100-40": 39.4, "a100-80": 79.2, "h100": 79.2},
    **{"h200": 139.8, "b200": 178},
}
"""GiB that a program can see on a card; T4 to A10 with error correction on."""


class EstimateCLI(RecipeCLI):
    """Reads a recipe as `loopy fit` does, and builds nothing."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds the options of `loopy estimate`."""
        super().add_arguments_to_parser(parser)
        parser.add_argument(
            "--card",
            type=str | None,
            help="Tell the first variant that fits: a card (a100-80) or its GiB (24GB).",
        )
        parser.add_argument("--gpus", type=int | None, help="How many; the recipe's when left out.")
        words = "one device, ddp or fsdp2; the recipe's when left out."
        parser.add_argument("--strategy", type=Strategy | None, help=words)
        parser.add_argument("--json", type=bool, default=False, help="Print JSON, in bytes.")

    def instantiate_classes(self) -> None:
        """Builds nothing."""


def merged_recipe(words: Sequence[str]) -> Namespace:
    """The whole configuration of a recipe with later ones and options on top.

    Raises:
        ConfigurationError: No recipe is given, or words that make no sense.
    """
    given = [with_recipe(word, before) for before, word in pairwise(["", *words])]
    if not any(word.startswith(("-c", "--config", "-h", "--help")) for word in given):
        raise ConfigurationError(
            "nothing to estimate; give a recipe: loopy estimate --config configs/sd15/clip.yaml"
        )
    return EstimateCLI(
        pl.LightningModule,
        pl.LightningDataModule,
        subclass_mode_model=True,
        subclass_mode_data=True,
        auto_configure_optimizers=False,
        save_config_callback=None,
        run=False,
        args=[*given, "--seed_everything=false"],
    ).config


def card_bytes(card: str) -> float:
    """Bytes of a card, by its name (``a100-80``) or its GiB (``24``, ``24GB``).

    Raises:
        ConfigurationError: No such card.
    """
    name = card.lower().replace(" ", "").replace("_", "-")
    try:
        gib = CARDS.get(name) or float(name.removesuffix("gib").removesuffix("gb"))
    except ValueError:
        gib = 0.0
    if not gib > 0:
        raise ConfigurationError(
            f"no card {card!r}; give its GiB, for example 24GB, or one of {', '.join(CARDS)}"
        )
    return gib * GIB


def estimate_text(
    plan: TrainingPlan, step: StepCost, memory: MemoryBreakdown, inference: InferenceCost
) -> str:
    """GiB on each device at the three moments, and of a clip of inference; operations."""
    moments = (memory.step, memory.update, memory.validation)
    setup, frames = plan.setup, inference.frames * TERA
    on = f"each of {setup.devices} devices ({setup.strategy})"
    sizes = {**inference.keys, "motion frames": inference.seen}
    kept = ", ".join(f"{name} {size / GIB:.2f}" for name, size in sizes.items() if size)
    lines = [
        f"Training on {on if setup.devices > 1 else 'a device'}, {setup.precision}, "
        f"batches of {setup.batch_size}, GiB:",
        f"{'':<28}{'in a step':>12}{'at update':>12}{'validating':>12}",
    ]
    for part, words in PARTS.items():
        if any(moment[part] for moment in moments):
            lines.append(_row(words, *(moment[part] for moment in moments)))
    lines += [
        _row("sum", *(moment.total() for moment in moments)),
        f"A step computes {step.tracker.flops / TERA:.3g} TFLOP on each device.\n",
        f"Inference of a clip of {inference.frames} frames in float32, GiB:",
        _row("networks", inference.networks),
        _row("autoencoder, audio encoder", inference.around),
        f"{_row('diffusion step', inference.denoising)}  (kept for it: {kept})",
        _row("decoding", inference.decoding),
        _row("peak", inference.peak),
        f"A frame takes {inference.flops_a_frame / TERA:.3g} TFLOP: {inference.guided} of "
        f"{inference.steps} steps {inference.step / frames:.3g}, others "
        f"{inference.plain / frames:.3g}, decoding {inference.decode / frames:.3g}.",
    ]
    return "\n".join(lines)


def estimate_json(
    step: StepCost, memory: MemoryBreakdown, inference: InferenceCost, variants: Sequence[Variant]
) -> dict[str, Any]:
    """The same in bytes and operations."""
    moments = {name: dict(moment) for name, moment in vars(memory).items()}
    peaks = {"peak": inference.peak, "flops_a_frame": inference.flops_a_frame}
    return {
        "training": {**moments, "peak": memory.peak, "flops_a_step": step.tracker.flops},
        "inference": asdict(inference) | peaks,
        "variants": [
            {"changes": each.changes, "options": each.options, "peak": each.memory.peak}
            for each in variants
        ],
    }


def variants_table(variants: Sequence[Variant], card: float, recipe: str) -> str:
    """Each variant's peak, and which is the first that fits."""
    lines = [f"{'GiB':>8}{'room':>8}  {'at its':<12}variant ({CUDA / GIB} GiB are CUDA's own)"]
    for each in variants:
        sizes = f"{each.memory.peak / GIB:8.1f}{each.room(card) / GIB:8.1f}"
        words = " + ".join(each.changes) or "as it stands"
        lines.append(f"{sizes}  {each.memory.largest:<12}{words}")
    last, size = variants[-1], f"{card / GIB:.4g} GiB"
    if last.room(card) < 0:
        lines.append(f"No variant of {recipe} fits {size}; take a larger card, or more of them.")
    else:
        options = f" with {last.options}" if last.options else ""
        close = ", nearer than the 10 % that the estimate may be wrong"
        lines.append(
            f"{recipe}{options} is the first that fits {size}: {last.memory.peak / GIB:.1f} GiB"
            f"{close if last.room(card) < 0.1 * last.memory.peak else ''}."
        )
    return "\n".join(lines)


def _row(name: str, *sizes: int) -> str:
    return f"{name:<28}" + "".join(f"{size / GIB:12.2f}" for size in sizes)


def run(words: Sequence[str]) -> None:
    """Prints what a recipe takes, by the verb, `--config` as for `loopy fit`, and options."""
    with typed_errors():
        recipe = merged_recipe(words[1:])
        card = None if recipe.card is None else card_bytes(recipe.card)
        plan = TrainingPlan.of(recipe)
        step = step_cost(plan.make, plan.setup)
        inference = inference_cost(plan.make, plan.vae, latent_px=plan.setup.latent_px)
        memory = plan.memory(step, inference)
        variants = [] if card is None else [*first_fit(plan, step, inference, card)]
    if recipe.json:
        print(json.dumps(estimate_json(step, memory, inference, variants), indent=2))
        return
    print(estimate_text(plan, step, memory, inference))
    if card is not None:
        names = " + ".join(str(path) for path in recipe.config or [])
        print(f"\n{variants_table(variants, card, names)}")
