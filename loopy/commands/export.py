"""`loopy export`: a checkpoint of training becomes parts of a model folder."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypeVar

import lightning.pytorch as pl
import torch
from jsonargparse import ArgumentError, ArgumentParser

from loopy.commands.lightning import typed_errors
from loopy.commands.parsing import parsed
from loopy.commands.recipes import read_recipe
from loopy.data.media.outputs import check_outputs
from loopy.errors import ConfigurationError, ModelError
from loopy.models.folder import INDEX
from loopy.models.tensor_files import told
from loopy.training.autoencoder import AutoencoderStage
from loopy.training.checkpoint_files import checkpoint_weights
from loopy.training.datamodule import LoopyDataModule

Built = TypeVar("Built")


def export(*, ckpt: Path, out: Path, dtype: Literal["float16", "float32"] = "float16") -> None:
    """Saves the part that a checkpoint trained, in the form that inference reads.

    The averaged weights are taken where the checkpoint has them. The recipe is read from
    config.yaml, which `loopy fit` leaves beside the folder of checkpoints. A recipe is code: it
    may name any class or function that Python can import. Export runs that you trust; of the
    checkpoint itself no code is run.

    Args:
        ckpt: A checkpoint of `loopy fit`, for example runs/toon/vae/checkpoints/last.ckpt.
        out: A model folder; each part has its own folder inside.
        dtype: Precision of the files: float16 to make videos, float32 to train on from there.
    """
    recipe = ckpt.parent.resolve().parent / "config.yaml"
    for place in (ckpt, recipe):
        if not place.exists():
            raise ModelError(f"no file {place}; give a checkpoint inside the folder of its run")
    check_outputs({"model": out / INDEX}, {"checkpoint": ckpt, "recipe": recipe})
    with typed_errors():
        stage = _build(recipe, "model", pl.LightningModule)
        measured = isinstance(stage, AutoencoderStage)
        data = _build(recipe, "data", LoopyDataModule) if measured else None
    weights = checkpoint_weights(ckpt)
    try:
        stage.load_state_dict(weights)
    except Exception as error:  # what others have put there can fail in any way
        raise ModelError(
            f"{ckpt} is no checkpoint of this recipe ({told(error, ckpt)}); give another of its run"
        ) from error
    precision: torch.dtype = getattr(torch, dtype)
    _check_range(stage, precision, ckpt)
    stage.eval()
    if isinstance(stage, AutoencoderStage) and data is not None:
        stage.measure(data.held_out())
    stage.export(out, dtype=precision)  # pyright: ignore[reportCallIssue]


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
    config = "A YAML file with the options below."
    export(**parsed(export, words[1:], verb="export", config=config))


def _build(path: Path, name: str, kind: type[Built]) -> Built:
    """What a recipe has under a name."""
    recipe = read_recipe(path)
    if not recipe.get(name):
        raise ConfigurationError(f"{path} has no {name}; is it a run's recipe?")
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(kind, name)
    try:
        config = parser.parse_object({name: recipe[name]})
    except ArgumentError as error:
        reason = " ".join(str(error).split())
        raise ConfigurationError(f"{path} is no recipe of this loopy: {reason[:300]}") from error
    return parser.instantiate(config)[name]
