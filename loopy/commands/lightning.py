"""`loopy fit`, `validate` and `predict`: recipes in YAML, run by LightningCLI."""

from pathlib import Path

import lightning.pytorch as pl
import torch
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI


class RecipeCLI(LightningCLI):
    """LightningCLI that continues from the last checkpoint of the recipe's folder."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds `--resume`."""
        parser.add_argument(
            "--resume",
            type=bool,
            default=True,
            help="Continue from <trainer.default_root_dir>/checkpoints/last.ckpt if it exists.",
        )

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
        options = self.config_init[self.subcommand]
        last = Path(self.trainer.default_root_dir) / "checkpoints" / "last.ckpt"
        if options["resume"] and options["ckpt_path"] is None and last.exists():
            options["ckpt_path"] = str(last)


def build(*, run: bool = True) -> RecipeCLI:
    """The parser of recipes, applied to `sys.argv`."""
    torch.set_flush_denormal(True)
    return RecipeCLI(
        pl.LightningModule,
        pl.LightningDataModule,
        subclass_mode_model=True,
        subclass_mode_data=True,
        auto_configure_optimizers=False,
        save_config_kwargs={"overwrite": True},
        run=run,
    )


def run() -> None:
    """Runs the subcommand in `sys.argv`."""
    build()
