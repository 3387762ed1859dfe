"""`loopy fit`, `validate` and `predict`: recipes in YAML, run by LightningCLI."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from jsonargparse import ArgumentError
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from loopy.commands.recipes import with_recipe
from loopy.drafts import existing_folder
from loopy.errors import ConfigurationError, DependencyError, LoopyError, OutputError
from loopy.training.checkpoint_files import (
    check_form,
    check_whole,
    last_checkpoint,
    restore_errors,
)
from loopy.training.module import LoopyModule
from loopy.training.predict import Animator

WRITTEN_BY = b"# lightning"
"""How a recipe begins that LightningCLI has written."""


class RecipeCLI(LightningCLI):
    """LightningCLI that continues from the last checkpoint in the recipe's folder."""

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        """A parser, of all verbs or of one, that leaves it to us to say what is wrong."""
        return super().init_parser(**kwargs, exit_on_error=False)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds `--resume`."""
        words = "Continue from <trainer.default_root_dir>/checkpoints/last.ckpt if it exists."
        parser.add_argument("--resume", type=bool, default=True, help=words)

    def parse_arguments(self, parser: LightningArgumentParser, args: list[str]) -> None:
        """Reads the words; what is unknown or of another kind is a `ConfigurationError`."""
        try:
            self.config = parser.parse_args(args)
        except ArgumentError as error:
            raise ConfigurationError(_reason(error)) from error
        verb = self.config.get("subcommand")  # None where nothing is run, as by `loopy estimate`
        if (self.config if verb is None else self.config[verb]).get("model") is None:
            raise ConfigurationError("the recipe has no model; give --config, or model.class_path")

    def _parse_ckpt_path(self) -> None:
        """Leaves the recipe as it is: lightning lets a checkpoint choose class and options."""

    def instantiate_classes(self) -> None:
        """Builds what the recipe names; a package that is missing is a `DependencyError`."""
        try:
            super().instantiate_classes()
        except (ValueError, ModuleNotFoundError) as error:
            missing = _cause(error, ModuleNotFoundError)
            if missing is None:
                raise
            words = " ".join(str(missing).split())
            raise DependencyError(
                f"a class of the recipe needs a package that is missing: {words}; install it, or "
                "leave the class out"
            ) from error

    def instantiate_trainer(self, **options: Any) -> pl.Trainer:
        """The trainer; unless a recipe says otherwise, fit logs for TensorBoard.

        The events are in the run's own folder, where a resumed run adds to them. Only fit leaves
        its recipe there, in config.yaml: another verb would replace that of the run, or a recipe.
        """
        if self.subcommand != "fit":
            self.save_config_callback = None
        given = self._get(self.config_init, "trainer")
        if given["logger"] in (None, True):
            folder = given["default_root_dir"] or "."
            log = TensorBoardLogger(folder, name="", version="", default_hp_metric=False)
            options["logger"] = log if self.subcommand == "fit" else False
        try:
            return super().instantiate_trainer(**options)
        except LoopyError:
            raise
        except Exception as error:  # lightning's, torch's and the plugins' own
            reason = " ".join(str(error).split())[:300]
            raise ConfigurationError(f"the recipe's trainer cannot be built: {reason}") from error

    def _continue(self) -> None:
        """Finds the last checkpoint, unless told otherwise, and makes sure that it runs no code."""
        options = self.config_init[str(self.subcommand)]
        given = options["ckpt_path"]
        last = last_checkpoint(Path(self.trainer.default_root_dir))
        if given is None:
            if not options["resume"] or not last.exists():
                return
            given = last
        path = Path(given).absolute()
        if not given or not path.exists():
            raise ConfigurationError(
                f"no checkpoint {given!s}; give a file or folder on this disk by --ckpt_path "
                "(nothing is downloaded)"
            )
        check_form(path, self.trainer)
        check_whole(path)
        options["ckpt_path"] = str(path)
        if isinstance(self.model, LoopyModule):
            self.model.init_from = []  # all weights come from the checkpoint

    def _run_subcommand(self, subcommand: str) -> None:
        """Runs the trainer; what was there before, and no run wrote, is not replaced."""
        root = Path(self.trainer.default_root_dir)
        if subcommand == "fit":
            existing_folder(root)
            recipe = root / "config.yaml"
            if recipe.is_file() and not recipe.read_bytes().startswith(WRITTEN_BY):
                raise OutputError(
                    f"{recipe} would be replaced by the recipe of this run, and no run wrote it; "
                    "give another --trainer.default_root_dir"
                )
        with restore_errors(lambda: self.config_init[subcommand]["ckpt_path"]):
            self._continue()
            try:
                super()._run_subcommand(subcommand)
            except MisconfigurationException as error:
                raise ConfigurationError(" ".join(str(error).split())) from error


def run(words: Sequence[str]) -> int:
    """Runs a verb of lightning; the exit code is 1 if a job of a list failed.

    Args:
        words: The verb, `--config` with a recipe (a file, or the name of one that comes with
            loopy: `configs/toon/vae.yaml`), and options that change it.
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
    """Brings out an error of ours that others have wrapped: jsonargparse, or a worker."""
    try:
        yield
    except ValueError as error:
        found = _cause(error, LoopyError)
        if found is None:
            raise
        # an error out of a worker of torch holds the worker's traceback; its last line is ours
        last = str(found).rstrip().rpartition("\n")[2]
        words = last.partition(f"{type(found).__name__}: ")[2] or str(found)
        raise type(found)(words) from error


def _reason(error: ArgumentError) -> str:
    """What is wrong: the keys, the value, and of alternatives what goes deepest into the recipe."""
    lines = [line for line in str(error).splitlines() if "NoneType" not in line]
    depths = [len(line) - len(line.lstrip(" -")) for line in lines]
    told = [
        line.strip(" -")
        for line, depth in zip(lines, depths, strict=True)
        if "Parser key" in line or depth == max(depths)
    ]
    short = [line.strip() for line in lines if "Given value: " in line and len(line) < 100]
    told += [line for line in short if "NestedArg" not in line][:1]
    return " ".join(" ".join(told).split())[:400]


def _cause(error: BaseException | None, kind: type[Exception]) -> BaseException | None:
    """The first of a kind in what led to an error, itself included."""
    while error is not None and not isinstance(error, kind):
        error = error.__cause__ or error.__context__
    return error
