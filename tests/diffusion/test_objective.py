"""What the network learns to predict."""

import pytest
import torch
from diffusers import DDIMScheduler

from loopy.diffusion.objective import (
    add_noise,
    check_schedule,
    clean_latents,
    diffusion_loss,
    min_snr_weight,
    target,
)
from loopy.errors import ConfigurationError

SCHEDULE = DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
ALPHAS = SCHEDULE.alphas_cumprod
TIMESTEP = torch.tensor([0, 400, 999])


@pytest.fixture
def latents():
    return torch.randn(3, 2, 4, 5, 5)


@pytest.fixture
def noise():
    return torch.randn(3, 2, 4, 5, 5)


def test_noising_is_diffusers(latents, noise):
    expected = SCHEDULE.add_noise(latents, noise, TIMESTEP)
    torch.testing.assert_close(add_noise(latents, noise, TIMESTEP, ALPHAS), expected)


def test_targets(latents, noise):
    assert torch.equal(target(latents, noise, TIMESTEP, ALPHAS), noise)
    velocity = target(latents, noise, TIMESTEP, ALPHAS, prediction_type="v_prediction")
    torch.testing.assert_close(velocity, SCHEDULE.get_velocity(latents, noise, TIMESTEP))
    with pytest.raises(ConfigurationError, match="'sample'"):
        target(latents, noise, TIMESTEP, ALPHAS, prediction_type="sample")


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_a_perfect_prediction_gives_the_clean_latents(kind, latents, noise):
    noisy = add_noise(latents, noise, TIMESTEP, ALPHAS)
    perfect = target(latents, noise, TIMESTEP, ALPHAS, prediction_type=kind)
    found = clean_latents(noisy, perfect, TIMESTEP, ALPHAS, prediction_type=kind)
    torch.testing.assert_close(found, latents, atol=1e-4, rtol=1e-4)
    with pytest.raises(ConfigurationError, match="'sample'"):
        clean_latents(noisy, perfect, TIMESTEP, ALPHAS, prediction_type="sample")


def test_min_snr_is_the_same_loss_on_the_latents():
    """Both weights stand for min(SNR, gamma) on x_0: errors are SNR and SNR + 1 times as large."""
    snr = ALPHAS[TIMESTEP] / (1 - ALPHAS[TIMESTEP])
    for kind, errors in (("epsilon", snr), ("v_prediction", snr + 1)):
        weight = min_snr_weight(TIMESTEP, ALPHAS, gamma=5, prediction_type=kind)
        torch.testing.assert_close(weight * errors, snr.clamp(max=5))


def test_min_snr_at_zero_snr():
    alphas = torch.tensor([0.9, 0.0])
    last = torch.tensor([1])
    with pytest.raises(ConfigurationError, match="0/0"):
        min_snr_weight(last, alphas, gamma=5)
    assert min_snr_weight(last, alphas, gamma=5, prediction_type="v_prediction") == 0


def test_the_plain_loss_is_mse(latents, noise):
    loss = diffusion_loss(latents, noise)
    assert loss.shape == (3,)
    torch.testing.assert_close(loss.mean(), torch.nn.functional.mse_loss(latents, noise))


def test_samples_and_places_are_weighted(latents, noise):
    weights = torch.tensor([0.0, 1.0, 3.0])
    plain = diffusion_loss(latents, noise)
    torch.testing.assert_close(
        diffusion_loss(latents, noise, sample_weight=weights), weights * plain
    )
    place = torch.zeros(3, 2, 1, 5, 5)
    place[..., 2, 3] = 7
    expected = (latents - noise)[..., 2, 3].square().flatten(1).mean(1)
    torch.testing.assert_close(diffusion_loss(latents, noise, place_weight=place), expected)
    even = torch.full((3, 2, 1, 5, 5), 9.0)
    torch.testing.assert_close(diffusion_loss(latents, noise, place_weight=even), plain)


@pytest.mark.parametrize(
    "options",
    [
        {"rescale_betas_zero_snr": True},
        {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction"},
        {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"},
        {"clip_sample": True},
    ],
)
def test_schedules_that_disagree_are_refused(options):
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        check_schedule(DDIMScheduler(**{"clip_sample": False} | options))


@pytest.mark.parametrize("beta", [float("nan"), float("inf"), 0.0, -0.1, 1.5])
@pytest.mark.parametrize("name", ["beta_start", "beta_end", "trained_betas"])
def test_betas_that_make_no_noise_are_refused(name, beta):
    value = [0.1, beta, 0.2] if name == "trained_betas" else beta
    scheduler = DDIMScheduler(clip_sample=False)
    scheduler.register_to_config(**{name: value})
    with pytest.raises(ConfigurationError, match=r"betas .* lie in \(0, 1\]"):
        check_schedule(scheduler)


def test_schedules_that_agree():
    check_schedule(DDIMScheduler(clip_sample=False))
    check_schedule(
        DDIMScheduler(
            clip_sample=False,
            rescale_betas_zero_snr=True,
            prediction_type="v_prediction",
            timestep_spacing="trailing",
        )
    )
