"""Guidance: three branches, each where it is needed."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from loopy.diffusion.guidance import GuidanceTerm, combine
from loopy.diffusion.options import Sampling
from loopy.errors import ConfigurationError

RATIOS = st.floats(-2, 9, allow_nan=False)


def guided(audio, reference):
    return Sampling(audio_ratio=audio, reference_ratio=reference)


def test_the_papers_ratios():
    assert Sampling().branches() == (
        GuidanceTerm(5, audio=True, reference=True),
        GuidanceTerm(-2, audio=False, reference=True),
        GuidanceTerm(-2, audio=False, reference=False),
    )


@given(audio=RATIOS, reference=RATIOS)
def test_it_is_the_formula(audio, reference):
    predictions = {
        (True, True): torch.randn(2, 3, 1, 2, 2, dtype=torch.double),
        (False, True): torch.randn(2, 3, 1, 2, 2, dtype=torch.double),
        (False, False): torch.randn(2, 3, 1, 2, 2, dtype=torch.double),
    }
    e_audio, e_ref, e_base = predictions.values()
    expected = audio * (e_audio - e_ref) + reference * (e_ref - e_base) + e_base
    branches = guided(audio, reference).branches()
    rows = torch.cat([predictions[branch.audio, branch.reference] for branch in branches])
    torch.testing.assert_close(combine(rows, branches), expected)


def test_branches_without_weight_are_not_run():
    def seen(audio, reference):
        return [(b.audio, b.reference) for b in guided(audio, reference).branches()]

    assert seen(3, 3) == [(True, True), (False, False)]
    assert seen(5, 1) == [(True, True), (False, True)]
    assert seen(1, 1) == [(True, True)]
    assert seen(0, 0) == [(False, False)]


def test_guidance_holds_from_start_up_to_stop():
    scales = Sampling(guidance_start=0.2, guidance_stop=0.6)
    counts = {p: len(scales.branches(p)) for p in (0, 0.19, 0.2, 0.59, 0.6, 0.96)}
    assert list(counts.values()) == [1, 1, 3, 3, 1, 1]
    assert scales.branches(0.0) == (GuidanceTerm(1, audio=True, reference=True),)


@pytest.mark.parametrize(("start", "stop"), [(-0.1, 1), (0, 1.1), (0.5, 0.5), (0.6, 0.2)])
def test_an_empty_interval_is_refused(start, stop):
    with pytest.raises(ConfigurationError, match="start < stop"):
        Sampling(guidance_start=start, guidance_stop=stop)
