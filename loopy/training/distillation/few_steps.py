"""The timesteps of a model of few steps, and what one of its steps does."""

import torch
from diffusers import DDIMScheduler
from jaxtyping import Float, Int
from torch import Tensor

from loopy.diffusion.objective import clean_latents, ddim_step
from loopy.errors import ConfigurationError


class FewSteps:
    """DDIM with trailing spacing (arXiv 2305.08891, sec. 3.3), each sample at a step of its own.

    ::

        T - 1    T - 1 - T/n    ...    T/n - 1    -1
                 each leads to the one behind it   the end

    Attributes:
        timesteps: Those that are visited, the noisiest first.
        stride: From one to the next.
        alphas: a(t), and at -1 what the last step leads to.

    Args:
        scheduler: Noise schedule.
        count: Steps of a clip.

    Raises:
        ConfigurationError: Another spacing, which does not begin in pure noise, or a number that
            does not divide the schedule's timesteps.
    """

    def __init__(self, scheduler: DDIMScheduler, count: int) -> None:
        spacing, longest = (
            scheduler.config[name] for name in ("timestep_spacing", "num_train_timesteps")
        )
        if spacing != "trailing":
            raise ConfigurationError(
                f"few steps begin in pure noise; set timestep_spacing 'trailing', not {spacing!r}"
            )
        if not 1 <= count <= longest or longest % count:
            raise ConfigurationError(
                f"{count} steps do not divide the {longest} timesteps of the schedule; set another "
                "number of steps"
            )
        self.count, self.stride = count, longest // count
        self.timesteps = torch.arange(longest - 1, -1, -self.stride)
        self.alphas = torch.cat([scheduler.alphas_cumprod, scheduler.final_alpha_cumprod[None]])

    def follow(
        self,
        noisy: Float[Tensor, "b f c h w"],
        prediction: Float[Tensor, "b f c h w"],
        timestep: Int[Tensor, "b"],
        *,
        prediction_type: str,
    ) -> Float[Tensor, "b f c h w"]:
        """Where a prediction leads: the state one step further."""
        kind = prediction_type
        clean = clean_latents(noisy, prediction, timestep, self.alphas, prediction_type=kind)
        return ddim_step(noisy, clean, timestep, timestep - self.stride, self.alphas)
