import json
import math
from dataclasses import replace

import pytest
import torch

from loopy.evaluation.table.statistics import Figure
from loopy.evaluation.toon.columns import Evidence
from loopy.evaluation.toon.filming import Take, with_another
from loopy.evaluation.toon.measure import Reading
from loopy.evaluation.toon.report import Report, sheet, worst_first
from loopy.evaluation.toon.talks import Scene, held_out_talk
from loopy.evaluation.toon.thresholds import ENDLESS_ROWS, ROWS, SOURCES, Bar, Verdict, judge
from loopy.models.tracker import OUTPUTS
from loopy.randomness import generator
from loopy.synthetic.face import CONTROLS

READ = [CONTROLS.index(name) for name in OUTPUTS]
MOUTH, BROW, SHIFT = (OUTPUTS.index(name) for name in ("open", "brow", "shift_x"))
NAMES = [row.name for row in ROWS]
CLIP = 12


def a_reading(controls, **changes):
    """What perfect eyes see in a perfect video."""
    frames = len(controls)
    fields = {
        "tracks": controls[:, READ].clone(),
        "whose": torch.eye(4)[:1].expand(frames, 4),
        "colours": torch.full((frames, 64, 3), 0.5),
        "flicker": torch.zeros(frames - 1),
        "unrest": torch.ones(frames - 1),
        "shown": torch.zeros(8, 4, 4, 3, dtype=torch.uint8),
    }
    return Reading(**fields | changes)


def a_take(group, kind, number, seconds):
    scene = Scene(group, number, kind, seconds, 5)
    controls = held_out_talk(5, number, seconds=seconds, kind=kind).controls
    truth = a_reading(controls)
    still = a_reading(controls, tracks=truth.tracks[:1].expand_as(truth.tracks))
    films = {"made": truth, "truth": truth, "vae": truth, "still": still}
    if group == "long":
        films["no_past"] = at_borders(truth)
    portrait = torch.zeros(4, 4, 3, dtype=torch.uint8)
    return Take(scene, controls, torch.eye(4), portrait, films)


def at_borders(reading, size=0.05):
    """The head is somewhere else in each clip."""
    tracks = reading.tracks.clone()
    clips = torch.arange(len(tracks)) // CLIP
    tracks[:, SHIFT] += size * torch.randn(int(clips.max()) + 1, generator=generator(1))[clips]
    return replace(reading, tracks=tracks)


@pytest.fixture(scope="module")
def perfect():
    """A model that makes the truth."""
    groups = {
        "speech": [a_take("speech", "mixed", number, 8.0) for number in range(4)],
        "long": [a_take("long", "speech", 100 + number, 12.0) for number in range(2)],
        "silence": [a_take("silence", "silence", 200, 8.0)],
        "noise": [a_take("noise", "noise", 300, 8.0)],
    }
    used = {name: 0.1 + 0.01 * torch.arange(8.0) for name in ("past", "keys", "latents")}
    return Evidence(with_another(groups), CLIP, used)


def made(evidence, change, *groups):
    """The same evidence of a model whose readings are changed in some sets."""
    takes = {
        name: [
            replace(take, readings=take.readings | {"made": change(take.readings["made"])})
            if name in groups or not groups
            else take
            for take in group
        ]
        for name, group in evidence.takes.items()
    }
    return replace(evidence, takes=takes)


def verdicts(evidence):
    return {verdict.name: verdict for verdict in judge(evidence)}


def missed(evidence):
    """Rows whose bar the model misses."""
    return {name for name, verdict in verdicts(evidence).items() if verdict.reached is False}


def tracks(change):
    return lambda reading: replace(reading, tracks=change(reading.tracks.clone()))


def rows(*words):
    """Rows that have a bar."""
    return {row.name for row in ROWS if row.name.startswith(words) and row.bar}


def test_the_truth_reaches_every_bar_and_its_ceiling(perfect):
    table = verdicts(perfect)
    assert not missed(perfect)
    assert all(each.reached for each in table.values() if each.bar)
    for name, verdict in table.items():
        if "truth" in verdict.figures:
            assert verdict.reached_by("truth") in (True, None), name
            assert verdict.figures["made"] == verdict.figures["truth"]
    assert table["opening: r with truth"].figures["made"].value == pytest.approx(1)
    assert table["opening: frames of lag"].figures["made"].value == 0
    for name in rows("life", "steady silent", "lip", "rounding"):
        assert table[name].figures["made"].value == pytest.approx(1)
    assert table["drift over 20 s, delta-E"].figures["made"].value == 0


def test_floors_fail_where_they_must(perfect):
    table = verdicts(perfect)
    failing = {
        source: {name for name, each in table.items() if each.reached_by(source) is False}
        for source in SOURCES
    }
    speaking = rows("opening: r with truth", "opening: frames", "lip", "rounding")
    assert failing["still"] >= speaking | rows("life")
    assert failing["another"] >= speaking | rows("silence", "noise")
    assert failing["no_past"] >= {"clip border: head position"}
    assert not failing["truth"]
    assert not failing["vae"]


