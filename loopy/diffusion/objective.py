"""What the network learns to predict: pure functions of a noise schedule.

Notation: a(t) = ``alphas_cumprod``, the share of signal left at timestep t.
DDPM (arXiv 2006.11239), velocity and progressive distillation (arXiv 2202.00512), DDIM
(arXiv 2010.02502), min-SNR (arXiv 2303.09556), zero terminal SNR (arXiv 2305.08891).
"""

from jaxtyping import Float, Int
from torch import Tensor

from loopy.diffusion.sampler import Scheduler
from loopy.errors import ConfigurationError

ZERO = 1e-6
"""Share of signal that is none: some schedulers do not reach 0 itself."""


def check_schedule(scheduler: Scheduler) -> None:
    """Refuse schedules whose training and sampling cannot agree.

    Zero terminal SNR needs velocity prediction (epsilon is 0/0 at the last step) and trailing
    spacing, arXiv 2305.08891: leading never visits the step it repairs, and of linspace the steps
    of diffusers' DDIM, all of one length, do not end where the next one starts.

    Raises:
        ConfigurationError: Such a mix, betas outside (0, 1], clipping of latents, or a scheduler
            that does not do what its configuration says.
    """
    config = scheduler.config
    if (betas := config.get("trained_betas")) is None:
        betas = [config.get("beta_start", 1), config.get("beta_end", 1)]
    if not all(0 < beta <= 1 for beta in betas):  # a NaN is not either
        raise ConfigurationError(
            f"betas of the noise schedule lie in (0, 1], got {min(betas)} to {max(betas)}; set "
            "beta_start and beta_end"
        )
    if config.get("rescale_betas_zero_snr") and (
        config["prediction_type"] != "v_prediction" or config["timestep_spacing"] != "trailing"
    ):
        raise ConfigurationError(
            "rescale_betas_zero_snr needs prediction_type 'v_prediction' and timestep_spacing "
            f"'trailing', got {config['prediction_type']!r} and {config['timestep_spacing']!r}"
        )
    if config.get("clip_sample"):
        raise ConfigurationError("clip_sample clips latents, which have no range; set it to false")
    alphas = getattr(scheduler, "alphas_cumprod", None)
    if alphas is None or (config.get("rescale_betas_zero_snr") and alphas[-1] > ZERO):
        raise ConfigurationError(
            f"{type(scheduler).__name__} does not have the noise schedule of its configuration "
            "(alphas_cumprod); give DDIMScheduler, or another that has"
        )


def add_noise(
    latents: Float[Tensor, "b f c h w"],
    noise: Float[Tensor, "b f c h w"],
    timestep: Int[Tensor, "b"],
    alphas_cumprod: Float[Tensor, "steps"],
) -> Float[Tensor, "b f c h w"]:
    """x_t = sqrt(a) x_0 + sqrt(1 - a) eps (DDPM eq. 4)."""
    signal, rest = _roots(alphas_cumprod, timestep, latents)
    return signal * latents + rest * noise


def clean_latents(
    noisy: Float[Tensor, "b f c h w"],
    prediction: Float[Tensor, "b f c h w"],
    timestep: Int[Tensor, "b"],
    alphas_cumprod: Float[Tensor, "steps"],
    *,
    prediction_type: str = "epsilon",
) -> Float[Tensor, "b f c h w"]:
    """x_0 of a prediction: (x_t - sqrt(1 - a) eps) / sqrt(a), or sqrt(a) x_t - sqrt(1 - a) v.

    Raises:
        ConfigurationError: Another prediction type.
    """
    signal, rest = _roots(alphas_cumprod, timestep, noisy)
    if prediction_type == "epsilon":
        return (noisy - rest * prediction) / signal
    if prediction_type == "v_prediction":
        return signal * noisy - rest * prediction
    raise _unknown(prediction_type)


def target(
    latents: Float[Tensor, "b f c h w"],
    noise: Float[Tensor, "b f c h w"],
    timestep: Int[Tensor, "b"],
    alphas_cumprod: Float[Tensor, "steps"],
    *,
    prediction_type: str = "epsilon",
) -> Float[Tensor, "b f c h w"]:
    """What the network should answer.

    Args:
        latents: Clean latents (x_0).
        noise: The noise that was added (eps).
        timestep: One a sample.
        alphas_cumprod: a(t).
        prediction_type: ``epsilon`` (Loopy) or ``v_prediction``: sqrt(a) eps - sqrt(1 - a) x_0.

    Raises:
        ConfigurationError: Another prediction type.
    """
    if prediction_type == "epsilon":
        return noise
    if prediction_type == "v_prediction":
        signal, rest = _roots(alphas_cumprod, timestep, latents)
        return signal * noise - rest * latents
    raise _unknown(prediction_type)


