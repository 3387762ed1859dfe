"""`loopy fit`, `validate` and `predict`: recipes in YAML, run by LightningCLI."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import TensorBoardLogger

from loopy.commands.recipes import with_recipe
from loopy.errors import DependencyError, LoopyError
from loopy.training.animator import Animator
from loopy.training.checkpoint_files import check_form, check_whole, last_checkpoint
from loopy.training.module import LoopyModule


class RecipeCLI(LightningCLI):
    """LightningCLI that continues from the last checkpoint in the recipe's folder."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds `--resume`."""
        parser.add_argument(
            "--resume",
            type=bool,
            default=True,
            help="Continue from <trainer.default_root_dir>/checkpoints/last.ckpt if it exists.",
        )

    def parse_arguments(self, parser: LightningArgumentParser, args: list[str]) -> None:
        """Reads the words that are given, wherever they come from."""
        self.config = parser.parse_args(args)

    def instantiate_classes(self) -> None:
        """Builds what the recipe names.

        Raises:
            DependencyError: One of its classes needs what is not installed.
        """
        try:
            super().instantiate_classes()
        except (ValueError, ModuleNotFoundError) as error:
            missing = _beneath(error, ModuleNotFoundError)
            if missing is None:
                raise
            words = " ".join(str(missing).split())
            raise DependencyError(
                f"a class of the recipe needs a package that is missing: {words}; install it, or "
                "leave the class out"
            ) from error

    def instantiate_trainer(self, **options: Any) -> pl.Trainer:
        """The trainer; unless a recipe says otherwise, fit logs for TensorBoard.

        The events are in the run's own folder, where a resumed run adds to them.
        """
        given = self._get(self.config_init, "trainer")
        if given["logger"] in (None, True):
            folder = given["default_root_dir"] or "."
            log = TensorBoardLogger(folder, name="", version="", default_hp_metric=False)
            options["logger"] = log if self.subcommand == "fit" else False
        return super().instantiate_trainer(**options)

    def before_fit(self) -> None:
        """Continues, unless told otherwise."""
        self._continue()

    def before_validate(self) -> None:
        """Measures the last checkpoint, unless told otherwise."""
        self._continue()

    def before_predict(self) -> None:
        """Predicts by the last checkpoint, unless told otherwise."""
        self._continue()

    def _continue(self) -> None:
        options = self.config_init[str(self.subcommand)]
        last = last_checkpoint(Path(self.trainer.default_root_dir))
        if options["resume"] and options["ckpt_path"] is None and last.exists():
            check_whole(last)
            check_form(last, self.trainer)
            options["ckpt_path"] = str(last)
        if options["ckpt_path"] is not None and isinstance(self.model, LoopyModule):
            self.model.init_from = []  # all weights come from the checkpoint


def run(words: Sequence[str]) -> int:
    """Runs a verb of lightning.

    Args:
        words: The verb, `--config` with a recipe (a file, or the name of one that comes with
            loopy: `configs/toon/vae.yaml`), and options that change it.

    Returns:
        The exit code: 1 if a job of a list failed.
    """
    torch.set_flush_denormal(True)
    with typed_errors():
        cli = RecipeCLI(
            pl.LightningModule,
            pl.LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            auto_configure_optimizers=False,
            save_config_kwargs={"overwrite": True},
            args=[with_recipe(word, before) for before, word in pairwise(["", *words])],
        )
    return int(isinstance(cli.model, Animator) and cli.model.failed > 0)


@contextmanager
def typed_errors() -> Iterator[None]:
    """Brings out an error of ours that others have wrapped: jsonargparse, or a worker.

    Raises:
        LoopyError: It, in one line.
    """
    try:
        yield
    except ValueError as error:
        found = _beneath(error, LoopyError)
        if found is None:
            raise
        # of an error in a worker torch tells the traceback first
        name, _, words = str(found).rstrip().rpartition("\n")[2].partition(": ")
        raise type(found)(words if name.endswith(type(found).__name__) else str(found)) from error


def _beneath(error: BaseException, kind: type[Exception]) -> BaseException | None:
    """The first of a kind in what led to an error, itself included."""
    found: BaseException | None = error
    while found is not None and not isinstance(found, kind):
        found = found.__cause__ or found.__context__
    return found
