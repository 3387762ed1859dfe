"""A sampler: noise to latents of one clip, along a schedule of diffusers. DDIM is the default."""

from collections.abc import Callable
from inspect import signature
from typing import Any, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from loopy.errors import ConfigurationError


class Scheduler(Protocol):
    """What a sampler needs of a noise schedule: any scheduler of diffusers with these names.

    Attributes:
        config: At least ``num_train_timesteps`` and ``prediction_type``.
        timesteps: After `set_timesteps`, those to visit, largest first.
        init_noise_sigma: Deviation of the start noise.
        alphas_cumprod: Share of signal left at each timestep.
    """

    config: Any
    timesteps: Any
    init_noise_sigma: Any
    alphas_cumprod: Any

    def set_timesteps(self, *args: Any, **kwargs: Any) -> Any:
        """(steps): choose the timesteps."""

    def scale_model_input(self, *args: Any, **kwargs: Any) -> Any:
        """(state, timestep) -> the state as the network takes it."""

    def step(self, *args: Any, **kwargs: Any) -> Any:
        """(prediction, timestep, state) -> the next state, first of a tuple."""


def schedule_record(scheduler: Scheduler) -> dict[str, Any]:
    """What decides a video of a scheduler; of DDIM, as records have always said it, no class."""
    name = type(scheduler).__name__
    options = {key: value for key, value in scheduler.config.items() if key[0] != "_"}
    return options if name == "DDIMScheduler" else options | {"class": name}


def sample(
    scheduler: Scheduler,
    predict: Callable[[Tensor, Tensor, float], Tensor],
    noise: Float[Tensor, "b f c h w"],
    *,
    steps: int = 25,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "b f c h w"]:
    """Turn noise into latents; with `DDIMScheduler`, DDIM (arXiv 2010.02502) eq. 12, sigma = 0.

    Args:
        scheduler: Noise schedule, prediction type and spacing, as the model was trained.
        predict: (latents, timestep (scalar), share of steps done) -> guided prediction.
        noise: Start, of unit variance; the state stays in float32.
        steps: Number of steps (Loopy: 25).
        generator: Of the noise that a stochastic scheduler adds.

    Raises:
        ConfigurationError: No step, or more steps than the schedule has.
    """
    longest = scheduler.config["num_train_timesteps"]
    if not 1 <= steps <= longest:
        raise ConfigurationError(f"steps must lie in 1..{longest}, got {steps}")
    scheduler.set_timesteps(steps)  # kept on the CPU, where schedulers look their tables up
    given: dict[str, Any] = {"generator": generator, "return_dict": False}
    options = {k: v for k, v in given.items() if k in signature(scheduler.step).parameters}
    timesteps = scheduler.timesteps
    # float32 also where the network is in half precision: errors would add up
    latents = noise.float() * float(scheduler.init_noise_sigma)
    for i, timestep in enumerate(timesteps):
        scaled = scheduler.scale_model_input(latents, timestep)
        prediction = predict(scaled, timestep.to(noise.device), i / len(timesteps))
        latents = scheduler.step(prediction.float(), timestep, latents, **options)[0]
    return latents
