"""DDIM against its formula."""

import pytest
import torch
from diffusers import DDIMScheduler

from loopy.diffusion.sampler import sample
from loopy.errors import ConfigurationError


@pytest.fixture
def scheduler():
    """SD1.5's."""
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )


def test_it_is_equation_12(scheduler):
    weights, seen = torch.randn(4, 4), []

    def predict(x, timestep, progress):
        seen.append((int(timestep), progress))
        return torch.einsum("bfchw,cd->bfdhw", x, weights).tanh()

    noise = torch.randn(1, 2, 4, 3, 3)
    latents = sample(scheduler, predict, noise, steps=5)
    assert seen == [(801, 0.0), (601, 0.2), (401, 0.4), (201, 0.6), (1, 0.8)]
    x, alphas = noise, scheduler.alphas_cumprod
    for timestep in (801, 601, 401, 201, 1):
        here, there = alphas[timestep], alphas[max(timestep - 200, 0)]
        e = predict(x, torch.tensor(timestep), 0)
        clean = (x - (1 - here).sqrt() * e) / here.sqrt()
        x = there.sqrt() * clean + (1 - there).sqrt() * e
    torch.testing.assert_close(latents, x)


@pytest.mark.parametrize("steps", [1, 25])
def test_the_right_answer_leads_to_the_clean_latents(scheduler, steps):
    clean, noise = torch.randn(2, 1, 2, 4, 3, 3)
    alphas = scheduler.alphas_cumprod

    def predict(x, timestep, progress):
        a = alphas[timestep]
        return (x - a.sqrt() * clean) / (1 - a).sqrt()

    scheduler.set_timesteps(steps)
    a = alphas[scheduler.timesteps[0]]
    start = a.sqrt() * clean + (1 - a).sqrt() * noise
    latents = sample(scheduler, predict, start, steps=steps)
    final = alphas[0]
    expected = final.sqrt() * clean + (1 - final).sqrt() * noise
    torch.testing.assert_close(latents, expected, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("steps", [0, -1, 1001])
def test_impossible_numbers_of_steps_are_refused(scheduler, steps):
    with pytest.raises(ConfigurationError, match=f"got {steps}"):
        sample(scheduler, None, torch.zeros(1, 1, 4, 2, 2), steps=steps)
