import json
import math
from dataclasses import replace

import pytest
import torch

from loopy.evaluation.features.extract import VideoFeatures
from loopy.evaluation.table.statistics import Figure
from loopy.evaluation.toon.measure import MeasuredTalk, with_mismatched
from loopy.evaluation.toon.report import Report, hardest_first, sheet
from loopy.evaluation.toon.rows import (
    ENDLESS_ROWS,
    ROWS,
    SOURCES,
    ToonMeasurements,
    row_results,
)
from loopy.evaluation.toon.talks import Scene, held_out_talk
from loopy.evaluation.toon.thresholds import RowResult, Threshold
from loopy.models.tracker import OUTPUTS
from loopy.randomness import generator
from loopy.synthetic.face import CONTROLS

READ = [CONTROLS.index(name) for name in OUTPUTS]
MOUTH, BROW, SHIFT = (OUTPUTS.index(name) for name in ("open", "brow", "shift_x"))
NAMES = [row.name for row in ROWS]
CLIP = 12


def a_film(controls, **changes):
    """Features of a perfect video, measured without error."""
    frames = len(controls)
    tensors = {
        "tracks": controls[:, READ].clone(),
        "identity": torch.eye(4)[:1].expand(frames, 4),
        "colours": torch.full((frames, 64, 3), 0.5),
        "flicker": torch.zeros(frames - 1),
        "unrest": torch.ones(frames - 1),
        "shown": torch.zeros(8, 4, 4, 3, dtype=torch.uint8),
    }
    return VideoFeatures(tensors | changes)


def changed(film, **changes):
    """The same features but for some."""
    return VideoFeatures(film.tensors | changes)


def a_measured_talk(group, kind, number, seconds):
    scene = Scene(group, number, kind, seconds, 5)
    controls = held_out_talk(5, number, seconds=seconds, kind=kind).controls
    truth = a_film(controls)
    tracks = truth.get("tracks")
    still = changed(truth, tracks=tracks[:1].expand_as(tracks))
    films = {"made": truth, "truth": truth, "vae": truth, "still": still}
    if group == "long":
        films["no_past"] = at_borders(truth)
    portrait = torch.zeros(4, 4, 3, dtype=torch.uint8)
    return MeasuredTalk(scene, controls, torch.eye(4), portrait, films)


def at_borders(film, size=0.05):
    """The head is somewhere else in each clip."""
    tracks = film.get("tracks").clone()
    clips = torch.arange(len(tracks)) // CLIP
    tracks[:, SHIFT] += size * torch.randn(int(clips.max()) + 1, generator=generator(1))[clips]
    return changed(film, tracks=tracks)


@pytest.fixture(scope="module")
def perfect():
    """A model that makes the truth."""
    groups = {
        "speech": [a_measured_talk("speech", "mixed", number, 8.0) for number in range(4)],
        "long": [a_measured_talk("long", "speech", 100 + number, 12.0) for number in range(2)],
        "silence": [a_measured_talk("silence", "silence", 200, 8.0)],
        "noise": [a_measured_talk("noise", "noise", 300, 8.0)],
    }
    used = {name: 0.1 + 0.01 * torch.arange(8.0) for name in ("past", "keys", "latents")}
    return ToonMeasurements(with_mismatched(groups), CLIP, used)


def made(measured, change, *groups):
    """The same measured of a model whose films are changed in some sets."""
    talks = {
        name: [
            replace(talk, films=talk.films | {"made": change(talk.films["made"])})
            if name in groups or not groups
            else talk
            for talk in group
        ]
        for name, group in measured.talks.items()
    }
    return replace(measured, talks=talks)


def results(measured):
    return {result.name: result for result in row_results(measured)}


def missed(measured):
    """Rows whose threshold the model misses."""
    return {name for name, result in results(measured).items() if result.reached is False}


def tracks(change):
    return lambda film: changed(film, tracks=change(film.get("tracks").clone()))


def rows(*words):
    """Rows that have a threshold."""
    return {row.name for row in ROWS if row.name.startswith(words) and row.threshold}


def test_the_truth_reaches_every_bar_and_its_ceiling(perfect):
    table = results(perfect)
    assert not missed(perfect)
    assert all(each.reached for each in table.values() if each.threshold)
    for name, result in table.items():
        if "truth" in result.figures:
            assert result.reached_by("truth") in (True, None), name
            assert result.figures["made"] == result.figures["truth"]
    assert table["opening: r with truth"].figures["made"].value == pytest.approx(1)
    assert table["opening: frames of lag"].figures["made"].value == 0
    for name in rows("life", "steady silent", "lip", "rounding"):
        assert table[name].figures["made"].value == pytest.approx(1)
    assert table["drift over 20 s, delta-E"].figures["made"].value == 0