def ddim_step(
    noisy: Float[Tensor, "b f c h w"],
    clean: Float[Tensor, "b f c h w"],
    timestep: Int[Tensor, "b"],
    following: Int[Tensor, "b"],
    alphas_cumprod: Float[Tensor, "steps"],
) -> Float[Tensor, "b f c h w"]:
    """The state at an earlier timestep of a prediction: DDIM eq. 12, sigma = 0.

    x_s = sqrt(a_s) x_0 + sqrt((1 - a_s) / (1 - a_t)) (x_t - sqrt(a_t) x_0).

    Args:
        noisy: x_t.
        clean: x_0, as it is predicted there.
        timestep: t of each sample.
        following: s of each sample, less noisy.
        alphas_cumprod: a(t).
    """
    signal, rest = _roots(alphas_cumprod, timestep, noisy)
    next_signal, next_rest = _roots(alphas_cumprod, following, noisy)
    return next_signal * clean + next_rest / rest * (noisy - signal * clean)


def one_step_target(
    noisy: Float[Tensor, "b f c h w"],
    after: Float[Tensor, "b f c h w"],
    timestep: Int[Tensor, "b"],
    following: Int[Tensor, "b"],
    alphas_cumprod: Float[Tensor, "steps"],
) -> Float[Tensor, "b f c h w"]:
    """The x_0 with which one `ddim_step` goes from one state to another.

    (x_s - r x_t) / (sqrt(a_s) - r sqrt(a_t)), r = sqrt((1 - a_s) / (1 - a_t)): progressive
    distillation, algorithm 2. Where t has no signal at all it is (x_s - r x_t) / sqrt(a_s).

    Args:
        noisy: x_t.
        after: x_s, where several steps of a teacher have led.
        timestep: t of each sample.
        following: s of each sample, less noisy.
        alphas_cumprod: a(t).
    """
    signal, rest = _roots(alphas_cumprod, timestep, noisy)
    next_signal, next_rest = _roots(alphas_cumprod, following, noisy)
    ratio = next_rest / rest
    return (after - ratio * noisy) / (next_signal - ratio * signal)


def truncated_snr_weight(
    timestep: Int[Tensor, "b"], alphas_cumprod: Float[Tensor, "steps"]
) -> Float[Tensor, "b"]:
    """max(SNR, 1) for an error of x_0: progressive distillation, sec. 4.

    The larger of the errors of x_0 and of the noise, so that a sample without signal counts.
    """
    a = alphas_cumprod.to(timestep.device)[timestep]
    return (a / (1 - a)).clamp(min=1)


def min_snr_weight(
    timestep: Int[Tensor, "b"],
    alphas_cumprod: Float[Tensor, "steps"],
    *,
    gamma: float,
    prediction_type: str = "epsilon",
) -> Float[Tensor, "b"]:
    """min(SNR, gamma) / SNR for epsilon, min(SNR, gamma) / (SNR + 1) for velocity.

    Raises:
        ConfigurationError: Epsilon where the SNR is 0 (0/0).
    """
    a = alphas_cumprod.to(timestep.device)[timestep]
    snr = a / (1 - a)
    if prediction_type == "v_prediction":
        return snr.clamp(max=gamma) / (snr + 1)
    if (snr == 0).any():
        raise ConfigurationError("min-SNR with epsilon is 0/0 at zero SNR; predict the velocity")
    return snr.clamp(max=gamma) / snr


def diffusion_loss(
    prediction: Float[Tensor, "b f c h w"],
    wanted: Float[Tensor, "b f c h w"],
    *,
    place_weight: Float[Tensor, "b f 1 h w"] | None = None,
    sample_weight: Float[Tensor, "b"] | None = None,
) -> Float[Tensor, "b"]:
    """Mean squared error of each sample; plain without weights (Loopy sec. 3.1).

    Weights are applied per sample, before any mean over the batch. Place weights are divided by
    their mean over the sample, so that they move its loss between places and leave its scale.
    """
    error = (prediction.float() - wanted.float()) ** 2
    if place_weight is not None:
        error = error * (place_weight / place_weight.mean((1, 2, 3, 4), keepdim=True))
    loss = error.flatten(1).mean(1)
    return loss if sample_weight is None else loss * sample_weight


def _roots(alphas_cumprod: Tensor, timestep: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    """sqrt(a) and sqrt(1 - a) of each row: in halves, 1 - a would be 0 at the first timesteps."""
    a = alphas_cumprod.to(like.device).float()[timestep][:, None, None, None, None]
    return a.sqrt().to(like), (1 - a).sqrt().to(like)


def _unknown(prediction_type: str) -> ConfigurationError:
    return ConfigurationError(
        f"prediction_type is 'epsilon' or 'v_prediction', got {prediction_type!r}"
    )
