"""`loopy export`: a checkpoint of training becomes parts of a model folder."""

from collections.abc import Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Literal

import lightning.pytorch as pl
import torch
import yaml
from jsonargparse import ArgumentParser, auto_cli

from loopy.commands.lightning import typed_errors
from loopy.errors import ModelError
from loopy.training.checkpoint_files import read_weights


def export(*, ckpt: Path, out: Path, dtype: Literal["float16", "float32"] = "float16") -> None:
    """Saves the part that a checkpoint trained, in the form that inference reads.

    The averaged weights are taken where the checkpoint has them. The recipe is read from
    config.yaml, which `loopy fit` leaves beside the folder of checkpoints.

    Args:
        ckpt: A checkpoint of `loopy fit`, for example runs/toon/vae/checkpoints/last.ckpt.
        out: A model folder; each part has its own folder inside.
        dtype: Precision of the files: float16 to make videos, float32 to train on from there.
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
    precision: torch.dtype = getattr(torch, dtype)
    _check_range(stage, precision, ckpt)
    stage.eval().export(out, data, dtype=precision)  # pyright: ignore[reportCallIssue]


def _check_range(stage: pl.LightningModule, dtype: torch.dtype, ckpt: Path) -> None:
    """Makes sure that all weights are numbers, in the file too.

    Raises:
        ModelError: They are not.
    """
    for name, weights in stage.named_parameters():
        if not weights.isfinite().all():
            raise ModelError(f"{ckpt}: {name} is not finite; the run diverged, take an older one")
        if not weights.to(dtype).isfinite().all():
            raise ModelError(
                f"{ckpt}: {name} has values up to {weights.abs().max():.3g}, which {dtype} does "
                "not hold; give --dtype float32"
            )


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
