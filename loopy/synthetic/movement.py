"""How a head moves while it speaks or listens: partly with the voice, partly by itself."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from loopy.randomness import uniform
from loopy.synthetic.visemes import Phoneme, blurred, gaussian
from loopy.timing import FPS

POSE_LIMITS = {"yaw": 0.45, "pitch": 0.3, "roll": 0.25, "shift_x": 0.06, "shift_y": 0.06}


def random_movement(
    energy: Float[Tensor, " f"], phonemes: tuple[Phoneme, ...], generator: torch.Generator
) -> dict[str, Float[Tensor, " f"]]:
    """All controls of the face but the four of the mouth's visemes.

    Blinks come 2 to 6 s apart and eyes jump from place to place, whatever is said. The head
    drifts by itself, livelier while speaking; it nods with the energy of the voice, and some
    stressed vowels bring a nod, a raised brow, or both.

    Args:
        energy: Loudness of the own voice per frame, 0 to 1.
        phonemes: What is said, for its stresses.
        generator: Draws everything.
    """
    frames = len(energy)
    time_s = (torch.arange(frames) + 0.5) / float(FPS)
    lively = 0.4 + 0.6 * (3 * smooth(energy, 0.5)).clamp(max=1)
    spans = {"yaw": 0.15, "pitch": 0.06, "roll": 0.06, "shift_x": 0.018, "shift_y": 0.012}
    moves = {}
    for name, span in spans.items():
        rest, size = 0.7 * span * _normal(generator), span * uniform(0.4, 1.2, generator)
        drift = 0.8 * _drift(frames, 1.0, generator) + 0.35 * _drift(frames, 0.3, generator)
        moves[name] = rest + size * lively * drift
    nods, raises = _beats(time_s, phonemes, generator)
    sway = smooth(energy, 0.12) - smooth(energy, 0.8)
    moves["pitch"] += uniform(0.02, 0.12, generator) * sway + nods
    moves["roll"] += uniform(-0.06, 0.06, generator) * sway
    moves = {name: limit * torch.tanh(moves[name] / limit) for name, limit in POSE_LIMITS.items()}
    gaze_x, gaze_y = _saccades(time_s, generator)
    brow = 0.15 * _normal(generator) + 0.15 * _drift(frames, 0.8, generator) + raises
    smile = uniform(-0.1, 0.45, generator) + 0.12 * _drift(frames, 1.2, generator)
    return moves | {
        "smile": smile.clamp(-1, 1),
        "blink": _blinks(time_s, generator),
        "gaze_x": (gaze_x - 0.8 * moves["yaw"]).clamp(-1, 1),
        "gaze_y": (gaze_y - 0.8 * moves["pitch"]).clamp(-1, 1),
        "brow": brow.clamp(-1, 1),
    }


def smooth(values: Float[Tensor, " f"], width_s: float) -> Float[Tensor, " f"]:
    """Blur in time by a Gaussian of standard deviation `width_s`."""
    return blurred(values[:, None], width_s * float(FPS))[:, 0]


def _drift(frames: int, width_s: float, generator: torch.Generator) -> Float[Tensor, " f"]:
    """Smooth noise of mean 0 and variance 1."""
    kernel = gaussian(width_s * float(FPS))
    noise = torch.randn(1, 1, frames + len(kernel) - 1, generator=generator)
    return functional.conv1d(noise, (kernel / kernel.norm())[None, None])[0, 0]


def _blinks(time_s: Float[Tensor, " f"], generator: torch.Generator) -> Float[Tensor, " f"]:
    """Lids shut for one frame at least, half shut for 0.15 s."""
    blink = torch.zeros_like(time_s)
    moment = uniform(0.3, 4, generator)
    while moment < time_s[-1]:
        blink = torch.maximum(blink, ((0.13 - (time_s - moment).abs()) / 0.11).clamp(0, 1))
        moment += uniform(2, 6, generator)
    return blink


def _saccades(
    time_s: Float[Tensor, " f"], generator: torch.Generator
) -> tuple[Float[Tensor, " f"], Float[Tensor, " f"]]:
    """Places looked at: mostly the viewer, now and then elsewhere, 0.4 to 2.5 s each."""
    gaze = torch.zeros(2, len(time_s))
    moment = 0.0
    while moment < time_s[-1]:
        away = 0.5 if uniform(0, 1, generator) < 0.3 else 0.12
        place = torch.randn(2, generator=generator) * torch.tensor([away, 0.6 * away])
        gaze[:, time_s >= moment] = place[:, None].clamp(-0.9, 0.9)
        moment += uniform(0.4, 2.5, generator)
    return gaze[0], gaze[1]


def _beats(
    time_s: Float[Tensor, " f"], phonemes: tuple[Phoneme, ...], generator: torch.Generator
) -> tuple[Float[Tensor, " f"], Float[Tensor, " f"]]:
    """Nods (radians, down) and brow raises at some of the stressed vowels."""
    nods, raises = torch.zeros_like(time_s), torch.zeros_like(time_s)
    eager = uniform(0.1, 0.5, generator)
    for phoneme in phonemes:
        if phoneme.stress == 2:
            nod, brow = torch.rand(2, generator=generator).tolist()
            since = time_s - phoneme.start_s
            if nod < eager:
                nods += uniform(0.02, 0.07, generator) * _bump(since, 0.06, 0.11)
            if brow < 0.6 * eager:
                raises += uniform(0.3, 0.9, generator) * _bump(since, 0.05, 0.16)
    return nods, raises


def _bump(time_s: Float[Tensor, " f"], peak_s: float, width_s: float) -> Float[Tensor, " f"]:
    return torch.exp(-0.5 * ((time_s - peak_s) / width_s) ** 2)


def _normal(generator: torch.Generator) -> float:
    return float(torch.randn((), generator=generator))
