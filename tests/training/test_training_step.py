"""What a step of the dual network's training computes."""

from dataclasses import fields

import pytest
import torch

from loopy.diffusion.options import DiffusionContract
from loopy.diffusion.settings import Settings
from loopy.training.dropout import ConditionDropout
from loopy.training.stages import ClipStage, ImageStage

# steps are taken without a trainer
pytestmark = pytest.mark.filterwarnings("ignore:You are trying to `self.log")


def watch(network, calls):
    """Writes down what the network is asked and answers."""

    def note(_, given, named, answer):
        calls.append((*given, named["choice"], answer))

    network.register_forward_hook(note, with_kwargs=True)


def added_noise(noisy, latents, timestep, schedule):
    a = schedule.alphas_cumprod[timestep][:, None, None, None, None]
    return (noisy - a.sqrt() * latents) / (1 - a).sqrt()


class TestStep:
    def test_the_loss_is_the_error_of_the_noise(self, make_stage, make_clip, schedule):
        stage, calls, clip = make_stage(), [], make_clip(4)
        watch(stage.network, calls)
        loss = stage.training_step(clip, 7)
        [(noisy, timestep, seen, _, _, prediction)] = calls
        assert seen is clip
        noise = added_noise(noisy, clip.latents, timestep, schedule)
        torch.testing.assert_close(loss, (prediction - noise).square().mean())

    def test_what_differs_from_the_portrait_is_learned_on_request(
        self, make_stage, make_clip, schedule
    ):
        contract = DiffusionContract(residual=0.5)
        stage = make_stage(settings=Settings(size_px=16, clip_frames=3, contract=contract))
        calls, clip = [], make_clip(4)
        watch(stage.network, calls)
        loss = stage.training_step(clip, 7)
        [(noisy, timestep, _, _, _, prediction)] = calls
        clean = (clip.latents - clip.reference[:, None]) / 0.5
        noise = added_noise(noisy, clean, timestep, schedule)
        torch.testing.assert_close(loss, (prediction - noise).square().mean())

    def test_noise_and_timesteps_are_the_papers(self, make_stage, make_clip, schedule):
        stage, calls = make_stage(), []
        watch(stage.network, calls)
        with torch.no_grad():
            for step in range(16):
                stage.training_step(make_clip(8), step)
        clip = make_clip(8)
        timesteps = torch.cat([call[1] for call in calls])
        assert timesteps.float().mean() == pytest.approx(500, abs=90)
        assert timesteps.min() < 60
        assert timesteps.max() > 940
        late = [(c[0], c[1]) for c in calls]
        noise = torch.cat([added_noise(x, clip.latents, t, schedule)[t > 300] for x, t in late])
        assert noise.var() == pytest.approx(1, abs=0.03)
        assert (noise[:, 0] * noise[:, 1]).mean() == pytest.approx(0, abs=0.03)

    def test_a_share_of_the_noise_is_common(self, make_stage, make_clip, schedule):
        contract = DiffusionContract(shared_noise=0.5)
        stage, calls = make_stage(settings=Settings(clip_frames=3, contract=contract)), []
        watch(stage.network, calls)
        clip = make_clip(24)
        with torch.no_grad():
            stage.training_step(clip, 0)
        [(noisy, timestep, *_)] = calls
        noise = added_noise(noisy, clip.latents, timestep, schedule)[timestep > 300]
        assert noise.var() == pytest.approx(1, abs=0.06)
        assert (noise[:, 0] * noise[:, 1]).mean() == pytest.approx(0.5, abs=0.06)

    @pytest.mark.parametrize("kind", [ImageStage, ClipStage])
    def test_draws_depend_on_step_and_sample_not_on_the_rank(self, kind, make_stage, make_clip):
        class SecondRank(kind):
            global_rank = 1

        clip = make_clip(4)
        options = {"targets": 2} if kind is ImageStage else {"motion_noise": 0.5}
        whole = make_stage(kind, **options).training_step(clip, 3)
        first = make_stage(kind, **options).training_step(clip.rows(slice(0, 2)), 3)
        shape = {"clip_frames": None} if kind is ImageStage else None
        second = make_stage(SecondRank, shape=shape, **options)
        second = second.training_step(clip.rows(slice(2, 4)), 3)
        torch.testing.assert_close(whole, (first + second) / 2)
        assert not torch.isclose(first, second)

    @pytest.mark.parametrize("option", [{"motion_noise": 0.5}, {"self_generated_history": 1.0}])
    def test_an_option_leaves_the_other_draws_as_they_are(self, option, make_stage, make_clip):
        clip, seen = make_clip(4), []
        for options in ({}, option):
            stage, calls = make_stage(**options), []
            watch(stage.network, calls)
            with torch.no_grad():
                stage.training_step(clip, 3)
            noisy, timestep, given, presence, choice, _ = calls[-1]
            drawn = [getattr(presence, field.name) for field in fields(presence)]
            seen.append(([noisy, timestep, choice, *drawn], given.motion_frames))
        (plain, past), (other, changed) = seen
        assert all(map(torch.equal, plain, other))
        assert not torch.equal(past, changed)

    def test_every_step_and_seed_draws_anew(self, make_stage, make_clip):
        clip = make_clip()
        losses = [make_stage().training_step(clip, step).item() for step in (0, 0, 1)]
        losses.append(make_stage(seed=1).training_step(clip, 0).item())
        assert losses[0] == losses[1]
        assert len(set(losses)) == 3

    def test_a_dropped_reference_was_never_passed(self, make_stage, make_clip):
        stage, calls, clip = (
            make_stage(drops=ConditionDropout(audio=0, reference=1)),
            [],
            make_clip(),
        )
        watch(stage.network, calls)
        stage.training_step(clip, 0)
        [(noisy, timestep, _, _, choice, prediction)] = calls
        network = stage.network
        tokens = network.audio_projection(clip.audio)
        motion = network.audio_to_latents(
            tokens, landmarks=clip.landmarks, measures=clip.measures, choice=choice
        )
        audio = network.contexts(audio=network.project_audio(tokens))
        never = network.denoiser(noisy, timestep, audio, motion=motion)
        torch.testing.assert_close(prediction, never)

    def test_motion_frames_are_blurred_on_request_only(self, make_stage, make_clip):
        clip, seen = make_clip(16), {}
        for deviation in (0.0, 0.5):
            calls = []
            stage = make_stage(motion_noise=deviation)
            watch(stage.network, calls)
            with torch.no_grad():
                stage.training_step(clip, 0)
            seen[deviation] = (calls[0][2].motion_frames - clip.motion_frames).flatten(1).std(1)
        assert not seen[0.0].any()
        assert seen[0.5].min() > 0
        assert 0.3 < seen[0.5].max() < 0.55

    def test_the_network_draws_its_own_past_in_a_share_of_the_steps(self, make_stage, make_clip):
        clip, seen = make_clip(2), {}
        for share in (0.0, 0.5):
            calls = []
            stage = make_stage(self_generated_history=share)
            watch(stage.network, calls)
            with torch.no_grad():
                for step in range(20):
                    stage.training_step(clip, step)
            true = [torch.equal(call[2].motion_frames, clip.motion_frames) for call in calls]
            seen[share] = true.count(False)
        assert seen[0.0] == 0
        assert 4 <= seen[0.5] <= 16

    def test_weights_keep_their_gradients_behind_an_own_past(self, make_stage, make_clip):
        """Casts that autocast keeps must not be those made without gradient."""
        stage = make_stage(self_generated_history=1.0)
        with torch.autocast("cpu", torch.bfloat16):
            loss = stage.training_step(make_clip(2), 0)
        loss.backward()
        to_query = stage.network.denoiser.mid_block.attentions[0].block.attn1.to_q.weight
        assert to_query.grad.any()
