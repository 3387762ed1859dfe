"""LoopyModule: the dual network learns to remove noise (Loopy sec. 3.1, 3.4).

The module holds the frozen networks (`LoopyModule.frozen`) and builds the pipeline of inference
around them (`LoopyModule.pipeline`); data holds clips. What a data module says of its clips are
attributes: what the model must agree on (`LoopyModule.setup`), ``made_by``, ``damaged`` and
``held_out_stretch`` (see `loopy.training.store_clips.StoreClips`).
"""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal, cast

import lightning.pytorch as pl
import torch
from diffusers import DDIMScheduler
from jaxtyping import Float, Int
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor

from loopy.diffusion.objective import (
    add_noise,
    check_schedule,
    clean_latents,
    diffusion_loss,
    min_snr_weight,
    target,
)
from loopy.diffusion.settings import Settings
from loopy.errors import ConfigurationError
from loopy.models import DualUNet
from loopy.models.weights import store_fingerprints
from loopy.pipeline import LoopyPipeline
from loopy.randomness import generator
from loopy.records import Clip, ConditionMask
from loopy.training.dropout import ConditionDropout
from loopy.training.optim import OptimiserName, is_logged, make_optimiser, scheduled
from loopy.training.self_history import own_motion_frames
from loopy.training.sharding import shard
from loopy.training.start import FrozenParts, load_frozen, start_from, start_table
from loopy.training.sync_term import SyncTerm


@dataclass(frozen=True)
class Draws:
    """Generators of a batch, a new one for each purpose and sample, by seed, split and step.

    ``first`` is the number of the rank's first sample among all ranks'; it has ``count``.
    """

    key: tuple[int | str, ...]
    first: int
    count: int

    def of(self, purpose: str) -> list[torch.Generator]:
        """One generator a sample; the same purpose draws the same again."""
        return [generator(*self.key, purpose, self.first + i) for i in range(self.count)]


