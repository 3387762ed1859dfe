"""Clip after clip: sampling sees what training showed, and the past is the user's own frames."""

from dataclasses import replace

import pytest
import torch
from diffusers import DDIMScheduler

from loopy.diffusion.options import DiffusionContract, RolloutState, Sampling, SamplingOptions
from loopy.diffusion.rollout import next_clip
from loopy.diffusion.sampler import sample
from loopy.errors import ConfigurationError
from loopy.randomness import generator
from loopy.records import ConditionMask
from loopy.segments import SegmentLayout

LAYOUT = SegmentLayout(2, 2, 2)  # six frames of past in four slots: distances 0 1 3 5
CONTRACT, SAMPLING = DiffusionContract(LAYOUT), Sampling(steps=2)
SIZE = (4, 8, 8)


@pytest.fixture
def scheduler():
    return DDIMScheduler(clip_sample=False, set_alpha_to_one=False, steps_offset=1)


@pytest.fixture(params=[False, True], ids=["plain", "reference_input"])
def network(make_dual, awaken, request):
    return awaken(make_dual(shape={"reference_input": request.param})).eval()


@pytest.fixture
def clip(make_clip):
    return make_clip()


@pytest.fixture
def make(network, scheduler, clip):
    """Make the next clip of a state, or the first."""

    def run(state=None, contract=CONTRACT, sampling=SAMPLING, rows=slice(None)):
        return next_clip(
            network,
            scheduler,
            reference=network.encode_reference(clip.reference[rows]),
            portrait=clip.reference[rows],
            audio=clip.audio[rows],
            state=state or RolloutState.first(clip.reference[rows], seed=3),
            size=SIZE,
            contract=contract,
            sampling=sampling,
        )

    return run


