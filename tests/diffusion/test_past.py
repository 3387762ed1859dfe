"""A motion frame passes the reference net once in its life, and the video stays what it was."""

from dataclasses import replace

import pytest
import torch
from diffusers import DDIMScheduler

from loopy.diffusion.options import DiffusionContract, RolloutState, Sampling
from loopy.diffusion.past import PastCache
from loopy.diffusion.rollout import next_clip
from loopy.segments import SegmentLayout

LAYOUT = SegmentLayout(2, 2, 2)  # six frames of past in four slots: distances 0 1 3 5
SIZE = (4, 8, 8)


def close(ours, theirs):
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


@pytest.fixture
def network(make_dual, awaken):
    return awaken(make_dual()).eval()


@pytest.fixture
def seen(network, monkeypatch):
    """What the reference net is given for the past, call by call."""
    calls, given = [], network.frame_tokens

    def frame_tokens(frames):
        calls.append(frames)
        return given(frames)

    monkeypatch.setattr(network, "frame_tokens", frame_tokens)
    return calls


@pytest.fixture
def make(network, make_clip):
    """Make clips in a row, with one cache or one a clip; the state behind them comes last."""
    clip = make_clip()
    scheduler = DDIMScheduler(clip_sample=False, set_alpha_to_one=False, steps_offset=1)

    def run(clips, *, cache=None, state=None, layout=LAYOUT, static_history=False):
        contract = DiffusionContract(layout, static_history=static_history)
        state, made = state or contract.first_state(clip.reference, seed=3), []
        for _ in range(clips):
            latents, state = next_clip(
                network,
                scheduler,
                reference=network.encode_reference(clip.reference),
                portrait=clip.reference,
                audio=clip.audio,
                state=state,
                size=SIZE,
                contract=contract,
                sampling=Sampling(steps=1),
                cache=cache,
            )
            made.append(latents)
        return torch.cat(made, 1), state

    return run


@pytest.mark.parametrize("static_history", [False, True])
@pytest.mark.parametrize("mode", ["far", "middle", "near", "mean", "random"])
def test_what_is_kept_changes_nothing(make, mode, static_history):
    """To rounding: how many frames the reference net is given at once differs."""
    given = {"layout": replace(LAYOUT, mode=mode), "static_history": static_history}
    close(make(5, cache=PastCache(), **given)[0], make(5, **given)[0])


def test_the_tokens_of_a_frame_are_its_own(network, make_clip):
    """No other frame and no slot has a part in them: to the bit where as many run at once."""
    frames = make_clip().motion_frames
    others = frames.clone()
    others[:, 1:] = torch.randn_like(others[:, 1:])
    turned = network.frame_tokens(frames.roll(1, 1))
    for site, tokens in network.frame_tokens(frames).items():
        assert torch.equal(network.frame_tokens(others)[site][:, 0], tokens[:, 0])
        close(turned[site], tokens.roll(1, 1))


def test_keys_are_those_of_the_whole_past_at_once(network, make_clip):
    frames = make_clip().motion_frames
    apart = network.project_tokens(network.frame_tokens(frames))
    together = network.encode_past(frames)
    assert apart.keys() == together.keys()
    for site, keys in together.items():
        assert all(map(torch.equal, apart[site], keys))


@pytest.mark.parametrize("static_history", [False, True])
def test_each_frame_is_seen_once(make, seen, static_history):
    """Neither is one that does not exist, nor the portrait once for each slot that shows it."""
    video, _ = make(6, cache=PastCache(), static_history=static_history)
    frames = torch.cat(seen, 1)
    assert len(frames.unique(dim=1)[0]) == frames.shape[1]
    # Distances 0, 1 and 5 are new: of clip 1 those there are, of the last one's past both.
    assert [each.shape[1] for each in seen] == [1, 2, 3, 3, 3, 3][not static_history :]
    assert torch.equal(seen[-1], video[:, [9, 13, 14]])


def test_what_nobody_reads_again_is_dropped(make):
    cache, sizes, state = PastCache(), [], None
    for _ in range(5):
        _, state = make(1, cache=cache, state=state)
        sizes.append(cache.frames)
    assert sizes == [0, 1, 1, 1, 1]  # the newest frame, which is three back in the next clip


def test_of_drawn_slots_nothing_is_kept(make):
    cache = PastCache()
    make(4, cache=cache, layout=replace(LAYOUT, mode="random"))
    assert cache.frames == 0


def test_a_cache_of_another_video_is_of_no_use_and_does_no_harm(make, seen):
    cache = PastCache()
    make(3, cache=cache)
    other = RolloutState(torch.randn(2, 6, *SIZE), clip=2, seed=3)
    seen.clear()
    close(make(1, cache=cache, state=other)[0], make(1, state=other)[0])
    assert seen[0].shape[1] == 4


def test_a_saved_state_goes_on_with_an_empty_cache(make, tmp_path):
    cache = PastCache()
    _, state = make(3, cache=cache)
    torch.save(vars(state), tmp_path / "state.pt")
    again = RolloutState(**torch.load(tmp_path / "state.pt"))
    close(make(2, cache=PastCache(), state=again)[0], make(2, cache=cache, state=state)[0])
