"""Attention: its rows, its extra tokens, its masks."""

import pytest
import torch
from torch.nn import MultiheadAttention

from loopy.nn.attention import Attention, KeyValue, extend_mask

DIM, HEADS = 12, 3


@pytest.fixture
def attention():
    return Attention(DIM, heads=HEADS)


def test_it_is_torchs_attention(attention):
    theirs = MultiheadAttention(DIM, HEADS, bias=False, batch_first=True)
    with torch.no_grad():
        maps = attention.to_q, attention.to_k, attention.to_v
        theirs.in_proj_weight.copy_(torch.cat([m.weight for m in maps]))
        theirs.out_proj.weight.copy_(attention.to_out[0].weight)
    query, context = torch.randn(2, 5, DIM), torch.randn(2, 7, DIM)
    expected = theirs(query, context, context)[0] + attention.to_out[0].bias
    torch.testing.assert_close(attention(query, attention.project(context)), expected)
    expected = theirs(query, query, query)[0] + attention.to_out[0].bias
    torch.testing.assert_close(attention(query), expected)


def test_context_of_another_width():
    attention = Attention(DIM, context_dim=5, heads=HEADS)
    answer = attention(torch.randn(2, 4, DIM), attention.project(torch.randn(2, 3, 5)))
    assert answer.shape == (2, 4, DIM)


def test_zero_output_is_silent_at_birth():
    attention = Attention(DIM, heads=HEADS, zero_output=True)
    assert not attention(torch.randn(2, 4, DIM)).any()


def test_extra_tokens_are_appended(attention):
    tokens, more = torch.randn(4, 5, DIM), torch.randn(4, 3, DIM)
    extra = attention.project(more).expand(1, 1)
    both = attention.project(torch.cat([tokens, more], 1))
    torch.testing.assert_close(attention(tokens, extra=extra), attention(tokens, both))


def test_only_the_first_rows_have_extra_tokens(attention):
    tokens, more = torch.randn(6, 5, DIM), torch.randn(2, 3, DIM)  # (3 branches, 2 videos)
    extra = attention.project(more).expand(2, 1)  # for two of the branches
    answer = attention(tokens, extra=extra)
    for branch in range(2):
        rows = slice(2 * branch, 2 * branch + 2)
        expected = attention(tokens[rows], extra=attention.project(more).expand(1, 1))
        torch.testing.assert_close(answer[rows], expected)
    torch.testing.assert_close(answer[4:], attention(tokens[4:]))


@pytest.mark.parametrize("seeing", [1, 2, 3])
def test_masks_reach_the_rows_they_are_for(attention, seeing):
    tokens, more = torch.randn(6, 5, DIM), torch.randn(2, 3, DIM)
    present = torch.tensor([[True, False, True], [False, True, True]])
    mask = extend_mask(present.repeat(seeing, 1), 5)
    answer = attention(tokens, extra=attention.project(more).expand(seeing, 1), mask=mask)
    for row, (branch, video) in enumerate((b, v) for b in range(3) for v in range(2)):
        kept = more[video, present[video]][None]
        extra = attention.project(kept).expand(1, 1) if branch < seeing else None
        expected = attention(tokens[row : row + 1], extra=extra)
        torch.testing.assert_close(answer[row : row + 1], expected)


def test_added_scores_hold_for_rows_without_extra_too(attention):
    tokens, more = torch.randn(4, 5, DIM), torch.randn(2, 3, DIM)
    scores = torch.randn(1, HEADS, 5, 8)
    answer = attention(tokens, extra=attention.project(more).expand(1, 1), mask=scores)
    torch.testing.assert_close(answer[2:], attention(tokens[2:], mask=scores[..., :5]))


@pytest.mark.parametrize("hearing", [0, 1, 2])
def test_rows_behind_the_context_get_the_bias(attention, hearing):
    tokens, context = torch.randn(2, 5, DIM), torch.randn(2, 3, DIM)
    heard = attention.project(context[:hearing])
    answer = attention(tokens, heard)
    torch.testing.assert_close(answer[:hearing], attention(tokens[:hearing], heard))
    torch.testing.assert_close(answer[hearing:], attention.nothing.expand(2 - hearing, 5, -1))
    # which is the answer to zeros, the form that training shows
    silence = attention(tokens, attention.project(torch.zeros(2, 3, DIM)))
    torch.testing.assert_close(silence, attention.nothing.expand(2, 5, -1))


def test_expanded_rows_are_branches_videos_frames():
    rows = torch.arange(2.0)[:, None, None, None].expand(2, HEADS, 5, 4)
    expanded = KeyValue(rows, rows + 10).expand(3, 4)
    assert expanded.key.shape == (3, 2, 4, HEADS, 5, 4)
    assert expanded.key[..., 0, 0, 0].flatten().tolist() == ([0.0] * 4 + [1.0] * 4) * 3
    assert torch.equal(expanded.value, expanded.key + 10)
    assert expanded.folded().key.shape == (3 * 2 * 4, HEADS, 5, 4)
    one = KeyValue(rows[:1], rows[:1]).expand(3, 1, rows=7)
    assert one.key.shape == (3, 7, 1, HEADS, 5, 4)
    assert expanded.key.untyped_storage().data_ptr() == rows.untyped_storage().data_ptr()
