"""Distillation: a model of few steps and one run learns what a teacher's many runs make.

::

    student    t ---------------- one step ----------------> s
    teacher    t --> t - T/N --> ... (each guided) ... --> s     N / n steps

Progressive distillation (arXiv 2202.00512, algorithm 2): the student learns the x_0 with which one
DDIM step of its own arrives where the teacher's do. Guidance is distilled with it (arXiv
2210.03142): the teacher's steps are guided, the student runs once. With ``guidance_input`` of the
contract the ratios are drawn and an input of the student, so that they can still be chosen.
"""

from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from loopy.diffusion.objective import (
    add_noise,
    clean_latents,
    diffusion_loss,
    one_step_target,
    truncated_snr_weight,
)
from loopy.diffusion.options import GUIDANCE
from loopy.errors import ConfigurationError
from loopy.records import Clip, ConditionMask
from loopy.training.distillation.few_steps import FewSteps
from loopy.training.distillation.teacher import Teacher, with_ratios
from loopy.training.module import Draws
from loopy.training.self_history import own_motion_frames
from loopy.training.stages import ClipStage


class DistillationStage(ClipStage):
    """A student learns the sampling of a teacher in ``settings.sampling.steps`` steps.

    It begins with the teacher's weights and has its autoencoder and audio encoder, unless
    ``init_from`` and ``parts`` name others. It sees its own timesteps alone, and with
    ``self_generated_history`` motion frames that it drew in its own steps; a student of one step
    has no timestep between, and gets the teacher's. ``sync_weight`` judges the lips of its x_0,
    the more the nearer to the end its step leads. ``min_snr_gamma`` and ``timestep_power`` have no
    meaning here.

    Args:
        teacher: Model folder of the teacher, which is not trained and not in checkpoints.
        teacher_steps: DDIM steps of the teacher, a multiple of the student's; None: its own. As
            many as the student's: guidance alone is distilled.
        audio_ratios: Least and largest audio ratio of guidance, drawn evenly for each sample;
            where ``guidance_input`` is not set, the teacher's own ratios are learned.
        reference_ratios: Likewise of the reference.
        *options: See `LoopyModule`.
        **more: See `ClipStage`.

    Raises:
        ConfigurationError: Steps that are no part of the teacher's, a spacing that does not begin
            in noise, ratios of guidance that the student would not be run with, or another
            contract than the teacher's.
    """

    own_conditions = (GUIDANCE,)

    def __init__(
        self,
        *options: Any,
        teacher: Path,
        teacher_steps: int | None = None,
        audio_ratios: tuple[float, float] = (1.0, 8.0),
        reference_ratios: tuple[float, float] = (1.0, 5.0),
        **more: Any,
    ) -> None:
        super().__init__(*options, **more)
        self.teacher_folder, self.teacher_steps = teacher, teacher_steps
        self.ratio_ranges = torch.tensor([audio_ratios, reference_ratios])
        self.init_from = self.init_from or [teacher]
        self.parts = self.parts or teacher
        self.steps = FewSteps(self.scheduler, self.settings.sampling.steps)
        sampling, contract = self.settings.sampling, self.settings.contract
        ratios = (sampling.audio_ratio, sampling.reference_ratio)
        if not contract.guidance_input and ratios != (1, 1):
            raise ConfigurationError(
                "a student has learned its guidance and is run without: set audio_ratio and "
                "reference_ratio of settings.sampling to 1, or guidance_input of its contract"
            )
        self.settings.check(self.network)

    @cached_property
    def teacher(self) -> Teacher:
        """Of whom the student learns.

        Raises:
            ModelError: There is no such model.
            ConfigurationError: It does not fit the student.
        """
        teacher = Teacher(self.teacher_folder, self.scheduler, steps=self.teacher_steps)
        if teacher.steps.count % self.steps.count:
            raise ConfigurationError(
                f"{teacher.steps.count} steps of the teacher are no multiple of the student's "
                f"{self.steps.count}; set teacher_steps"
            )
        ours, its = self.settings, teacher.settings
        its_contract = replace(its.contract, guidance_input=ours.contract.guidance_input)
        if its.contract.guidance_input and not ours.contract.guidance_input:
            raise ConfigurationError(
                "the teacher takes ratios of guidance as an input; set guidance_input of the "
                "student's contract too"
            )
        for name, (mine, wanted) in {
            "contract": (ours.contract, its_contract),
            "clip_frames": (ours.clip_frames, its.clip_frames),
            "size_px": (ours.size_px, its.size_px),
        }.items():
            if mine != wanted:
                raise ConfigurationError(
                    f"{name}: the student says {mine}, the teacher {wanted}; make them equal"
                )
        return teacher

    def setup(self, stage: str) -> None:
        """See `ClipStage.setup`; reads the teacher too."""
        _ = self.teacher
        super().setup(stage)

    def own_past(self, clip: Clip, samples: list[torch.Generator]) -> Float[Tensor, "b m c h w"]:
        """The motion frames of a batch as the student draws them, in its own steps."""
        contract = self.settings.contract
        network, scheduler, steps = self.network, self.scheduler, self.steps
        if steps.count == 1:
            network, scheduler, steps = (
                self.teacher.network,
                self.teacher.scheduler,
                self.teacher.steps,
            )
            network.to(clip.latents.device, clip.latents.dtype)
        return own_motion_frames(network, scheduler, clip, contract, samples, steps=steps)

    def losses(
        self,
        clip: Clip,
        seen: Clip,
        presence: ConditionMask,
        draws: Draws,
        choice: Int[Tensor, "b"] | None = None,
    ) -> tuple[Float[Tensor, "b"], Int[Tensor, "b"]]:
        """Loss of each sample (arXiv 2202.00512, sec. 4: truncated SNR), and its timestep.

        The teacher sees ``clip``, the student ``seen``, both the conditions of ``presence``.
        """
        contract, steps = self.settings.contract, self.steps
        drawn = [torch.randint(steps.count, (), generator=g) for g in draws.of("timestep")]
        timestep = steps.timesteps[torch.stack(drawn)].to(clip.latents.device)
        following = timestep - steps.stride
        shape = clip.latents.shape[1:]
        noise = torch.stack([contract.noise(shape, g) for g in draws.of("noise")])
        clean = contract.to_residual(clip.latents, clip.reference).float()
        noisy = add_noise(clean, noise.to(clean), timestep, steps.alphas)
        ratios = self.ratios(draws)
        after = self.teacher.walk(
            noisy,
            timestep,
            clip,
            presence,
            moves=self.teacher.steps.count // steps.count,
            ratios=ratios,
            choice=choice,
        )
        wanted = one_step_target(noisy, after, timestep, following, steps.alphas)
        if contract.guidance_input:
            seen = with_ratios(seen, ratios)
        prediction = self.network(
            noisy.to(clip.latents), timestep, seen, presence, choice=choice
        ).float()
        kind = self.scheduler.config["prediction_type"]
        made = clean_latents(noisy, prediction, timestep, steps.alphas, prediction_type=kind)
        weight = truncated_snr_weight(timestep, steps.alphas)
        losses = diffusion_loss(made, wanted, place_weight=clip.weight, sample_weight=weight)
        if self.sync is not None and self.training:
            share = steps.alphas.to(made)[following]
            losses = losses + self.lips(self.sync, made, clip, presence, share=share)
        return losses, timestep

    def ratios(self, draws: Draws) -> Float[Tensor, "b 2"]:
        """Audio and reference ratio of guidance of each sample."""
        if not self.settings.contract.guidance_input:
            return self.teacher.ratios.expand(draws.count, 2)
        least, most = self.ratio_ranges.unbind(-1)
        share = torch.stack([torch.rand(2, generator=g) for g in draws.of("ratios")])
        return least + share * (most - least)