def after(made, clip):
    """A state in which that many frames are made."""
    past = torch.randn(2, made, *SIZE, generator=torch.Generator().manual_seed(made))
    return RolloutState(past, made // 3, seed=3)


@pytest.mark.parametrize("made", [0, 3, 6])
def test_sampling_sees_what_training_showed(make, network, scheduler, clip, made):
    """No past, a partial one and a full one: each guidance branch is a training state."""
    state = after(made, clip)
    slots, present = LAYOUT.select(state.past)
    given = replace(clip, motion_frames=slots, past_present=present)
    everything, nothing = ConditionMask.all(2), ConditionMask.none(2)
    silent = replace(everything, audio=nothing.audio, motion_latents=nothing.audio)

    def predict(x, timestep, progress):
        e_audio, e_ref, e_base = (
            network(x, timestep.expand(2), given, presence)
            for presence in (everything, silent, nothing)
        )
        return 5 * (e_audio - e_ref) + 3 * (e_ref - e_base) + e_base

    with torch.no_grad():
        expected = sample(
            scheduler,
            predict,
            CONTRACT.noise((2, 3, *SIZE), generator(state.seed, "clip", state.clip)),
            steps=2,
        )
    torch.testing.assert_close(make(state)[0], expected, atol=1e-4, rtol=1e-4)


def test_a_first_clip_asks_the_reference_net_for_no_past(make, network, clip, monkeypatch):
    zeros = network.encode_past(torch.zeros_like(clip.motion_frames), torch.zeros(2).bool())
    first, _ = make()
    monkeypatch.setattr(network, "frame_tokens", None)
    assert torch.equal(make()[0], first)
    monkeypatch.setattr(network, "null_past", lambda: zeros)
    assert torch.equal(make()[0], first)


@pytest.mark.parametrize("made", [0, 3])
@pytest.mark.parametrize("keeps", [False, True])
def test_one_after_another_is_the_same(make, clip, made, keeps):
    sampling = replace(SAMPLING, base_keeps_past=keeps)
    stacked, _ = make(after(made, clip), sampling=sampling)
    alone, _ = make(after(made, clip), sampling=replace(sampling, stacked=False))
    torch.testing.assert_close(alone, stacked, atol=1e-4, rtol=1e-4)


def test_keeping_the_past_in_the_base_is_another_choice(make, clip):
    kept, _ = make(after(6, clip), sampling=replace(SAMPLING, base_keeps_past=True))
    assert not torch.allclose(kept, make(after(6, clip))[0], atol=1e-3)


def test_a_residual_is_scaled_and_added_to_the_portrait(make, clip):
    plain, _ = make(after(6, clip))
    contract = replace(CONTRACT, residual=0.5)
    latents, state = make(after(6, clip), contract)
    torch.testing.assert_close(latents, 0.5 * plain + clip.reference[:, None])
    assert torch.equal(state.past[:, -3:], latents)  # the past is of latents, not of residuals
    again = contract.to_residual(latents, clip.reference)
    torch.testing.assert_close(again, plain, atol=1e-5, rtol=1e-4)


def test_a_residual_needs_the_portrait(network, scheduler, clip):
    with pytest.raises(ConfigurationError, match="portrait"):
        next_clip(
            network,
            scheduler,
            reference=network.encode_reference(clip.reference),
            audio=clip.audio,
            state=RolloutState.first(clip.reference),
            size=SIZE,
            contract=replace(CONTRACT, residual=0.5),
            sampling=SAMPLING,
        )


def test_what_was_made_becomes_the_past(make):
    state, clips = None, []
    for number in range(1, 4):
        latents, state = make(state)
        clips.append(latents)
        assert (state.clip, state.seed) == (number, 3)
        assert torch.equal(state.past, torch.cat(clips, 1)[:, -6:])
    assert not torch.allclose(clips[0], clips[1])


def test_a_video_goes_on_from_a_saved_state(make, tmp_path):
    _, state = make()
    torch.save(vars(state), tmp_path / "state.pt")
    again = RolloutState(**torch.load(tmp_path / "state.pt"))
    assert torch.equal(make(again)[0], make(state)[0])


def test_videos_of_a_batch_do_not_mix(make, clip):
    """Same noise for row 0 alone: a video does not depend on who is made beside it."""
    together, _ = make(after(3, clip))
    clip.audio[1] = 0
    clip.reference[1] = 0
    state = after(3, clip)
    state.past[1] = 0
    other, _ = make(state)
    torch.testing.assert_close(other[0], together[0], atol=1e-5, rtol=1e-5)
    assert not torch.allclose(other[1], together[1], atol=1e-3)


def test_each_clip_has_noise_of_its_own(network, scheduler, clip):
    """Common noise too: a past made of the same noise would make its errors grow."""
    seen = {}
    for number, seed in ((0, 7), (0, 7), (1, 7), (0, 8)):
        start = []

        def note(_, given, start=start):
            start.append(given[0][:2])

        handle = network.denoiser.register_forward_pre_hook(note)
        state = RolloutState(torch.zeros(2, 0, *SIZE), clip=number, seed=seed)
        next_clip(
            network,
            scheduler,
            reference=network.encode_reference(clip.reference),
            portrait=clip.reference,
            audio=clip.audio,
            state=state,
            size=SIZE,
            contract=replace(CONTRACT, shared_noise=1.0),
            sampling=SAMPLING,
        )
        handle.remove()
        if (number, seed) in seen:
            assert torch.equal(seen[number, seed], start[0])
        seen[number, seed] = start[0]
    first, second, third = seen.values()
    assert torch.equal(first[:, 0], first[:, 2])
    assert not torch.allclose(first[0], first[1])
    for other in (second, third):
        assert abs((first * other).mean()) < 0.1


def test_a_video_may_begin_with_the_portrait_held_still(clip):
    still = replace(CONTRACT, static_history=True).first_state(clip.reference, seed=3)
    assert still.past.shape[1] == LAYOUT.past_frames
    assert torch.equal(still.past[:, 0], clip.reference)
    assert torch.equal(still.past[:, -1], clip.reference)
    assert (still.clip, still.seed) == (0, 3)
    assert CONTRACT.first_state(clip.reference, seed=3).past.shape[1] == 0


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_frames_share_that_much_of_their_variance(share):
    noise = DiffusionContract(shared_noise=share).noise(
        (1, 12, 4, 32, 32), torch.Generator().manual_seed(0)
    )
    assert abs(noise.std() - 1) < 0.05
    assert abs((noise[0, 0] * noise[0, 5]).mean() - share) < 0.06


@pytest.mark.parametrize(
    "given", [{"steps": 9}, {"audio_ratio": 0.0}, {"reference_ratio": 1.5}, {"stacked": False}, {}]
)
def test_what_a_call_does_not_give_is_the_models_own(given):
    """None of the fields falls back to the paper's values."""
    own = Sampling(4, 1.0, 1.0, 0.1, 0.9, base_keeps_past=True)
    assert own.altered(SamplingOptions(**given)) == replace(own, **given)


@pytest.mark.parametrize("other", [CONTRACT, SAMPLING, {"steps": 3}])
def test_nothing_else_can_be_chosen_in_a_call(other):
    with pytest.raises(ConfigurationError, match=r"options are loopy\.SamplingOptions"):
        SAMPLING.altered(other)


@pytest.mark.parametrize("name", ["audio_ratio", "reference_ratio", "guidance_start"])
@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_what_is_not_finite_is_refused(name, value):
    with pytest.raises(ConfigurationError, match=r"finite|start < stop"):
        SamplingOptions(**{name: value})


def test_impossible_shares_are_refused():
    with pytest.raises(ConfigurationError, match="shared_noise"):
        DiffusionContract(shared_noise=1.5)
    with pytest.raises(ConfigurationError, match="residual"):
        DiffusionContract(residual=0.0)
