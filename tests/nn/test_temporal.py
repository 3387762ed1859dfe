"""Attention over time at each pixel."""

import pytest
import torch

from loopy.errors import ConfigurationError
from loopy.nn.temporal import TemporalLayer

DIM, FRAMES, SLOTS, SIDE = 16, 3, 4, 2


@pytest.fixture
def newborn():
    return TemporalLayer(DIM, heads=2, groups=4, clip_frames=FRAMES, motion_slots=SLOTS)


@pytest.fixture
def layer(newborn, awaken):
    return awaken(newborn)


@pytest.fixture
def clip():
    return torch.randn(2, FRAMES, DIM, SIDE, SIDE)


@pytest.fixture
def past():
    return torch.randn(2, SLOTS, DIM, SIDE, SIDE)


def view(layer, past, branches=1):
    return layer.project_past(past).expand(branches, 1)


def test_silent_at_birth(newborn, clip, past):
    assert torch.equal(newborn(clip), clip)
    assert torch.equal(newborn(clip, past=view(newborn, past)), clip)


def test_positions_are_sinusoids_at_birth(newborn):
    assert newborn.positions.shape == (SLOTS + FRAMES, DIM)
    torch.testing.assert_close(newborn.positions[:, 0], torch.arange(SLOTS + FRAMES).float().sin())


def test_every_frame_looks_at_every_frame(layer, clip):
    clip.requires_grad_()
    for frame in range(FRAMES):
        (grad,) = torch.autograd.grad(layer(clip)[0, frame].square().sum(), clip)
        assert grad[0].flatten(1).any(1).all()
        assert not grad[1].any()


def test_the_order_of_frames_matters(layer, clip):
    assert not torch.allclose(layer(clip.flip(1)).flip(1), layer(clip))


def test_the_clip_looks_at_its_own_past(layer, clip, past):
    past.requires_grad_()
    y = layer(clip, past=view(layer, past))
    for frame in range(FRAMES):
        (grad,) = torch.autograd.grad(y[0, frame].sum(), past, retain_graph=True)
        assert grad[0].flatten(1).any(1).all()
        assert not grad[1].any()


def test_each_motion_frame_is_normalised_by_itself(layer, past):
    whole = layer.project_past(past)
    louder = past.clone()
    louder[:, 0] *= 100
    assert torch.equal(layer.project_past(louder).key[:, :, 1:], whole.key[:, :, 1:])


def test_no_past_is_that_of_zero_maps_at_every_place(layer, past):
    null = layer.null_past()
    for ours, zeros in zip(null, layer.project_past(torch.zeros_like(past)), strict=True):
        assert ours.shape[0] == 1
        assert torch.equal(ours.expand_as(zeros), zeros)


def test_motion_frames_are_told_from_the_clip(layer, clip, past):
    before = layer(clip, past=view(layer, past))
    alone = layer(clip)
    with torch.no_grad():
        layer.kinds[0] += 1
    assert torch.equal(layer(clip), alone)
    assert not torch.allclose(layer(clip, past=view(layer, past)), before)


def test_places_in_the_picture_do_not_mix(layer, clip, past):
    past.requires_grad_()
    y = layer(clip, past=view(layer, past))
    (grad,) = torch.autograd.grad(y[..., 0, 1].sum(), past)
    # The normalisation joins places; attention does not: K/V of one place serve it alone.
    keys = layer.project_past(past).key.unflatten(0, (2, SIDE, SIDE))
    kv = layer.project_past(past.detach())
    moved = kv.key.unflatten(0, (2, SIDE, SIDE)).clone()
    moved[:, 1, 0] += 1
    changed = layer(clip, past=kv._replace(key=moved.flatten(0, 2)).expand(1, 1))
    same = torch.isclose(changed, y).all(2).all(1).all(0)
    assert same.tolist() == [[True, True], [False, True]]
    assert grad.any()
    assert keys.shape[:3] == (2, SIDE, SIDE)


@pytest.mark.parametrize("branches", [1, 2])
def test_empty_slots_have_no_influence(layer, clip, past, branches):
    """One more branch behind sees no past at all."""
    present = torch.tensor([[False, False, True, True], [False, True, True, True]])
    rows, seen = clip.repeat(branches + 1, 1, 1, 1, 1), present.repeat(branches, 1)
    y = layer(rows, past=view(layer, past, branches), past_present=seen)
    noise = torch.where(present[..., None, None, None], past, 9 * torch.randn_like(past))
    other = layer(rows, past=view(layer, noise, branches), past_present=seen)
    torch.testing.assert_close(other, y)
    full = layer(rows, past=view(layer, past, branches))
    assert not torch.allclose(full[0], y[0])
    torch.testing.assert_close(y[2 * branches :], layer(clip))


def test_a_short_clip_stands_at_the_first_places(layer, clip):
    short = layer(clip[:, :2])
    with torch.no_grad():
        layer.positions[SLOTS + 2 :] = 7
        layer.positions[:SLOTS] = 7
    assert torch.equal(layer(clip[:, :2]), short)


def test_intra_clip_has_no_kinds():
    layer = TemporalLayer(DIM, heads=2, groups=4, clip_frames=FRAMES)
    assert layer.kinds is None
    assert layer.positions.shape == (FRAMES, DIM)


def test_a_second_attention_asks_the_clip_alone(awaken, clip, past):
    """AnimateDiff's module has two; the past reaches the second through the first's answers."""
    shape = {"heads": 2, "groups": 4, "clip_frames": FRAMES, "motion_slots": SLOTS}
    double = awaken(TemporalLayer(DIM, **shape, attentions=2))
    single = TemporalLayer(DIM, **shape)
    single.load_state_dict(
        {k: v for k, v in double.state_dict().items() if not k.startswith("attn2")}
    )
    seen = double(clip, past=view(double, past))
    assert not torch.allclose(seen, single(clip, past=view(single, past)))
    assert not torch.allclose(seen, double(clip, past=view(double, past.flip(1))))
    with torch.no_grad():
        double.attn2.to_out[0].weight.zero_()
        double.attn2.to_out[0].bias.zero_()
    torch.testing.assert_close(
        double(clip, past=view(double, past)), single(clip, past=view(single, past))
    )


def test_three_attentions_are_refused():
    with pytest.raises(ConfigurationError, match="1 or 2, got 3"):
        TemporalLayer(DIM, heads=2, groups=4, clip_frames=FRAMES, attentions=3)