def test_a_shuffled_model_says_nothing(perfect):
    order = torch.randperm(200, generator=generator(2))
    lost = made(perfect, tracks(lambda each: each[order]), "speech")
    figure = verdicts(lost)["opening: r with truth"].figures["made"]
    assert abs(figure.value) < 0.15
    assert missed(lost) >= rows("opening: r with truth", "lip", "rounding")


def test_a_late_model_is_found_out(perfect):
    late = made(perfect, tracks(lambda each: each.roll(2, 0)), "speech")
    assert verdicts(late)["opening: frames of lag"].figures["made"].value == 2
    assert verdicts(late)["opening: talks in time"].figures["made"].value == 0


def test_another_voice_is_found_out(perfect):
    speech = perfect.takes["speech"]
    swapped = [
        replace(take, readings=take.readings | {"made": take.readings["another"]})
        for take in speech
    ]
    lost = verdicts(replace(perfect, takes=perfect.takes | {"speech": swapped}))
    right = verdicts(perfect)["opening: r with other voices"].figures["made"].value
    assert not lost["opening: r with truth"].reached
    assert lost["opening: r with other voices"].figures["made"].value > right + 0.15


def test_a_mute_model_cannot_hide_in_talks_without_r(perfect):
    mute = made(perfect, tracks(lambda each: each * 0), "speech")
    table = verdicts(mute)
    assert table["opening: r with truth"].figures["made"].value == 0
    assert table["opening: frames of lag"].figures["made"].value == 6
    assert missed(mute) >= rows("opening: r with truth", "opening: frames", "lip", "life")


def test_a_mouth_that_moves_in_silence(perfect):
    wave = 0.3 * torch.sin(torch.arange(200) / 3)

    def chatter(each):
        each[:, MOUTH] = wave
        return each

    assert missed(made(perfect, tracks(chatter), "silence")) == rows("silence")
    assert missed(made(perfect, tracks(chatter), "noise")) == rows("noise")


def test_another_face_only_at_the_end(perfect):
    def turn(reading):
        whose = reading.whose.clone()
        whose[-25:] = torch.eye(4)[2]
        return replace(reading, whose=whose)

    changed = verdicts(made(perfect, turn, "long"))
    assert changed["identity: last second of 20 s"].figures["made"].value == 0
    share = 1 - 2 * 25 / 300 / 8  # of two talks of 300 frames among eight
    assert changed["identity: nearest of 32"].figures["made"].value == pytest.approx(share)


def test_a_tint_is_measured_in_delta_e(perfect):
    def tint(reading):
        colours = reading.colours.clone()
        colours[-25:] = 0.6
        return replace(reading, colours=colours)

    figure = verdicts(made(perfect, tint, "long"))["drift over 20 s, delta-E"].figures["made"]
    assert figure.value == pytest.approx(63.22 - 53.39, abs=0.02)  # L* of grey 0.6 and 0.5


@pytest.mark.parametrize(("size", "reached"), [(0.5, False), (0.9, True), (1.4, False)])
def test_life_is_a_ratio_of_variances(perfect, size, reached):
    scaled = verdicts(made(perfect, tracks(lambda each: size * each), "speech"))
    for name in rows("life"):
        assert scaled[name].figures["made"].value == pytest.approx(size**2, rel=1e-3)
        assert scaled[name].reached is reached


def test_head_and_brow_are_apart(perfect):
    def freeze(each):
        each[:, BROW] = 0
        return each

    assert missed(made(perfect, tracks(freeze), "speech")) == rows("life: brow")


def test_what_the_tracker_cannot_read_says_nothing(perfect):
    blind = {verdict.name: verdict for verdict in judge(perfect, unread={"brow"})}
    for name, verdict in blind.items():
        assert verdict.unread == (name in rows("life: brow"))
        if verdict.unread:
            assert verdict.reached is None
    told = str(Report("m", 0, {"speech": 4}, {}, list(blind.values())))
    counted = sum(1 for verdict in blind.values() if verdict.bar) - 2
    assert f"{counted} of {counted} bars reached" in told
    assert "unread" in told


def test_a_mouth_that_hardly_opens_or_never_shuts_is_told(perfect):
    def quiet(each):
        each[:, MOUTH] = 0.1 * each[:, MOUTH] + 0.4
        return each

    table = verdicts(made(perfect, tracks(quiet)))
    assert table["opening: gain"].figures["made"].value == pytest.approx(0.1, rel=1e-3)
    assert table["opening: gain"].figures["truth"].value == pytest.approx(1)
    assert table["silence: mouth ajar"].figures["made"].value > 0.35
    assert table["silence: mouth ajar"].figures["truth"].value == 0


