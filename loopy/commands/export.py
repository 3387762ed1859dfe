"""`loopy export`: a checkpoint of training becomes parts of a model folder."""

from collections.abc import Sequence
from pathlib import Path
from pickle import UnpicklingError

import lightning.pytorch as pl
import yaml
from jsonargparse import ArgumentParser, auto_cli

from loopy.commands.lightning import typed_errors
from loopy.errors import ModelError
from loopy.training.checkpoint_files import read_weights


def export(*, ckpt: Path, out: Path) -> None:
    """Saves the part that a checkpoint trained, in the form that inference reads.

    The averaged weights are taken where the checkpoint has them. The recipe is read from
    config.yaml, which `loopy fit` leaves beside the folder of checkpoints.

    Args:
        ckpt: A checkpoint of `loopy fit`, for example runs/toon/vae/checkpoints/last.ckpt.
        out: A model folder; each part has its own folder inside.
    """
    recipe = ckpt.parents[1] / "config.yaml"
    for place in (ckpt, recipe):
        if not place.exists():
            raise ModelError(f"no file {place}; give a checkpoint inside the folder of its run")
    with typed_errors():
        stage, data = _build(yaml.safe_load(recipe.read_text()))
    try:
        stage.load_state_dict(read_weights(ckpt))
    except (OSError, EOFError, KeyError, RuntimeError, UnpicklingError) as error:
        reason = str(error).partition("\n")[0]
        raise ModelError(
            f"{ckpt} is no checkpoint of this recipe ({reason}); give another of its run"
        ) from error
    stage.eval().export(out, data)  # pyright: ignore[reportCallIssue]


def run(words: Sequence[str]) -> None:
    """Runs the verb with the words behind it."""
    auto_cli(export, args=list(words[1:]), as_positional=False)


def _build(recipe: dict) -> tuple[pl.LightningModule, pl.LightningDataModule]:
    parser = ArgumentParser()
    parser.add_subclass_arguments(pl.LightningModule, "model")
    parser.add_subclass_arguments(pl.LightningDataModule, "data")
    config = parser.parse_object({name: recipe[name] for name in ("model", "data")})
    built = parser.instantiate(config)
    return built["model"], built["data"]
