"""A frozen model that shows where its own steps lead: what distillation learns from."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from diffusers import DDIMScheduler
from jaxtyping import Float, Int
from torch import Tensor

from loopy.diffusion.options import GUIDANCE
from loopy.errors import ConfigurationError
from loopy.pipeline import LoopyPipeline
from loopy.records import Clip, ConditionMask
from loopy.training.distillation.few_steps import FewSteps


def with_ratios(clip: Clip, ratios: Float[Tensor, "b 2"]) -> Clip:
    """The clip, with the ratios of guidance as a condition of each frame."""
    rows = ratios[:, None].expand(-1, clip.latents.shape[1], -1).to(clip.latents)
    return replace(clip, conditions={**clip.conditions, GUIDANCE: rows})


class Teacher:
    """A model whose sampling is learned, guidance and interval of guidance included.

    No module: it is in no checkpoint, and no optimiser finds it.

    Args:
        folder: Its model folder.
        scheduler: The student's noise schedule.
        steps: DDIM steps of its sampling; None: its own number.

    Raises:
        ModelError: There is no such model.
        ConfigurationError: Another noise schedule, steps that do not divide it, or guidance that
            training does not know (``base_keeps_past``).
    """

    def __init__(self, folder: Path, scheduler: DDIMScheduler, *, steps: int | None = None) -> None:
        pipe = LoopyPipeline.from_pretrained(folder)
        self.network = pipe.network.requires_grad_(False).eval()
        self.settings = pipe.settings
        self.scheduler = pipe.scheduler
        self.steps = FewSteps(scheduler, steps or pipe.settings.sampling.steps)
        ours, its = scheduler.alphas_cumprod, self.scheduler.alphas_cumprod
        if len(ours) != len(its) or not torch.allclose(ours, its.to(ours), atol=1e-6):
            raise ConfigurationError(
                f"the teacher {folder} has another noise schedule; give the student its betas and "
                "rescale_betas_zero_snr"
            )
        if self.settings.sampling.base_keeps_past:
            raise ConfigurationError(
                f"the teacher {folder} guides with base_keeps_past, a state that training does not "
                "have; set it to false in its model_index.json"
            )

    @property
    def ratios(self) -> Float[Tensor, "2"]:
        """Its own ratios of guidance, audio and reference."""
        sampling = self.settings.sampling
        return torch.tensor([sampling.audio_ratio, sampling.reference_ratio])

    @torch.no_grad()
    def walk(
        self,
        noisy: Float[Tensor, "b f c h w"],
        timestep: Int[Tensor, "b"],
        clip: Clip,
        presence: ConditionMask,
        *,
        moves: int,
        ratios: Float[Tensor, "b 2"],
        choice: Int[Tensor, "b"] | None = None,
    ) -> Float[Tensor, "b f c h w"]:
        """Take steps of its sampling.

        Args:
            noisy: States of clips, float32.
            timestep: Where each stands, one of ``steps.timesteps``.
            clip: What it sees.
            presence: Who may see what of it, before guidance hides more.
            moves: How many steps.
            ratios: Of guidance, audio and reference; on the CPU.
            choice: Condition of audio-to-latents for each sample; None = audio.

        Returns:
            The states where it has arrived.
        """
        dtype = clip.latents.dtype
        network = self.network.to(noisy.device, dtype)  # no copy where it is there
        if self.settings.contract.guidance_input:
            clip, ratios = with_ratios(clip, ratios), torch.ones_like(ratios)
        branches = [
            (weight.to(noisy), network.conditioned(clip, mask, choice=choice))
            for weight, mask in _branches(ratios, presence)
        ]
        longest, sampling = len(self.steps.alphas) - 1, self.settings.sampling
        for _ in range(moves):
            progress = (longest - 1 - timestep) / longest
            inside = (sampling.guidance_start <= progress) & (progress < sampling.guidance_stop)
            step = (longest - 1 - timestep) // self.steps.stride
            inside &= step % sampling.guidance_every == 0
            guided = torch.zeros_like(noisy)
            for i, (weight, given) in enumerate(branches):
                share = torch.where(inside, weight, float(i == 0))[:, None, None, None, None]
                guided += share * network.denoise(noisy.to(dtype), timestep, given).float()
            kind = self.scheduler.config["prediction_type"]
            noisy = self.steps.follow(noisy, guided, timestep, prediction_type=kind)
            timestep = timestep - self.steps.stride
        return noisy


def _branches(
    ratios: Float[Tensor, "b 2"], presence: ConditionMask
) -> Iterator[tuple[Float[Tensor, "b"], ConditionMask]]:
    """Each run that guidance needs: its coefficient in each sample, and who sees what (sec. 3.4).

    The same as `Sampling.branches`, with ratios of each sample; the one that sees all is first.
    """
    audio, reference = ratios.unbind(-1)
    nobody = torch.zeros_like(presence.audio)
    silent = replace(presence, audio=nobody, motion_latents=nobody)
    yield audio, presence
    for weight, mask in (
        (reference - audio, silent),
        (1 - reference, replace(silent, reference=nobody)),
    ):
        if weight.any():
            yield weight, mask
