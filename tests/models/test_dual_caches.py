"""What does not depend on the timestep is projected once, and changes nothing."""

import pytest
import torch

from loopy.records import BranchLayout, ConditionMask

TIMES = torch.tensor([20, 981])


def close(ours, theirs):
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def differs(ours, theirs):
    return (ours - theirs).abs().max() > 1e-3


@pytest.fixture
def seeing(make_dual, awaken):
    """Networks whose added branches speak; the past carries gradients."""
    return awaken(make_dual(motion_gradient=True))


def contexts(network, clip, *, live=None):
    tokens = network.audio_projection(clip.audio)
    return network.contexts(
        reference=network.encode_reference(clip.reference),
        past=network.encode_past(clip.motion_frames, live),
        audio=network.project_audio(tokens),
    )


class TestCaches:
    def test_step_by_step_is_the_training_call(self, seeing, make_clip):
        clip = make_clip()
        tokens = seeing.audio_projection(clip.audio)
        motion = seeing.audio_to_latents(tokens)
        given = contexts(seeing, clip)  # once, for all timesteps
        for timestep in (TIMES, TIMES - 10):
            cached = seeing.denoiser(clip.latents, timestep, given, motion=motion)
            close(cached, seeing(clip.latents, timestep, clip, ConditionMask.all(2)))
            fresh = seeing.denoiser(clip.latents, timestep, contexts(seeing, clip), motion=motion)
            assert torch.equal(cached, fresh)

    @pytest.mark.parametrize("partial", [False, True])
    def test_stacked_branches_are_each_run_alone(self, seeing, make_clip, partial):
        clip, given = make_clip(), None
        given = contexts(seeing, clip)
        present = torch.tensor([[False, True, True, True], [False, False, False, True]])
        motion = torch.randn(3, 2, 3, 64)
        reference_present = torch.tensor([True, False])

        def masks(branches):
            return {
                "branches": branches,
                "past_present": present.repeat(branches.seeing_past, 1) if partial else None,
                "reference_present": reference_present.repeat(branches.reference)
                if partial
                else None,
            }

        stacked = seeing.denoiser(
            clip.latents.repeat(3, 1, 1, 1, 1),
            TIMES.repeat(3),
            given,
            motion=motion.flatten(0, 1),
            **masks(BranchLayout(3, 2, 1)),
        ).unflatten(0, (3, 2))
        for branch, counts in enumerate([(1, 1, 1), (1, 1, 0), (1, 0, 0)]):
            alone = seeing.denoiser(
                clip.latents, TIMES, given, motion=motion[branch], **masks(BranchLayout(*counts))
            )
            close(stacked[branch], alone)
        assert differs(stacked[0], stacked[1])
        assert differs(stacked[1], stacked[2])

    def test_a_branch_may_keep_the_past_alone(self, seeing, make_clip):
        clip = make_clip()
        given = contexts(seeing, clip)
        stacked = seeing.denoiser(
            clip.latents.repeat(2, 1, 1, 1, 1),
            TIMES.repeat(2),
            given,
            branches=BranchLayout(2, reference=1, audio=1, past=2),
        )
        past = {
            name: context._replace(reference=None, audio=None) for name, context in given.items()
        }
        close(stacked[2:], seeing.denoiser(clip.latents, TIMES, past))

    def test_two_hearing_branches(self, seeing, make_clip):
        clip = make_clip()
        given = contexts(seeing, clip)
        stacked = seeing.denoiser(
            clip.latents.repeat(2, 1, 1, 1, 1),
            TIMES.repeat(2),
            given,
            branches=BranchLayout(2, 2, 2),
        )
        close(stacked[:2], stacked[2:])

    def test_penalties_of_places_are_those_of_each_call(self, make_dual, awaken, make_clip):
        """To the bit, of branches with a reference and without; each site has its own."""
        network, clip = awaken(make_dual(shape={"locality": 1.0})).eval(), make_clip()
        reference = network.encode_reference(clip.reference)
        penalties = network.penalties(*clip.latents.shape[-2:])
        assert set(penalties) == set(reference)
        for keys in (reference, {}):
            given, fresh = (
                network.denoiser(
                    clip.latents, TIMES, network.contexts(reference=keys, penalties=each)
                )
                for each in (penalties, {})
            )
            assert torch.equal(given, fresh)
            steep = {site: 2 * penalty for site, penalty in penalties.items()}
            other = network.contexts(reference=keys, penalties=steep)
            assert differs(network.denoiser(clip.latents, TIMES, other), given)

    def test_without_locality_there_are_no_penalties(self, seeing):
        assert seeing.penalties(8, 8) == {}

    def test_the_past_knows_neither_time_nor_clip(self, seeing, make_clip):
        """K/V of the past are of the motion frames alone: one video at a time or all at once."""
        clip = make_clip()
        together = seeing.encode_past(clip.motion_frames)
        assert set(together) == {name for name, _, _ in seeing.denoiser.sites()}
        for video in range(2):
            alone = seeing.encode_past(clip.motion_frames[video : video + 1])
            for name, kv in together.items():
                rows = kv.key.unflatten(0, (2, -1))
                close(rows[video], alone[name].key)
        # A frame's keys do not follow its neighbours in the past either.
        changed = clip.motion_frames.clone()
        changed[:, 0] = 0
        for name, kv in seeing.encode_past(changed).items():
            close(kv.value[:, :, 1:], together[name].value[:, :, 1:])
