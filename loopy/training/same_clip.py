"""Overfitting on purpose: one clip, again and again, and how near sampling comes to it.

What does not learn one clip learns nothing. The first thing to run with new data, new weights or
changed code: minutes tell what a long run would tell in days.
"""

from collections.abc import Callable, Mapping
from functools import cached_property, partial
from pathlib import Path

import lightning.pytorch as pl
import torch
from jaxtyping import Float
from torch import Tensor

from loopy.data.media.video import contact_sheet
from loopy.diffusion.rollout import next_clip
from loopy.drafts import draft
from loopy.models.latents import decode_latents
from loopy.pipeline import LoopyPipeline
from loopy.pixels import to_pixels
from loopy.records import Clip
from loopy.training.datamodule import ClipData, DataSignature


class SameClip(ClipData):
    """The first training clip of other data, in every batch, for training and validation.

    Noise, timesteps and drops differ from sample to sample, so the loss that falls is that of all
    noise levels. Sensitivities of the validation are 0: there is no other clip.

    Args:
        data: Where the clip is from.
        batch_size: How often it stands in a batch.
        validation_batches: Batches of the validation: so many times ``batch_size`` noise levels,
            the same every time.
    """

    def __init__(
        self,
        data: ClipData,
        *,
        batch_size: int = 2,
        validation_batches: int = 8,
    ) -> None:
        super().__init__(
            batch_size=batch_size, validation_batches=validation_batches, seed=data.seed
        )
        self.data = data
        self.layout, self.clip_frames, self.drops = data.layout, data.clip_frames, data.drops
        self.static_history, self.audio_window = data.static_history, data.audio_window

    @property
    def size_px(self) -> int:
        """Side of the crop."""
        return self.data.size_px

    @property
    def made_by(self) -> Mapping[str, str]:
        """As of the other data."""
        return self.data.made_by

    def setup(self, stage: str) -> None:
        """Opens the other data."""
        super().setup(stage)
        self.data.setup(stage)

    @cached_property
    def clip(self) -> Clip:
        """The clip, alone."""
        return self.data.batches()("training", 0, 0, 1).rows(slice(1))

    def data_signature(self) -> DataSignature:
        """The clip is that of the other data, of whose run this is none."""
        told = self.data.data_signature()
        all_of_them = next(iter(told))
        return told | {all_of_them: f"the first of {told[all_of_them]}"}

    def batches(self) -> Callable[[str, int, int, int], Clip]:
        """What makes a batch: the clip, so many times."""
        return partial(_repeated, self.clip, self.batch_size)


class Reproduction(pl.Callback):
    """After each validation, samples the clip of `SameClip` and says how near it came.

    Sampling is that of inference: all steps, guidance, the averaged weights, the past of a first
    clip. Logs ``val/psnr_db``, of the decoded frames, beside ``val/portrait_psnr_db``, what frames
    that only repeat the portrait would have; saves truth above what was made in ``samples``.
    """

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Samples before the averaged weights are taken out again."""
        data: SameClip = trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
        device = pl_module.device
        pipeline: LoopyPipeline = pl_module.pipeline()  # pyright: ignore[reportCallIssue]
        clip = data.clip.to(device)
        with torch.no_grad(), trainer.precision_plugin.forward_context():
            truth, made = _pictures(pipeline, clip)
            portrait = decode_latents(pipeline.vae, clip.reference).float()
        near = {"val/psnr_db": made, "val/portrait_psnr_db": portrait.expand_as(truth)}
        figures = {name: _psnr_db(truth, frames) for name, frames in near.items()}
        pl_module.log_dict(figures, prog_bar=True, sync_dist=True)
        if trainer.is_global_zero:
            folder = Path(trainer.default_root_dir) / "samples"
            folder.mkdir(parents=True, exist_ok=True)
            pixels = to_pixels(torch.cat([truth, made]))
            sheet = contact_sheet(pixels.permute(0, 2, 3, 1), columns=len(truth))
            with draft(folder / f"step_{trainer.global_step:06d}.png") as hidden:
                sheet.save(hidden)


def _pictures(
    pipeline: LoopyPipeline, clip: Clip
) -> tuple[Float[Tensor, "f 3 h w"], Float[Tensor, "f 3 h w"]]:
    """The clip, and what is made of its portrait and its sound."""
    settings = pipeline.settings
    latents, _ = next_clip(
        pipeline.network,
        pipeline.scheduler,
        reference=pipeline.network.encode_reference(clip.reference),
        portrait=clip.reference,
        audio=clip.audio,
        state=settings.contract.first_state(clip.reference, seed=0),
        size=(clip.reference.shape[1], clip.reference.shape[2], clip.reference.shape[3]),
        contract=settings.contract,
        sampling=settings.sampling,
    )
    truth, made = (decode_latents(pipeline.vae, each[0]) for each in (clip.latents, latents))
    return truth.float(), made.float()


def _psnr_db(truth: Tensor, frames: Tensor) -> Float[Tensor, ""]:
    """Peak signal to noise of pictures in [-1, 1], whose peak is 2."""
    return -10 * ((truth - frames).square().mean() / 4).log10()


def _repeated(clip: Clip, times: int, purpose: str, number: int, rank: int, ranks: int) -> Clip:
    return Clip.cat([clip] * times)
