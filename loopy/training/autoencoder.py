"""The picture autoencoder, 128 px to 16 x 16 latents, and the random toon faces it learns from."""

import copy
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import lightning.pytorch as pl
import torch
from diffusers import AutoencoderKL
from jaxtyping import Bool, Float
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from PIL import Image
from torch import Tensor
from torch.nn import functional

from loopy.errors import ConfigurationError
from loopy.models.folder import load_part, save_part
from loopy.models.narrow import NarrowDecoderKL, with_narrow_decoder
from loopy.motion import FACE_PARTS, box_mask
from loopy.pixels import to_pixels
from loopy.randomness import generator
from loopy.synthetic.face import CONTROLS, landmarks, random_identities, render
from loopy.training.datamodule import LoopyDataModule
from loopy.training.optim import scheduled


class FaceBatch(NamedTuple):
    """A batch of pictures.

    Attributes:
        pictures: In [-1, 1].
        points: 68 landmarks in pixels, iBUG order.
        valid: Which of them are in the picture.
    """

    pictures: Float[Tensor, "n 3 H W"]
    points: Float[Tensor, "n 68 2"]
    valid: Bool[Tensor, "n 68"]


_MOUTH = ("open", "wide", "round", "teeth")
_SPREAD = {
    "smile": 0.4, "gaze_x": 0.5, "gaze_y": 0.4, "brow": 0.4,
    "yaw": 0.2, "pitch": 0.13, "roll": 0.1, "shift_x": 0.025, "shift_y": 0.025,
}  # fmt: skip
_LIMIT = {"yaw": 0.45, "pitch": 0.3, "roll": 0.25, "shift_x": 0.06, "shift_y": 0.06}


def random_controls(n: int, generator: torch.Generator) -> Float[Tensor, "n 14"]:
    """Controls of unrelated faces: every mouth shape, every third mouth shut, eyes mostly open."""

    def uniform() -> Tensor:
        return torch.rand(n, generator=generator)

    columns = {name: uniform() for name in _MOUTH}
    columns["open"] = columns["open"] * (uniform() > 1 / 3)
    columns["blink"] = uniform() * (uniform() < 0.2)
    for name, spread in _SPREAD.items():
        limit = _LIMIT.get(name, 1.0)
        columns[name] = (spread * torch.randn(n, generator=generator)).clamp(-limit, limit)
    return torch.stack([columns[name] for name in CONTROLS], 1)


class SyntheticFaces(LoopyDataModule):
    """Pictures of unrelated toon heads, each drawn once.

    Args:
        size_px: Height and width.
        batch_size: Samples in a batch, on each rank.
        validation_batches: Batches of the held-out set.
        **loader: See `LoopyDataModule`.
    """

    def __init__(
        self,
        *,
        size_px: int = 128,
        batch_size: int = 8,
        validation_batches: int = 4,
        **loader: Any,
    ) -> None:
        super().__init__(batch_size=batch_size, validation_batches=validation_batches, **loader)
        self.size_px = size_px

    def make(self, generator: torch.Generator) -> FaceBatch:
        """Draws one batch."""
        identity = random_identities(self.batch_size, generator)
        controls = random_controls(self.batch_size, generator)
        points, valid = landmarks(identity, controls, size_px=self.size_px)
        return FaceBatch(render(identity, controls, size_px=self.size_px), points, valid)


def small_autoencoder(
    *,
    widths: tuple[int, ...] = (16, 32, 64, 96),
    latent_channels: int = 8,
    groups: int = 8,
    size_px: int = 128,
) -> AutoencoderKL:
    """An autoencoder without attention, with one block a stage; each stage but the last halves.

    Args:
        widths: Channels of each stage.
        latent_channels: Channels of a latent.
        groups: Of the group norms.
        size_px: Height and width of the pictures it is made for.
    """
    config: dict[str, Any] = {
        "block_out_channels": widths,
        "down_block_types": ("DownEncoderBlock2D",) * len(widths),
        "up_block_types": ("UpDecoderBlock2D",) * len(widths),
        "layers_per_block": 1,
        "latent_channels": latent_channels,
        "norm_num_groups": groups,
        "sample_size": size_px,
        "mid_block_add_attention": False,
        "use_quant_conv": False,
        "use_post_quant_conv": False,
        "scaling_factor": 1.0,
    }
    return AutoencoderKL(**config)


