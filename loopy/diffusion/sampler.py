"""DDIM over one clip."""

from collections.abc import Callable

from diffusers import DDIMScheduler
from jaxtyping import Float
from torch import Tensor

from loopy.errors import ConfigurationError


def ddim(
    scheduler: DDIMScheduler,
    predict: Callable[[Tensor, Tensor, float], Tensor],
    noise: Float[Tensor, "b f c h w"],
    *,
    steps: int = 25,
) -> Float[Tensor, "b f c h w"]:
    """Turn noise into latents: DDIM (arXiv 2010.02502) eq. 12 with sigma = 0.

    Args:
        scheduler: Noise schedule, prediction type and spacing, as the model was trained.
        predict: (latents, timestep (scalar), share of steps done) -> guided prediction.
        noise: Start, of unit variance; the state stays in float32.
        steps: Number of steps (Loopy: 25).

    Raises:
        ConfigurationError: No step, or more steps than the schedule has.
    """
    longest = scheduler.config["num_train_timesteps"]
    if not 1 <= steps <= longest:
        raise ConfigurationError(f"steps must lie in 1..{longest}, got {steps}")
    scheduler.set_timesteps(steps, device=noise.device)
    latents = noise.float()  # also where the network is in half precision: errors would add up
    for i, timestep in enumerate(scheduler.timesteps):
        prediction = predict(latents, timestep, i / steps)
        latents = scheduler.step(prediction.float(), int(timestep), latents, return_dict=False)[0]
    return latents
