"""Motion frames as the network draws them: training on what it will meet at inference.

Training shows true motion frames, a video the network's own, whose errors each clip takes up and
makes larger (exposure bias). Here true frames are noised, up to a timestep drawn for each
sample, and the network denoises them from the portrait: pose and mouth stay nearly where they
were, the look becomes the network's, errors included. The clip to be learned stays true, so the
network learns to take movement from the past and the look from the portrait.

A model of few steps knows its own timesteps alone (`FewSteps`): frames are noised up to one of
them, and walk down the rest as in a video.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from loopy.diffusion.objective import add_noise, clean_latents
from loopy.diffusion.options import DiffusionContract
from loopy.diffusion.sampler import Scheduler
from loopy.errors import ConfigurationError
from loopy.models import DualUNet
from loopy.records import Clip
from loopy.training.distillation.few_steps import FewSteps

STRONGEST = 0.85
"""Largest timestep, as a share of all: beyond it, little is left of where the head was."""


@torch.no_grad()
def own_motion_frames(
    network: DualUNet,
    scheduler: Scheduler,
    clip: Clip,
    contract: DiffusionContract,
    samples: list[torch.Generator],
    *,
    steps: FewSteps | None = None,
) -> Float[Tensor, "b m c h w"]:
    """Draw the motion frames of a batch again: noised, and denoised.

    The network sees the portrait, hears nothing, and has no past, as in a first clip. Slots that
    do not exist stay zero, and those that show the portrait itself, held still, stay as they are.

    Args:
        network: With temporal layers.
        scheduler: Noise schedule.
        clip: Portraits and true motion frames.
        contract: What is diffused, and how much noise frames share.
        samples: One generator a sample.
        steps: Those of a model of few steps, which are walked; None: from any timestep in one.

    Raises:
        ConfigurationError: ``steps`` that begin all too strong.
    """
    portrait = clip.reference
    present = clip.past_present[..., None, None, None]
    # What is absent must not be seen by what is there: the temporal layers mix all of a part.
    frames = torch.where(present, clip.motion_frames, portrait[:, None])
    still = (frames == portrait[:, None]).flatten(2).all(2)[..., None, None, None]
    kind, longest = (scheduler.config[n] for n in ("prediction_type", "num_train_timesteps"))
    # The root makes strong ones common: a video's errors are those of many clips.
    share = torch.stack([torch.rand((), generator=g) for g in samples]).sqrt()
    noise = torch.stack([contract.noise(frames.shape[1:], g) for g in samples]).to(frames)
    clean = contract.to_residual(frames, portrait)
    contexts = network.contexts(
        reference=network.encode_reference(portrait),
        past=network.null_past(),
    )

    def predict(noisy: Tensor, timestep: Tensor) -> Tensor:
        return network.denoiser(noisy, timestep, contexts, portrait=portrait)

    def jump(part: Tensor, noise: Tensor) -> Tensor:
        timestep = (STRONGEST * share * longest).long().to(part.device)
        alphas = scheduler.alphas_cumprod.to(part)
        noisy = add_noise(part, noise, timestep, alphas)
        answer = predict(noisy, timestep)
        return clean_latents(noisy, answer, timestep, alphas, prediction_type=kind)

    def walk(part: Tensor, noise: Tensor, steps: FewSteps) -> Tensor:
        visited = steps.timesteps[steps.timesteps <= STRONGEST * longest]
        if not len(visited):
            raise ConfigurationError(
                f"{steps.count} steps have no timestep that leaves something of motion frames; set "
                "self_generated_history to 0"
            )
        begin = visited[((1 - share) * len(visited)).long()].to(part.device)
        clean, state = part.float(), part.float()
        for timestep in visited.to(part.device):
            rows = timestep.expand(len(part))
            state = _where(begin == rows, add_noise(clean, noise, rows, steps.alphas), state)
            answer = predict(state.to(part), rows).float()
            further = steps.follow(state, answer, rows, prediction_type=kind)
            state = _where(begin >= rows, further, state)
        return state

    length = network.denoiser.config["clip_frames"]
    parts = zip(clean.split(length, 1), noise.split(length, 1), strict=True)
    drawn = [jump(part, each) if steps is None else walk(part, each, steps) for part, each in parts]
    own = contract.from_residual(torch.cat(drawn, 1), portrait).to(frames)
    return torch.where(still, frames, own) * present


def _where(rows: Bool[Tensor, "b"], yes: Tensor, no: Tensor) -> Tensor:
    return torch.where(rows[:, None, None, None, None], yes, no)