def narrow_decoder(model: Path, *, widths: tuple[int, ...] = (16, 32, 64)) -> NarrowDecoderKL:
    """The autoencoder of a model with a narrower decoder, to be trained (``trained: decoder``).

    Args:
        model: Model folder, whose encoder and latents stay.
        widths: Channels of the decoder's stages, finest first.
    """
    return with_narrow_decoder(load_part(model, "vae"), widths).train()


class AutoencoderStage(pl.LightningModule):
    """Trains diffusers' `AutoencoderKL`: small errors, small errors at the mouth above all.

    Loss: L1 + 2 MSE, both weighted by 1 + `mouth_weight` in the mouth's box (a third of it at the
    eyes), + 0.5 L1 of the picture's gradient, + `colour_weight` x L1 of its means over 8 x 8
    pixels, + `kl_weight` x mean KL.

    Args:
        network: The autoencoder, built by its config.
        learning_rate: At the peak of a warm cosine over `max_steps`.
        warmup_steps: Steps until the peak.
        mouth_weight: What the mouth's box weighs more.
        kl_weight: Of the KL divergence to a unit Gaussian, averaged over latents.
        colour_weight: Of the error of 8 x 8 means: hues that are off over a whole surface.
        latent_noise: Largest deviation of noise added to the latents, in their own deviations,
            drawn evenly per picture: teaches the decoder to forgive a diffusion model's errors.
        trained: ``all``, or ``decoder``: the latents stay as they are, and what was made of them.
        init_from: Model folder to start from; None starts from the network as built.
        seed: Of the noise on the latents.
    """

    def __init__(
        self,
        network: AutoencoderKL,
        *,
        learning_rate: float = 3e-3,
        warmup_steps: int = 50,
        mouth_weight: float = 5.0,
        kl_weight: float = 1e-3,
        colour_weight: float = 0.0,
        latent_noise: float = 0.0,
        trained: Literal["all", "decoder"] = "all",
        init_from: Path | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.network = network if init_from is None else load_part(init_from, "vae").train()
        self.network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self.network.encoder.requires_grad_(trained == "all")
        self.trained = trained
        self.learning_rate = learning_rate
        self.warmup_steps = warmup_steps
        self.mouth_weight = mouth_weight
        self.kl_weight = kl_weight
        self.colour_weight = colour_weight
        self.latent_noise = latent_noise
        self.seed = seed
        self.scale: dict[str, list[float]] | None = None

    def training_step(self, batch: FaceBatch, batch_idx: int) -> Tensor:
        """Loss of one batch."""
        pictures = batch.pictures.contiguous(memory_format=torch.channels_last)
        posterior = self.network.encode(pictures, return_dict=False)[0]
        mean, log_variance = posterior.mean.float(), posterior.logvar.float()
        drawn = generator(self.seed, "latent noise", batch_idx, self.global_rank)
        noise = torch.randn(mean.shape, generator=drawn).to(mean)
        spread = (log_variance / 2).exp()
        if self.latent_noise:
            share = torch.rand(len(mean), 1, 1, 1, generator=drawn).to(mean)
            own = mean.detach().std((0, 2, 3), keepdim=True)
            spread = (spread.square() + (self.latent_noise * share * own).square()).sqrt()
        latents = mean + spread * noise
        decoded = self._decode(latents)
        error = decoded - pictures
        weight = torch.maximum(_around(batch, "mouth"), _around(batch, "eyes") / 3)
        weight = 1 + self.mouth_weight * weight
        pixels = (weight * (error.abs() + 2 * error.square())).mean()
        edges = sum(error.diff(dim=axis).abs().mean() for axis in (-2, -1))
        kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
        colour = functional.avg_pool2d(error, 8).abs().mean()
        loss = pixels + 0.5 * edges + self.colour_weight * colour + self.kl_weight * kl
        self.log_dict({"loss": loss, "kl": kl}, batch_size=len(pictures))
        return loss

    def validation_step(self, batch: FaceBatch, batch_idx: int) -> None:
        """Logs the round trip's PSNR, of whole pictures and of mouths."""
        error = (self.reconstruct(batch.pictures) - batch.pictures).square()
        at_mouth = error[_around(batch, "mouth").bool().expand_as(error)]
        scores = {"val/psnr": psnr(error), "val/psnr_mouth": psnr(at_mouth)}
        self.log_dict(scores, batch_size=len(error), prog_bar=True, sync_dist=True)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW with a warm cosine over the whole run."""
        return scheduled(
            torch.optim.AdamW(self.network.parameters(), self.learning_rate),
            warmup_steps=self.warmup_steps,
            total_steps=self.trainer.max_steps,
        )

    def reconstruct(self, pictures: Float[Tensor, "n 3 H W"]) -> Float[Tensor, "n 3 H W"]:
        """The round trip without noise, in [-1, 1]."""
        pictures = pictures.contiguous(memory_format=torch.channels_last)
        latents = self.network.encode(pictures, return_dict=False)[0].mean
        return self._decode(latents).clamp(-1, 1)

    @torch.no_grad()
    def sample_sheet(self) -> Image.Image:
        """Truth over round trip for eight held-out faces."""
        batch = next(self.trainer.datamodule.held_out())  # pyright: ignore[reportAttributeAccessIssue]
        truth = batch.pictures[:8].to(self.device)
        rows = torch.stack([truth, self.reconstruct(truth)])
        sheet = rows.permute(0, 3, 1, 4, 2).flatten(0, 1).flatten(1, 2)
        return Image.fromarray(to_pixels(sheet).cpu().numpy())

    @torch.no_grad()
    def measure(self, held_out: Iterable[FaceBatch]) -> None:
        """Takes the mean and deviation of each latent channel of held-out faces, for `export`.

        Where the decoder alone was trained, latents stay what they were, and so does their scale.
        """
        if (kept := self._own_scale()) is not None:
            self.scale = kept
            return
        posteriors = (self.network.encode(batch.pictures)[0] for batch in held_out)
        latents = torch.cat([posterior.mean for posterior in posteriors]).transpose(0, 1).flatten(1)
        mean, deviation = latents.mean(1).tolist(), latents.std(1).tolist()
        self.scale = {"latents_mean": mean, "latents_std": deviation}

    def export(self, folder: Path, *, dtype: torch.dtype = torch.float16) -> None:
        """Saves `folder`/vae in diffusers' form, with the scale of its latents.

        Args:
            folder: A model folder, whole or to be filled.
            dtype: Precision of the file.

        Raises:
            ConfigurationError: The scale was not measured.
        """
        if self.scale is None:
            raise ConfigurationError("the scale of latents is not known; call measure() first")
        described = copy.copy(self.network)  # the same weights, with a configuration of its own
        described.register_to_config(**self.scale, scaling_factor=1.0)
        save_part(described, folder, "vae", dtype=dtype)

    def _own_scale(self) -> dict[str, list[float]] | None:
        """That of the autoencoder which a decoder alone is trained for, where it has one."""
        names = ("latents_mean", "latents_std")
        if self.trained == "all":
            return None
        if self.network.config.get("latents_mean") is None:
            channels = self.network.config["latent_channels"]
            deviation = 1 / self.network.config["scaling_factor"]
            return {names[0]: [0.0] * channels, names[1]: [deviation] * channels}
        return {name: list(self.network.config[name]) for name in names}

    def _decode(self, latents: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 3 H W"]:
        return self.network.decode(latents, return_dict=False)[0].float()  # pyright: ignore[reportArgumentType]  # any Tensor will do


def _around(batch: FaceBatch, part: str) -> Float[Tensor, "n 1 H W"]:
    size_px = batch.pictures.shape[-1]
    return box_mask(batch.points[:, FACE_PARTS[part]], size_px=size_px, margin_px=3)


def psnr(error: Float[Tensor, "..."]) -> Float[Tensor, ""]:
    """Peak signal to noise in dB of squared errors of pictures in [-1, 1]."""
    return 10 * (math.log10(4) - error.mean().log10())
