"""Motion frames as the network draws them: training on what it will meet at inference.

Training shows true motion frames, a video the network's own, whose errors each clip takes up and
makes larger (exposure bias). Here true frames are noised, up to a timestep drawn for each
sample, and the network denoises them from the portrait: pose and mouth stay nearly where they
were, the look becomes the network's, errors included. The clip to be learned stays true, so the
network learns to take movement from the past and the look from the portrait.
"""

import torch
from diffusers import DDIMScheduler
from jaxtyping import Float
from torch import Tensor

from loopy.diffusion.objective import add_noise, clean_latents
from loopy.diffusion.options import DiffusionContract
from loopy.models import DualUNet
from loopy.records import Clip

STRONGEST = 0.85
"""Largest timestep, as a share of all: beyond it, little is left of where the head was."""


@torch.no_grad()
def own_motion_frames(
    network: DualUNet,
    scheduler: DDIMScheduler,
    clip: Clip,
    contract: DiffusionContract,
    samples: list[torch.Generator],
) -> Float[Tensor, "b m c h w"]:
    """Draw the motion frames of a batch again: noised, and denoised in one step.

    The network sees the portrait, hears nothing, and has no past, as in a first clip. Slots that
    do not exist stay zero, and those that show the portrait itself, held still, stay as they are.

    Args:
        network: With temporal layers.
        scheduler: Noise schedule.
        clip: Portraits and true motion frames.
        contract: What is diffused, and how much noise frames share.
        samples: One generator a sample.
    """
    portrait = clip.reference
    present = clip.past_present[..., None, None, None]
    # What is absent must not be seen by what is there: the temporal layers mix all of a part.
    frames = torch.where(present, clip.motion_frames, portrait[:, None])
    still = (frames == portrait[:, None]).flatten(2).all(2)[..., None, None, None]
    longest = scheduler.config["num_train_timesteps"]
    alphas = scheduler.alphas_cumprod.to(frames)
    # The root makes strong ones common: a video's errors are those of many clips.
    share = STRONGEST * torch.stack([torch.rand((), generator=g) for g in samples]).sqrt()
    timestep = (share * longest).long().to(frames.device)
    noise = torch.stack([contract.noise(frames.shape[1:], g) for g in samples]).to(frames)
    noisy = add_noise(contract.to_residual(frames, portrait), noise, timestep, alphas)
    contexts = network.contexts(
        reference=network.encode_reference(portrait),
        past=network.null_past(),
    )
    drawn = [
        clean_latents(
            part,
            network.denoiser(part, timestep, contexts, portrait=portrait),
            timestep,
            alphas,
            prediction_type=scheduler.config["prediction_type"],
        )
        for part in noisy.split(network.denoiser.config["clip_frames"], 1)
    ]
    own = contract.from_residual(torch.cat(drawn, 1), portrait).to(frames)
    return torch.where(still, frames, own) * present
