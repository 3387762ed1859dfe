"""Motion frames as the network draws them."""

from types import SimpleNamespace

import pytest
import torch
from diffusers import DDIMScheduler

from loopy.diffusion.objective import add_noise, target
from loopy.diffusion.options import DiffusionContract
from loopy.training.self_history import STRONGEST, own_motion_frames


def dice():
    return [torch.Generator().manual_seed(i) for i in range(2)]


class Oracle:
    """A network that knows the clean frames: it answers the very noise that was added."""

    def __init__(self, scheduler, clean, options):
        self.scheduler, self.parts, self.calls = scheduler, list(clean.split(3, 1)), 0
        self.denoiser = self
        self.config = {"clip_frames": 3}
        # the same draws in the same order
        again = dice()
        for generator in again:
            torch.rand((), generator=generator)
        self.noise = torch.stack([options.noise(clean.shape[1:], g) for g in again]).split(3, 1)

    def encode_reference(self, portrait):
        return SimpleNamespace(portrait=portrait)

    def null_past(self):
        return {}

    def contexts(self, *, reference, past):
        return reference

    def __call__(self, noisy, timestep, contexts, *, portrait):
        assert contexts.portrait is portrait
        assert timestep.max() <= STRONGEST * 1000
        clean, noise = self.parts[self.calls], self.noise[self.calls]
        self.calls += 1
        alphas = self.scheduler.alphas_cumprod
        torch.testing.assert_close(noisy, add_noise(clean, noise, timestep, alphas))
        kind = self.scheduler.config["prediction_type"]
        return target(clean, noise, timestep, alphas, prediction_type=kind)


@pytest.mark.parametrize("residual", [None, 0.5])
@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_one_that_knows_them_gives_the_frames_back(kind, residual, make_clip):
    clip, options = make_clip(2), DiffusionContract(shared_noise=0.5, residual=residual)
    scheduler = DDIMScheduler(prediction_type=kind, clip_sample=False)
    oracle = Oracle(scheduler, options.to_residual(clip.motion_frames, clip.reference), options)
    own = own_motion_frames(oracle, scheduler, clip, options, dice())
    assert oracle.calls == 2  # 4 slots, as clips of 3 frames and of 1
    torch.testing.assert_close(own, clip.motion_frames, atol=1e-3, rtol=1e-3)


def test_the_look_is_the_networks_and_missing_slots_stay_empty(make_dual, awaken, make_clip):
    clip = make_clip(2, past_present=torch.tensor([[False, True, True, True]] * 2))
    network, options = awaken(make_dual()), DiffusionContract()
    scheduler = DDIMScheduler(clip_sample=False)
    own = own_motion_frames(network, scheduler, clip, options, dice())
    assert own.shape == clip.motion_frames.shape
    assert not own[:, 0].any()
    assert (own[:, 1:] - clip.motion_frames[:, 1:]).abs().flatten(1).mean(1).min() > 1e-3
    assert torch.equal(own, own_motion_frames(network, scheduler, clip, options, dice()))


def test_what_is_absent_or_held_still_changes_nothing(make_dual, awaken, make_clip):
    """Absent slots hold zeros in training; whatever they hold, the others are drawn alike."""
    network, options = awaken(make_dual()), DiffusionContract(residual=0.5)
    scheduler = DDIMScheduler(clip_sample=False)
    present = torch.tensor([[False, False, True, True]] * 2)
    clip = make_clip(2, past_present=present)
    own = own_motion_frames(network, scheduler, clip, options, dice())
    other = clip.motion_frames.clone()
    other[:, :2] = 7.0
    changed = make_clip(2, past_present=present, motion_frames=other)
    torch.testing.assert_close(own, own_motion_frames(network, scheduler, changed, options, dice()))
    still = clip.motion_frames.clone()
    still[:, 2] = clip.reference
    held = make_clip(2, past_present=present, motion_frames=still)
    drawn = own_motion_frames(network, scheduler, held, options, dice())
    assert torch.equal(drawn[:, 2], clip.reference)
    assert not torch.allclose(drawn[:, 3], still[:, 3])
