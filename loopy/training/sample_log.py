"""Samples of a run in its loggers: sheets everywhere, videos with sound where that is possible."""

from pathlib import Path

import lightning.pytorch as pl
import torch
from jaxtyping import UInt8
from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger
from PIL import Image
from torch import Tensor


class SampleLog(pl.Callback):
    """Gives what other callbacks have put into the folder ``samples`` to the loggers.

    TensorBoard takes sheets (PNG); it knows no video with sound, which stays a file in the run's
    folder. Weights & Biases takes sheets and videos (mp4).
    """

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Looks for files of this step, whose names begin with ``step_<step>``."""
        if trainer.state.fn != "fit" or trainer.sanity_checking or not trainer.is_global_zero:
            return
        step = trainer.global_step
        start = f"step_{step:06d}"
        for path in sorted((Path(trainer.default_root_dir) / "samples").glob(f"{start}*")):
            name = f"samples/{path.stem.removeprefix(start).removeprefix('_') or 'held_out'}"
            for logger in trainer.loggers:
                if isinstance(logger, TensorBoardLogger) and path.suffix == ".png":
                    logger.experiment.add_image(name, _pixels(path), step, dataformats="HWC")
                elif isinstance(logger, WandbLogger):
                    log = logger.log_image if path.suffix == ".png" else logger.log_video
                    log(name, [str(path)], step)


def _pixels(sheet: Path) -> UInt8[Tensor, "H W 3"]:
    with Image.open(sheet, formats=["PNG"]) as opened:
        picture = opened.convert("RGB")
    pixels = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8)
    return pixels.view(picture.height, picture.width, 3)