def test_floors_fail_where_they_must(perfect):
    table = results(perfect)
    failing = {
        source: {name for name, each in table.items() if each.reached_by(source) is False}
        for source in SOURCES
    }
    speaking = rows("opening: r with truth", "opening: frames", "lip", "rounding")
    assert failing["still"] >= speaking | rows("life")
    assert failing["mismatched"] >= speaking | rows("silence", "noise")
    assert failing["no_past"] >= {"clip border: head position"}
    assert not failing["truth"]
    assert not failing["vae"]


def test_a_shuffled_model_says_nothing(perfect):
    order = torch.randperm(200, generator=generator(2))
    lost = made(perfect, tracks(lambda each: each[order]), "speech")
    figure = results(lost)["opening: r with truth"].figures["made"]
    assert abs(figure.value) < 0.15
    assert missed(lost) >= rows("opening: r with truth", "lip", "rounding")


def test_a_late_model_is_found_out(perfect):
    late = made(perfect, tracks(lambda each: each.roll(2, 0)), "speech")
    assert results(late)["opening: frames of lag"].figures["made"].value == 2
    assert results(late)["opening: talks in time"].figures["made"].value == 0


def test_another_voice_is_found_out(perfect):
    speech = perfect.talks["speech"]
    swapped = [
        replace(talk, films=talk.films | {"made": talk.films["mismatched"]}) for talk in speech
    ]
    lost = results(replace(perfect, talks=perfect.talks | {"speech": swapped}))
    right = results(perfect)["opening: r with other voices"].figures["made"].value
    assert not lost["opening: r with truth"].reached
    assert lost["opening: r with other voices"].figures["made"].value > right + 0.15


def test_a_mute_model_cannot_hide_in_talks_without_r(perfect):
    mute = made(perfect, tracks(lambda each: each * 0), "speech")
    table = results(mute)
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
    def turn(film):
        identity = film.get("identity").clone()
        identity[-25:] = torch.eye(4)[2]
        return changed(film, identity=identity)

    table = results(made(perfect, turn, "long"))
    assert table["identity: last second of 20 s"].figures["made"].value == 0
    share = 1 - 2 * 25 / 300 / 8  # of two talks of 300 frames among eight
    assert table["identity: nearest of 32"].figures["made"].value == pytest.approx(share)


def test_a_tint_is_measured_in_delta_e(perfect):
    def tint(film):
        colours = film.get("colours").clone()
        colours[-25:] = 0.6
        return changed(film, colours=colours)

    figure = results(made(perfect, tint, "long"))["drift over 20 s, delta-E"].figures["made"]
    assert figure.value == pytest.approx(63.22 - 53.39, abs=0.02)  # L* of grey 0.6 and 0.5


@pytest.mark.parametrize(("size", "reached"), [(0.5, False), (0.9, True), (1.4, False)])
def test_life_is_a_ratio_of_variances(perfect, size, reached):
    scaled = results(made(perfect, tracks(lambda each: size * each), "speech"))
    for name in rows("life"):
        assert scaled[name].figures["made"].value == pytest.approx(size**2, rel=1e-3)
        assert scaled[name].reached is reached


def test_head_and_brow_are_apart(perfect):
    def freeze(each):
        each[:, BROW] = 0
        return each

    assert missed(made(perfect, tracks(freeze), "speech")) == rows("life: brow")


def test_what_the_tracker_cannot_read_says_nothing(perfect):
    blind = {result.name: result for result in row_results(perfect, unread={"brow"})}
    for name, result in blind.items():
        assert result.unread == (name in rows("life: brow"))
        if result.unread:
            assert result.reached is None
    told = str(Report("m", 0, {"speech": 4}, {}, list(blind.values())))
    counted = sum(1 for result in blind.values() if result.threshold) - 2
    assert f"{counted} of {counted} thresholds reached" in told
    assert "unread" in told


def test_a_mouth_that_hardly_opens_or_never_shuts_is_told(perfect):
    def quiet(each):
        each[:, MOUTH] = 0.1 * each[:, MOUTH] + 0.4
        return each

    table = results(made(perfect, tracks(quiet)))
    assert table["opening: gain"].figures["made"].value == pytest.approx(0.1, rel=1e-3)
    assert table["opening: gain"].figures["truth"].value == pytest.approx(1)
    assert table["silence: mouth ajar"].figures["made"].value > 0.35
    assert table["silence: mouth ajar"].figures["truth"].value == 0


