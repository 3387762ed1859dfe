"""`loopy estimate`: what a recipe will take, told before it is run."""

import json
from collections.abc import Sequence
from itertools import pairwise

import lightning.pytorch as pl
from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser

from loopy.commands.estimate_ladder import climb
from loopy.commands.estimate_recipe import Plan
from loopy.commands.estimate_tables import (
    as_json,
    inference_table,
    ladder_table,
    training_table,
)
from loopy.commands.lightning import RecipeCLI, typed_errors
from loopy.commands.recipes import with_recipe
from loopy.errors import ConfigurationError
from loopy.training.estimate import Strategy, card_bytes


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
        parser.add_argument(
            "--strategy",
            type=Strategy | None,
            help="one device, ddp or fsdp2; the recipe's when left out.",
        )
        parser.add_argument("--json", type=bool, default=False, help="Print JSON, in bytes.")

    def instantiate_classes(self) -> None:
        """Builds nothing."""


def read_recipe(words: Sequence[str]) -> Namespace:
    """The whole configuration of a recipe with later ones and options on top.

    Raises:
        ConfigurationError: No recipe is given, or there is no such recipe.
    """
    given = [with_recipe(word, before) for before, word in pairwise(["", *words])]
    if not any(word.startswith(("-c", "--config", "-h", "--help")) for word in given):
        raise ConfigurationError(
            "nothing to estimate; give a recipe: loopy estimate --config configs/sd15/clip.yaml"
        )
    cli = EstimateCLI(
        pl.LightningModule,
        pl.LightningDataModule,
        subclass_mode_model=True,
        subclass_mode_data=True,
        auto_configure_optimizers=False,
        save_config_callback=None,
        run=False,
        args=[*given, "--seed_everything=false"],
    )
    return cli.config


def run(words: Sequence[str]) -> None:
    """Prints what a recipe takes.

    Args:
        words: The verb, `--config` as for `loopy fit`, and options.
    """
    options = list(words[1:])
    with typed_errors():
        recipe = read_recipe(options)
        card = None if recipe.card is None else card_bytes(recipe.card)
        plan = Plan.of(recipe)
        step, inference = plan.step(), plan.inference()
        needs = plan.needs(step, inference)
        rungs = [] if card is None else [*climb(plan, step, inference, card)]
    if recipe.json:
        print(json.dumps(as_json(step, needs, inference, rungs), indent=2))
        return
    print(training_table(plan, step, needs), inference_table(inference), sep="\n\n")
    if card is not None:
        names = " + ".join(str(path) for path in recipe.config or [])
        print(f"\n{ladder_table(rungs, card, names)}")
