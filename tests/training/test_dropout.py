"""How often a training sample sees what: Loopy sec. 3.4."""

import pytest
import torch

from loopy.errors import ConfigurationError
from loopy.models import CONDITIONS
from loopy.randomness import generator
from loopy.training.dropout import ConditionDropout

SAMPLES = 8_000
TOLERANCE = 0.02
"""Above three and a half standard deviations of any rate over the samples."""

AUDIO, LANDMARKS, HEAD, EXPRESSION = range(4)


def dice(samples=SAMPLES, purpose="drops"):
    return [generator(purpose, i) for i in range(samples)]


def share(flags):
    return pytest.approx(float(flags.float().mean()), abs=TOLERANCE)


@pytest.fixture(scope="module")
def presence():
    return ConditionDropout().presence(dice())


def test_each_condition_is_hidden_as_often_as_the_paper_says(presence):
    assert share(~presence.audio) == 0.10
    assert share(~presence.reference) == 0.15
    assert share(~presence.past) == 0.40


def test_the_joint_states_of_reference_and_past(presence):
    assert share(presence.reference & presence.past) == 0.51
    assert share(presence.reference & ~presence.past) == 0.34
    assert share(~presence.reference) == 0.15


def test_sound_is_hidden_apart_from_the_reference(presence):
    assert share(presence.audio & presence.reference) == 0.90 * 0.85
    assert share(presence.audio & presence.past) == 0.90 * 0.60


def test_motion_latents_hide_with_the_sound(presence):
    assert torch.equal(presence.motion_latents, presence.audio)


def test_motion_latents_hide_apart_on_request(presence):
    apart = ConditionDropout(motion_latents=0.3).presence(dice())
    assert torch.equal(apart.audio, presence.audio)
    assert share(~apart.motion_latents) == 0.30
    assert share(~apart.motion_latents & ~apart.audio) == 0.03


@pytest.mark.parametrize(("rate", "seen"), [(0.0, True), (1.0, False)])
def test_never_and_always_mean_it(rate, seen):
    rates = ConditionDropout(audio=rate, reference=rate, past=rate)
    presence = rates.presence(dice(500))
    for flags in (presence.audio, presence.motion_latents, presence.reference, presence.past):
        assert bool((flags == seen).all())


def test_the_four_conditions_are_equally_likely():
    known = torch.ones(4_000, 2, dtype=torch.bool)
    drawn = ConditionDropout().choice(dice(4_000), known)
    for condition in range(len(CONDITIONS)):
        assert float((drawn == condition).float().mean()) == pytest.approx(0.25, abs=0.025)


def test_odds_are_followed():
    known = torch.ones(4_000, 2, dtype=torch.bool)
    drawn = ConditionDropout(conditions=(3, 0, 1, 0)).choice(dice(4_000), known)
    assert set(drawn.tolist()) == {AUDIO, HEAD}
    assert float((drawn == AUDIO).float().mean()) == pytest.approx(0.75, abs=0.025)


@pytest.mark.parametrize(
    ("known", "never"),
    [((False, True), {HEAD}), ((True, False), {EXPRESSION}), ((False, False), {HEAD, EXPRESSION})],
)
def test_what_is_not_known_is_not_drawn(known, never):
    flags = torch.tensor(known).repeat(600, 1)
    drawn = ConditionDropout().choice(dice(600), flags)
    assert set(drawn.tolist()) == set(range(4)) - never


def histories(samples=3_000, **rates):
    drops = ConditionDropout(**rates)
    return torch.tensor([drops.history(g, longest=124, clip_frames=12) for g in dice(samples)])


def test_most_samples_have_the_whole_past():
    assert float((histories() == 124).float().mean()) == pytest.approx(0.6, abs=0.03)


def test_the_others_have_whole_clips_and_none_is_one_of_them():
    drawn = histories(full_history=0.0)
    assert set(drawn.tolist()) == set(range(0, 124, 12))
    shares = drawn.div(12).long().bincount() / len(drawn)
    assert shares.sub(1 / 11).abs().max() < 0.02


def test_draws_are_functions_of_the_generator_alone():
    def draws(generators):
        drops = ConditionDropout()
        presence = drops.presence(generators)
        choice = drops.choice(generators, torch.ones(len(generators), 2, dtype=torch.bool))
        history = [drops.history(g, longest=124, clip_frames=12) for g in generators]
        flags = torch.stack([presence.audio, presence.reference, presence.past], 1)
        return torch.cat([flags, choice[:, None], torch.tensor(history)[:, None]], 1)

    whole = draws(dice(64))
    torch.manual_seed(1)
    halves = [draws(dice(64)[:20]), draws(dice(64)[20:])]
    assert torch.equal(whole, torch.cat(halves))
    assert not torch.equal(whole, draws(dice(64, purpose="other")))


@pytest.mark.parametrize(
    ("rates", "said"),
    [
        ({"audio": -0.1}, "audio is a rate"),
        ({"motion_latents": 1.5}, "motion_latents is a rate"),
        ({"reference": 2}, "reference is a rate"),
        ({"past": float("nan")}, "past is a rate"),
        ({"full_history": 60}, "full_history is a rate"),
        ({"conditions": (1, 1, 1)}, "four odds"),
        ({"conditions": (1, 1, -1, 1)}, "four odds"),
        ({"conditions": (0, 0, 0, 0)}, "positive"),
        ({"conditions": (0, 0, 1, 1)}, "positive"),  # both may be unknown
    ],
)
def test_impossible_rates_are_refused(rates, said):
    with pytest.raises(ConfigurationError, match=said):
        ConditionDropout(**rates)
