"""Guidance: three branches, each where it is needed."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from loopy.diffusion.guidance import GuidanceTerm, combine
from loopy.diffusion.options import SHARES, Sampling, SamplingOptions
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


def test_every_second_step_is_guided():
    sampling = Sampling(steps=6, guidance_every=2)
    counts = [len(sampling.branches(step / 6)) for step in range(6)]
    assert counts == [3, 1, 3, 1, 3, 1]
    assert sampling.runs == 12


@given(steps=st.integers(1, 1000), every=st.integers(1, 7))
def test_steps_are_told_by_the_share_that_is_done(steps, every):
    sampling = Sampling(steps=steps, guidance_every=every)
    guided_steps = [s for s in range(steps) if len(sampling.branches(s / steps)) == 3]
    assert guided_steps == list(range(0, steps, every))


def test_presets_are_shares_of_the_models_own_work():
    paper = Sampling()
    runs = {p: paper.altered(SamplingOptions(preset=p)).runs for p in SHARES}
    assert runs == {"quality": 75, "balanced": 24, "fast": 12}
    quick = Sampling(steps=1, audio_ratio=1, reference_ratio=1)
    assert quick.altered(SamplingOptions(preset="fast")).runs == 1


def test_what_is_given_beside_a_preset_counts():
    given = Sampling().altered(SamplingOptions(preset="fast", steps=9, audio_ratio=1.0))
    assert given == Sampling(steps=9, audio_ratio=1.0, guidance_every=2)


@pytest.mark.parametrize("wrong", [{"preset": "best"}, {"guidance_every": 0}])
def test_what_makes_no_sense_is_refused(wrong):
    with pytest.raises(ConfigurationError):
        SamplingOptions(**wrong)