class LoopyModule(pl.LightningModule):
    """Trains a `DualUNet`; `ImageStage` and `ClipStage` say on what.

    Each draw is a function of (seed, purpose, step, sample): an option that draws more, such as
    ``motion_noise``, leaves timesteps, noise and drops as they are.

    Args:
        network: The networks.
        scheduler: Noise schedule; what is trained is what is sampled.
        settings: What goes into the exported model; its noise share is trained too.
        parts: Folder with the ``vae`` and ``audio_encoder`` that made the clips. Samples and the
            exported model have them; they are not trained, and not in checkpoints.
        drops: How often conditions are hidden.
        learning_rate: Of AdamW (the paper: 1e-5), constant after the warm-up unless ``cosine``.
        warmup_steps: Steps of linear warm-up.
        cosine: Let the rate fall to zero over the run.
        weight_decay: Of AdamW.
        optimizer: See `loopy.training.optim.make_optimiser`.
        gradient_checkpointing: Compute each site of both UNets again in the backward pass instead
            of keeping its activations: the same gradients, a third more computation, far less
            memory.
        min_snr_gamma: min-SNR weighting (arXiv 2303.09556); None = plain MSE, the paper.
        timestep_power: Timesteps are drawn as u ** power; 1 = evenly, the paper; less = noisier.
        motion_noise: Largest deviation of noise added to motion frames, drawn per sample, so that
            small errors of made frames are forgiven; 0 = none, the paper.
        self_generated_history: Share of batches whose motion frames the network draws again (see
            `loopy.training.self_history`); 0 = none, the paper. Needs temporal layers.
        init_from: Model folders to start from, later ones on top of earlier ones tensor by tensor;
            read once, when a run begins (see `loopy.training.start`); `loopy fit` does not read
            them where it continues a checkpoint. None starts from the networks as built.
        sync_weight: Weight of a term for lips in step with the sound (see
            `loopy.training.sync_term`), in training only; 0 = none, the paper. Toon models alone.
        seed: Of everything drawn.
    """

    own_conditions: tuple[str, ...] = ()
    """Conditions of the network that the stage itself fills, not the data."""

    def __init__(
        self,
        network: DualUNet,
        scheduler: DDIMScheduler,
        settings: Settings,
        *,
        parts: Path | None = None,
        drops: ConditionDropout = ConditionDropout(),  # noqa: B008 (frozen)
        learning_rate: float = 1e-5,
        warmup_steps: int = 0,
        cosine: bool = False,
        weight_decay: float = 0.01,
        optimizer: OptimiserName = "adamw",
        gradient_checkpointing: bool = False,
        min_snr_gamma: float | None = None,
        timestep_power: float = 1.0,
        motion_noise: float = 0.0,
        self_generated_history: float = 0.0,
        init_from: list[Path] | Path | None = None,  # list first, or jsonargparse dumps its repr
        sync_weight: float = 0.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_schedule(scheduler)
        self.network = network
        self.scheduler = scheduler
        self.settings = settings
        self.parts = parts
        self.drops = drops
        self.learning_rate = learning_rate
        self.warmup_steps = warmup_steps
        self.cosine = cosine
        self.weight_decay = weight_decay
        self.optimizer: OptimiserName = optimizer
        self.min_snr_gamma = min_snr_gamma
        self.timestep_power = timestep_power
        self.motion_noise = motion_noise
        self.self_generated_history = self_generated_history
        self.init_from = [init_from] if isinstance(init_from, Path) else list(init_from or [])
        self.seed = seed
        self.sync = SyncTerm(sync_weight) if sync_weight else None
        self.latest_losses = torch.zeros(0), torch.zeros(0, dtype=torch.long)
        """Of each sample of the latest training batch: loss and timestep, for callbacks."""
        if gradient_checkpointing:
            network.reference_net.enable_gradient_checkpointing()
            network.denoiser.enable_gradient_checkpointing()
        trained = {id(p) for p in network.trainable_parameters()}
        for parameter in network.parameters():
            parameter.requires_grad_(id(parameter) in trained)

    @cached_property
    def frozen(self) -> FrozenParts:
        """The autoencoder and the audio encoder; no modules of this one."""
        if self.parts is None:
            raise ConfigurationError(
                "the model has no autoencoder and no audio encoder; give the folder of those that "
                "made the clips, model.init_args.parts (once data.init_args.parts)"
            )
        return load_frozen(self.parts)

    def setup(self, stage: str) -> None:
        """Make sure that data and model say the same, and put the first weights in.

        Raises:
            ConfigurationError: They differ, or other networks made the clips.
        """
        data = self.trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
        contract = self.settings.contract
        ours = {
            **{"layout": contract.layout, "static_history": contract.static_history},
            **{"clip_frames": self.settings.clip_frames, "size_px": self.settings.size_px},
            "drops": self.drops,
        }
        if unsaid := [name for name in ours if not hasattr(data, name)]:
            self.print(
                f"loopy: {type(data).__name__} has no {', '.join(unsaid)}, so that nothing makes "
                "sure that they are the model's; give the class these attributes"
            )
        if self.network.audio_projection is not None:
            ours["audio_window"] = self.network.audio_projection.window
        for name, value in ours.items():
            if getattr(data, name, value) != value:
                raise ConfigurationError(
                    f"{name}: the model says {value}, the data {getattr(data, name)}; set both"
                )
        filled = {*getattr(data, "conditions", ()), *self.own_conditions}
        if unknown := self.network.conditions.keys() - filled:
            raise ConfigurationError(
                f"the data have no conditions {sorted(unknown)}, which the network asks for: name "
                "them in an attribute conditions of the data module, and fill Clip.conditions"
            )
        made_by = getattr(data, "made_by", {})
        marks = store_fingerprints(*self.frozen) if made_by or self.parts is not None else {}
        for name, mark in marks.items():
            if made_by.get(name, mark) != mark:
                network = "scaling of latents" if name == "latents" else name
                raise ConfigurationError(
                    f"the clips were made with another {network} than that in {self.parts}; give "
                    "the parts they were made with, or make them again"
                )
        if self.sync is not None:
            self.sync.check(*self.frozen)
        if self.init_from:
            self.print(start_table(start_from(self.network, self.init_from)))
        self.init_from = []  # a second run of this module goes on from where the first one ended

    def configure_model(self) -> None:
        """Spread the networks over the devices, where the strategy is ModelParallelStrategy."""
        if self.device_mesh is None:
            return
        if self.trainer.validate_loop.inference_mode:
            raise ConfigurationError(
                "weights gathered in inference mode cannot be trained; with ModelParallelStrategy "
                "set --trainer.inference_mode=false"
            )
        if self.optimizer == "adamw_8bit":
            raise ConfigurationError(
                "adamw_8bit knows no parts of weights; with ModelParallelStrategy set optimizer to "
                "adamw, whose moments are in parts too"
            )
        half = self.trainer.precision == "bf16-mixed"
        shard(self.network, self.device_mesh, compute=torch.bfloat16 if half else None)

    def select(self, clip: Clip, generators: list[torch.Generator]) -> Clip:
        """What of a batch is trained on; a stage may cut it."""
        return clip

    def on_train_batch_start(self, batch: Clip, batch_idx: int) -> None:
        """Logs how many damaged clips were left out since the start, all ranks'."""
        data = self.trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
        if (count := getattr(data, "damaged", None)) is not None:
            damaged = torch.tensor(float(count), device=self.device)
            self.log("damaged", self._of_all_ranks(damaged, "sum"))

    def training_step(self, batch: Clip, batch_idx: int) -> Tensor:
        """Loss of one batch."""
        first = self.global_rank * len(batch)
        draws = Draws((self.seed, "train", batch_idx), first=first, count=len(batch))
        clip = self.select(batch, draws.of("select"))
        draw = generator(self.seed, "own past", batch_idx)
        if (
            self.self_generated_history
            and torch.rand((), generator=draw) < self.self_generated_history
        ):
            clip = replace(clip, motion_frames=self.own_past(clip, draws.of("own past")))
        if self.motion_noise:
            past = clip.motion_frames
            drawn = [
                torch.rand((), generator=g) * torch.randn(past.shape[1:], generator=g)
                for g in draws.of("motion noise")
            ]
            noise = torch.stack(drawn).to(past)
            clip = replace(clip, motion_frames=past + self.motion_noise * noise)
        presence = self.drops.presence(draws.of("drops"))
        choice = self.drops.choice(draws.of("choice"), ~clip.measures.isnan()).to(self.device)
        losses, timesteps = self.losses(clip, clip, presence, draws, choice)
        self.latest_losses = losses.detach(), timesteps
        loss = losses.mean()
        mean = self._of_all_ranks(loss.detach().clone(), "mean")
        self.log("loss", mean, batch_size=len(batch), prog_bar=True)
        return loss

    def own_past(self, clip: Clip, samples: list[torch.Generator]) -> Float[Tensor, "b m c h w"]:
        """The motion frames of a batch as the network draws them."""
        contract = self.settings.contract
        return own_motion_frames(self.network, self.scheduler, clip, contract, samples)

    def losses(
        self,
        clip: Clip,
        seen: Clip,
        presence: ConditionMask,
        draws: Draws,
        choice: Int[Tensor, "b"] | None = None,
    ) -> tuple[Float[Tensor, "b"], Int[Tensor, "b"]]:
        """Loss of each sample (Loopy sec. 3.1: MSE to the noise), and its timestep.

        ``clip`` is diffused; of the conditions of ``seen`` the network sees those of ``presence``.
        """
        config = self.scheduler.config
        longest = config["num_train_timesteps"]
        alphas = self.scheduler.alphas_cumprod.to(self.device)
        share = torch.stack([torch.rand((), generator=g) for g in draws.of("timestep")])
        steps = (share**self.timestep_power * longest).long()
        timestep = steps.clamp(max=longest - 1).to(self.device)
        contract = self.settings.contract
        shape = clip.latents.shape[1:]
        noise = torch.stack([contract.noise(shape, g) for g in draws.of("noise")])
        noise = noise.to(clip.latents)
        clean = contract.to_residual(clip.latents, clip.reference)
        noisy = add_noise(clean, noise, timestep, alphas)
        prediction = self.network(noisy, timestep, seen, presence, choice=choice)
        kind = config["prediction_type"]
        wanted = target(clean, noise, timestep, alphas, prediction_type=kind)
        gamma, weight = self.min_snr_gamma, None
        if gamma is not None:
            weight = min_snr_weight(timestep, alphas, gamma=gamma, prediction_type=kind)
        losses = diffusion_loss(prediction, wanted, place_weight=clip.weight, sample_weight=weight)
        if self.sync is not None and self.training:
            made = clean_latents(noisy, prediction, timestep, alphas, prediction_type=kind)
            # in noise lips cannot be known
            losses = losses + self.lips(self.sync, made, clip, presence, share=alphas[timestep])
        return losses, timestep

    def lips(
        self,
        sync: SyncTerm,
        made: Float[Tensor, "b f c h w"],
        clip: Clip,
        presence: ConditionMask,
        *,
        share: Float[Tensor, "b"],
    ) -> Float[Tensor, "b"]:
        """The term for lips in step with the sound, of samples that hear it.

        Args:
            sync: The term.
            made: What is diffused (x_0), as it is predicted.
            clip: With portrait and sound.
            presence: Who hears.
            share: How much the term of each sample counts.
        """
        latents = self.settings.contract.from_residual(made, clip.reference)
        return presence.audio.to(share) * share * sync(latents, clip.audio)

    def validation_step(self, batch: Clip, batch_idx: int) -> None:
        """Logs the loss, and how much it grows with mismatched conditions.

        Only what the network sees is exchanged; what is diffused remains the sample's own.
        """
        presence = ConditionMask.all(len(batch), "cpu")
        draws = Draws((self.seed, "validate", batch_idx), first=0, count=len(batch))
        clip = self.select(batch, draws.of("select"))
        right, _ = self.losses(clip, clip, presence, draws)
        mismatched = {"reference": replace(clip, reference=clip.reference.roll(1, 0))}
        if self.network.audio_projection is not None:
            mismatched["audio"] = replace(clip, audio=clip.audio.roll(1, 0))
        if self.network.sees_past:
            past, present = clip.motion_frames.roll(1, 0), clip.past_present.roll(1, 0)
            mismatched["past"] = replace(clip, motion_frames=past, past_present=present)
        scores = {"val/loss": right.mean()}
        for name, seen in mismatched.items():
            losses, _ = self.losses(clip, seen, presence, draws)
            scores[f"val/{name}_sensitivity"] = (losses / right).mean() - 1
        self.log_dict(scores, batch_size=len(batch), prog_bar=True, sync_dist=True)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW over what a loss can reach."""
        optimizer = make_optimiser(
            self.optimizer,
            [p for p in self.parameters() if p.requires_grad],
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
        )
        total = self.trainer.max_steps if self.cosine else None
        return scheduled(optimizer, warmup_steps=self.warmup_steps, total_steps=total)

    def pipeline(self) -> LoopyPipeline:
        """The pipeline of inference around the networks as they are, on their device."""
        vae, audio_encoder = self.frozen
        vae.to(self.device)  # pyright: ignore[reportCallIssue, reportArgumentType]  # diffusers wraps it
        audio_encoder.to(self.device)
        return LoopyPipeline(self.network, audio_encoder, vae, self.scheduler, self.settings)

    def export(self, folder: Path, *, dtype: torch.dtype = torch.float16) -> None:
        """Save the whole model as a folder in the diffusers form.

        Args:
            folder: Where it goes.
            dtype: Of the files; float32 where training goes on from them.
        """
        self.pipeline().save_pretrained(folder, dtype=dtype)

    def _of_all_ranks(self, value: Tensor, how: Literal["mean", "sum"]) -> Tensor:
        """Reduced in steps that are logged; this rank's in others, where nobody waits for any."""
        if self._trainer is None or not is_logged(self.trainer, self.global_step + 1):
            return value
        return cast(Tensor, self.trainer.strategy.reduce(value, reduce_op=how))
