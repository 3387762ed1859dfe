"""The sync judge as a loss: its gradient reaches the denoiser, and steps along it help."""

from copy import deepcopy
from types import SimpleNamespace

import pytest
import torch

from loopy.errors import ConfigurationError
from loopy.evaluation.toon.talks import held_out_talk
from loopy.models.latents import encode_images
from loopy.motion import expression_variance, head_motion_variance
from loopy.pipeline import LoopyPipeline
from loopy.records import Clip, ConditionMask
from loopy.timing import AudioWindow
from loopy.training.module import Draws
from loopy.training.stages import ClipStage, ImageStage
from loopy.training.start import FrozenParts
from loopy.training.sync_term import SyncTerm

FIRST, FRAMES = 40, 12


@pytest.fixture(scope="module")
def toon():
    return LoopyPipeline.from_pretrained("toon")


@pytest.fixture(scope="module")
def clip(toon):
    """Twelve frames of a talk, two rows: with their own sound, and with a later one."""
    talk = held_out_talk(5, 0, seconds=4)
    latents = encode_images(toon.vae, talk.frames(range(FIRST, FIRST + FRAMES)))
    heard = toon.audio_encoder.features(talk.audio)
    own, later = (
        heard[AudioWindow().indices(range(start, start + FRAMES), len(heard))]
        for start in (FIRST, FIRST + 9)
    )
    motion = talk.motion[FIRST : FIRST + FRAMES]
    slots = toon.network.denoiser.config["motion_slots"]
    return Clip(
        latents=latents[None].repeat(2, 1, 1, 1, 1),
        reference=latents[:1].repeat(2, 1, 1, 1),
        motion_frames=latents[:1, None].repeat(2, slots, 1, 1, 1),
        past_present=torch.ones(2, slots, dtype=torch.bool),
        audio=torch.stack([own, later]),
        landmarks=motion.normalised()[None].repeat(2, 1, 1),
        measures=torch.stack([head_motion_variance(motion), expression_variance(motion)])
        .expand(2, 2)
        .clone(),
    )


def test_lips_of_another_moment_cost_more(clip):
    own, later = SyncTerm(1.0)(clip.latents, clip.audio)
    assert own < 0.5
    assert later > own + 0.3


def test_the_weight_is_a_factor(clip):
    once = SyncTerm(1.0)(clip.latents, clip.audio)
    torch.testing.assert_close(SyncTerm(3.0)(clip.latents, clip.audio), 3 * once)


def test_other_models_are_refused(clip):
    with pytest.raises(ConfigurationError, match="leave sync_weight at 0"):
        SyncTerm(1.0)(clip.latents[:, :, :4], clip.audio)
    with pytest.raises(ConfigurationError, match="4 frames"):
        SyncTerm(1.0)(clip.latents[:, :4], clip.audio[:, :4])


def test_models_of_the_same_shape_are_refused_too(toon):
    """Latents of another autoencoder have the right shape and mean nothing to the judge."""
    term, vae, ears = SyncTerm(1.0), toon.vae, toon.audio_encoder
    term.check(vae, ears)
    term.check(deepcopy(vae).double(), ears)
    other = deepcopy(vae)
    with torch.no_grad():
        next(other.parameters()).mul_(1.5)
    with pytest.raises(ConfigurationError, match="another vae; leave sync_weight at 0"):
        term.check(other, ears)
    deaf = deepcopy(ears)
    with torch.no_grad():
        next(deaf.parameters()).mul_(1.5)
    stage = ClipStage(toon.network, toon.scheduler, toon.settings, sync_weight=1.0)
    stage.frozen = FrozenParts(vae, deaf)
    stage._trainer = SimpleNamespace(datamodule=None, is_global_zero=False)
    with pytest.raises(ConfigurationError, match="another audio_encoder"):
        stage.setup("fit")


def test_a_training_goes_on_with_the_term_switched(toon):
    plain = ClipStage(toon.network, toon.scheduler, toon.settings)
    term = ClipStage(toon.network, toon.scheduler, toon.settings, sync_weight=1.0)
    assert term.state_dict().keys() == plain.state_dict().keys()
    term.load_state_dict(plain.state_dict())
    plain.load_state_dict(term.state_dict())


def test_steps_of_the_denoiser_lower_it_and_plain_training_has_none(toon, clip):
    stage = ClipStage(toon.network.float(), toon.scheduler, toon.settings, sync_weight=1.0)
    plain = ClipStage(toon.network, toon.scheduler, toon.settings)
    denoiser = [p for p in stage.network.denoiser.parameters() if p.requires_grad]
    before = [p.detach().clone() for p in denoiser]
    dubbed = _row(clip, 1)

    def losses(which, presence=None):
        draws = Draws((3,), first=0, count=1)
        return which.losses(dubbed, dubbed, presence or ConditionMask.all(1), draws)[0]

    term = losses(stage) - losses(plain)
    assert term > 0
    gradients = torch.autograd.grad(term.sum(), denoiser, allow_unused=True)
    assert sum(g is not None and bool(g.any()) for g in gradients) > 0.9 * len(denoiser)
    size = sum(g.square().sum() for g in gradients if g is not None)
    with torch.no_grad():
        for parameter, gradient in zip(denoiser, gradients, strict=True):
            if gradient is not None:
                parameter -= 0.1 * term.item() / size * gradient
        after = losses(stage) - losses(plain)
        for parameter, value in zip(denoiser, before, strict=True):
            parameter.copy_(value)
        assert after < 0.98 * term
        unheard = ConditionMask(*(torch.tensor([i > 0]) for i in range(4)))
        torch.testing.assert_close(losses(stage, unheard), losses(plain, unheard))
        stage.eval()
        torch.testing.assert_close(losses(stage), losses(plain))


def test_the_image_stage_has_no_frames_in_a_row(make_dual, toon):
    with pytest.raises(ConfigurationError, match="frames in a row"):
        ImageStage(
            make_dual(shape={"clip_frames": None}), toon.scheduler, toon.settings, sync_weight=1.0
        )


def _row(clip, row):
    return clip.rows(slice(row, row + 1))