def test_one_talk_has_no_interval(perfect):
    table = verdicts(perfect)
    figure = table["steady silent face, x truth"].figures["made"]  # of one silent talk
    assert figure.value == pytest.approx(1)
    assert math.isnan(figure.low)
    assert table["steady silent face, x truth"].doubtful()
    without = dict(perfect.takes)
    without["long"] = [
        replace(take, readings={k: v for k, v in take.readings.items() if k != "no_past"})
        for take in perfect.takes["long"]
    ]
    assert verdicts(replace(perfect, takes=without))["clip border: head speed"].reached is None


def test_flicker_and_unrest(perfect):
    flicker = made(perfect, lambda each: replace(each, flicker=each.flicker + 2))
    assert verdicts(flicker)["steady background, 1/255"].figures["made"].value == 2
    assert missed(flicker) == rows("steady background")
    boiling = made(perfect, lambda each: replace(each, unrest=3 * each.unrest), "silence")
    assert verdicts(boiling)["steady silent face, x truth"].figures["made"].value == 3
    hidden = made(perfect, lambda each: replace(each, flicker=each.flicker * math.nan), "long")
    assert len(verdicts(hidden)["steady background, 1/255"].values["made"][0]) == 6


def test_jumps_at_borders(perfect):
    jumping = made(perfect, lambda each: at_borders(each, 0.01), "long")
    assert missed(jumping) == rows("clip border")
    worst = made(perfect, lambda each: at_borders(each, 0.2), "long")
    position = verdicts(worst)["clip border: head position"]
    assert position.figures["made"].value > position.figures["no_past"].value
    other = replace(jumping, clip_frames=7)  # borders elsewhere: these jumps are inside
    assert verdicts(other)["clip border: head position"].figures["made"].value < 1.5


def test_a_floor_is_a_bar_too():
    bar = Bar(high=1.5, below="no_past")
    figures = {"made": Figure(1.2, 1.1, 1.3), "no_past": Figure(1.1, 1.0, 1.2)}
    assert Verdict("x", bar, figures, {}).reached is False
    better = figures | {"no_past": Figure(1.4, 1.0, 1.5)}
    assert Verdict("x", bar, better, {}).reached is True


def test_beyond_noise_means_the_whole_interval():
    bar = Bar(low=0, sure=True)
    assert Verdict("x", bar, {"made": Figure(0.1, 0.01, 0.2)}, {}).reached is True
    assert Verdict("x", bar, {"made": Figure(0.1, -0.01, 0.2)}, {}).reached is False
    unknown = Verdict("x", Bar(low=0.5), {"made": Figure(math.nan, math.nan, math.nan)}, {})
    assert unknown.reached is None


def test_doubt_is_told():
    assert Verdict("x", Bar(low=0.8), {"made": Figure(0.85, 0.7, 0.9)}, {}).doubtful()
    assert Verdict("x", Bar(low=0.8), {"made": Figure(0.7, 0.6, 0.85)}, {}).doubtful()
    assert not Verdict("x", Bar(low=0.8), {"made": Figure(0.9, 0.85, 0.95)}, {}).doubtful()


def test_what_a_model_has_not_is_not_said(perfect):
    table = verdicts(replace(perfect, swaps={}))
    assert table["past: loss with another's"].figures == {}
    assert table["past: loss with another's"].reached is None


def test_the_talk_of_ten_minutes_has_rows_of_its_own(perfect):
    endless = replace(perfect, takes=perfect.takes | {"endless": perfect.takes["long"][:1]})
    table = verdicts(endless)
    assert all(table[row.name].reached for row in ENDLESS_ROWS)
    plain = verdicts(perfect)
    assert set(plain) == set(NAMES)
    for name in NAMES:  # and changes no other one
        assert str(table[name].figures) == str(plain[name].figures)  # NaN is not itself


def test_the_worst_come_first(perfect):
    bad = perfect.takes["speech"][2]

    def spoil(reading):
        return replace(reading, tracks=reading.tracks.flip(0))

    spoiled = replace(bad, readings=bad.readings | {"made": spoil(bad.readings["made"])})
    takes = [*perfect.takes["speech"][:2], spoiled, perfect.takes["speech"][3]]
    evidence = replace(perfect, takes=perfect.takes | {"speech": takes})
    assert worst_first("speech", evidence)[0] is spoiled
    assert len(worst_first("silence", evidence)) == 1
    assert sheet(evidence).size == (9 * 4, 2 * (4 + 2 + 1 + 1) * 4)


def test_report_is_a_table_and_json(perfect):
    judges = {"tracker": {"clean": {"open_r": 0.99}}}
    report = Report("toy", 5, {"speech": 4, "long": 2}, judges, judge(replace(perfect, swaps={})))
    text, values = str(report), report.as_json()
    json.dumps(values, allow_nan=False)
    assert {row["name"] for row in values["rows"]} == set(NAMES)
    first = values["rows"][0]
    assert first["sources"]["made"]["talks"] == [[[1.0]] * 4]
    assert first["reached"] is True
    assert all(name in text for name in NAMES)
    assert "open_r 0.99" in text
    assert "4 speech, 2 long" in text
    assert "18 of 21" in text
