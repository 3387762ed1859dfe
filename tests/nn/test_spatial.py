"""The spatial transformer of a site."""

import pytest
import torch

from loopy.nn.attention import extend_mask
from loopy.nn.spatial import SpatialTransformer

DIM, SIDE = 16, 4


@pytest.fixture
def make(awaken):
    def build(**options):
        defaults = {"heads": 2, "groups": 4, "text_dim": None, "audio_dim": None}
        return awaken(SpatialTransformer(DIM, **defaults | options))

    return build


def reference_of(network, images):
    return network.block.attn1.project(network.tokens(images)[1])


def test_the_tokens_it_hands_out_are_those_it_attends_to(make):
    network, x = make(), torch.randn(2, DIM, SIDE, SIDE)
    _, seen = network(x)
    assert torch.equal(seen, network.tokens(x)[1])


def test_audio_changes_the_map(make):
    network, x = make(audio_dim=6), torch.randn(2, DIM, SIDE, SIDE)
    audio = network.block.audio_attn.project(torch.randn(2, 3, 6))
    silence = network.block.audio_attn.project(torch.zeros(2, 3, 6))
    assert not torch.allclose(network(x, audio=audio)[0], network(x)[0])
    torch.testing.assert_close(network(x, audio=silence)[0], network(x)[0])


def test_locality_starts_and_ends_with_the_paper(make):
    plain, local = make(), make(locality=0.0)
    local.load_state_dict(plain.state_dict(), strict=False)
    with torch.no_grad():
        local.slopes.zero_()
    x, reference = torch.randn(2, 2, DIM, SIDE, SIDE)
    extra = reference_of(plain, reference).expand(1, 1)
    for given in (None, extra):
        expected = plain(x, reference=given)[0]
        torch.testing.assert_close(local(x, reference=given)[0], expected)


def test_steep_locality_sees_its_own_place_only(make):
    network = make(locality=1e4)
    x = torch.randn(1, DIM, SIDE, SIDE)
    tokens, normalised = network.tokens(x)
    attention = network.block.attn1
    mask = network.penalty(SIDE, SIDE)[None, ..., : SIDE * SIDE]
    alone = attention.to_out[0](attention.to_v(normalised))
    torch.testing.assert_close(attention(normalised, mask=mask), alone)
    assert tokens.shape == (1, SIDE * SIDE, DIM)


@pytest.mark.parametrize("locality", [None, 3.0])
def test_a_masked_reference_is_no_reference(make, locality):
    network = make(locality=locality)
    x, reference = torch.randn(2, 2, DIM, SIDE, SIDE)
    extra = reference_of(network, reference).expand(1, 1)
    present = torch.tensor([True, False])[:, None].expand(-1, SIDE * SIDE)
    y, _ = network(x, reference=extra, mask=extend_mask(present, SIDE * SIDE))
    torch.testing.assert_close(y[1:], network(x[1:])[0])
    with_reference = network(x, reference=extra)[0]
    torch.testing.assert_close(y[:1], with_reference[:1])
    assert not torch.allclose(y[1:], with_reference[1:])


def test_slopes_learn(make):
    network = make(locality=1.0)
    network(torch.randn(1, DIM, SIDE, SIDE))[0].square().sum().backward()
    assert (network.slopes.grad != 0).all()