def test_one_talk_has_no_interval(perfect):
    table = results(perfect)
    figure = table["steady silent face, x truth"].figures["made"]  # of one silent talk
    assert figure.value == pytest.approx(1)
    assert math.isnan(figure.low)
    assert table["steady silent face, x truth"].uncertain
    without = dict(perfect.talks)
    without["long"] = [
        replace(talk, films={k: v for k, v in talk.films.items() if k != "no_past"})
        for talk in perfect.talks["long"]
    ]
    assert results(replace(perfect, talks=without))["clip border: head speed"].reached is None


def test_flicker_and_unrest(perfect):
    flicker = made(perfect, lambda each: changed(each, flicker=each.get("flicker") + 2))
    assert results(flicker)["steady background, 1/255"].figures["made"].value == 2
    assert missed(flicker) == rows("steady background")
    boiling = made(perfect, lambda each: changed(each, unrest=3 * each.get("unrest")), "silence")
    assert results(boiling)["steady silent face, x truth"].figures["made"].value == 3
    hidden = made(
        perfect, lambda each: changed(each, flicker=each.get("flicker") * math.nan), "long"
    )
    assert len(results(hidden)["steady background, 1/255"].values["made"][0]) == 6


def test_jumps_at_borders(perfect):
    jumping = made(perfect, lambda each: at_borders(each, 0.01), "long")
    assert missed(jumping) == rows("clip border")
    worst = made(perfect, lambda each: at_borders(each, 0.2), "long")
    position = results(worst)["clip border: head position"]
    assert position.figures["made"].value > position.figures["no_past"].value
    other = replace(jumping, clip_frames=7)  # borders elsewhere: these jumps are inside
    assert results(other)["clip border: head position"].figures["made"].value < 1.5


def test_a_floor_is_a_bar_too():
    threshold = Threshold(high=1.5, below="no_past")
    figures = {"made": Figure(1.2, 1.1, 1.3), "no_past": Figure(1.1, 1.0, 1.2)}
    assert RowResult("x", threshold, figures, {}).reached is False
    better = figures | {"no_past": Figure(1.4, 1.0, 1.5)}
    assert RowResult("x", threshold, better, {}).reached is True


def test_beyond_noise_means_the_whole_interval():
    threshold = Threshold(low=0, sure=True)
    assert RowResult("x", threshold, {"made": Figure(0.1, 0.01, 0.2)}, {}).reached is True
    assert RowResult("x", threshold, {"made": Figure(0.1, -0.01, 0.2)}, {}).reached is False
    unknown = RowResult("x", Threshold(low=0.5), {"made": Figure(math.nan, math.nan, math.nan)}, {})
    assert unknown.reached is None


def test_doubt_is_told():
    assert RowResult("x", Threshold(low=0.8), {"made": Figure(0.85, 0.7, 0.9)}, {}).uncertain
    assert RowResult("x", Threshold(low=0.8), {"made": Figure(0.7, 0.6, 0.85)}, {}).uncertain
    assert not RowResult("x", Threshold(low=0.8), {"made": Figure(0.9, 0.85, 0.95)}, {}).uncertain


def test_what_a_model_has_not_is_not_said(perfect):
    table = results(replace(perfect, sensitivity={}))
    assert table["past: loss when mismatched"].figures == {}
    assert table["past: loss when mismatched"].reached is None


def test_the_talk_of_ten_minutes_has_rows_of_its_own(perfect):
    endless = replace(perfect, talks=perfect.talks | {"endless": perfect.talks["long"][:1]})
    table = results(endless)
    assert all(table[row.name].reached for row in ENDLESS_ROWS)
    plain = results(perfect)
    assert set(plain) == set(NAMES)
    for name in NAMES:  # and changes no other one
        assert str(table[name].figures) == str(plain[name].figures)  # NaN is not itself


def test_the_worst_come_first(perfect):
    bad = perfect.talks["speech"][2]

    made_film = bad.films["made"]
    backwards = changed(made_film, tracks=made_film.get("tracks").flip(0))
    reversed_one = replace(bad, films=bad.films | {"made": backwards})
    talks = [*perfect.talks["speech"][:2], reversed_one, perfect.talks["speech"][3]]
    measured = replace(perfect, talks=perfect.talks | {"speech": talks})
    assert hardest_first("speech", talks)[0] is reversed_one
    assert sheet(measured).size == (9 * 4, 2 * (4 + 2 + 1 + 1) * 4)


def test_report_is_a_table_and_json(perfect):
    judges = {"tracker": {"clean": {"open_r": 0.99}}}
    report = Report(
        "toy", 5, {"speech": 4, "long": 2}, judges, row_results(replace(perfect, sensitivity={}))
    )
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
