"""Which columns of two evaluations differ beyond noise; beside an own bootstrap in numpy."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from loopy.errors import ConfigurationError, MediaError
from loopy.evaluation.sets.draw import Draw, DrawOptions, Item
from loopy.evaluation.table.compare import compare
from loopy.evaluation.table.results import ColumnInfo, Results, SetFigure, VideoResult


def evaluation(folder, values, *, better="higher", real=None, name="x", **others):
    """A folder of results with one column; `values` by the names of the videos."""
    videos = tuple(
        VideoResult(video, {name: value}, {} if real is None else {name: real[video]})
        for video, value in values.items()
    )
    folder.mkdir()
    columns = (ColumnInfo(name, better),)
    given = Results(folder.name, "set", 0, columns, videos, {name: SetFigure(1.0)})
    replace(given, **others).write(folder)
    return folder


def numbered(values):
    return {f"v{number:03d}": float(value) for number, value in enumerate(values)}


@pytest.fixture
def dice():
    return np.random.default_rng(7)


def test_the_interval_is_that_of_an_own_paired_bootstrap(tmp_path, dice):
    a, noise = dice.normal(5, 3, 40), dice.normal(0.2, 1, 40)
    first = evaluation(tmp_path / "a", numbered(a))
    second = evaluation(tmp_path / "b", numbered(a + noise))
    [row] = compare(first, second).differences
    drawn = dice.integers(0, 40, (20_000, 40))
    low, high = np.percentile(noise[drawn].mean(1), [2.5, 97.5])
    assert row.difference.value == pytest.approx(noise.mean())
    assert row.difference.low == pytest.approx(low, abs=0.05 * (high - low))
    assert row.difference.high == pytest.approx(high, abs=0.05 * (high - low))
    assert (row.n, row.a, row.b) == (40, pytest.approx(a.mean()), pytest.approx((a + noise).mean()))


def test_what_is_hard_for_both_is_no_noise(tmp_path, dice):
    hard = dice.normal(0, 100, 12)
    first = evaluation(tmp_path / "a", numbered(hard))
    second = evaluation(tmp_path / "b", numbered(hard + 1 + 0.1 * dice.normal(size=12)))
    [row] = compare(first, second).differences
    assert (row.beyond_noise, row.winner) == (True, "b")


@pytest.mark.parametrize(
    ("better", "winner"), [("higher", "b"), ("lower", "a"), ("truth", "a"), ("", "")]
)
def test_who_wins_depends_on_the_way_that_is_better(better, winner, tmp_path, dice):
    real = dice.normal(3, 0.1, 20)
    a, b = real + 0.1 * dice.normal(size=20), real + 2
    first = evaluation(tmp_path / "a", numbered(a), better=better, real=numbered(real))
    second = evaluation(tmp_path / "b", numbered(b), better=better, real=numbered(real))
    there, back = compare(first, second), compare(second, first)
    [row], [turned] = there.differences, back.differences
    assert row.beyond_noise
    assert turned.beyond_noise
    assert (row.winner, turned.winner) == (winner, {"a": "b", "b": "a", "": ""}[winner])
    assert row.difference.value == pytest.approx(-turned.difference.value)
    said = f"{winner.upper()} is better beyond noise in: x" if winner else "neither better: x"
    assert said in str(there)


def test_as_far_above_the_real_figure_as_below_is_no_win(tmp_path, dice):
    real, luck = numbered(np.full(20, 3.0)), 0.1 * dice.normal(size=20)
    first = evaluation(tmp_path / "a", numbered(2 + luck), better="truth", real=real)
    second = evaluation(tmp_path / "b", numbered(4 - luck[::-1]), better="truth", real=real)
    [row] = compare(first, second).differences
    assert row.beyond_noise
    assert row.winner == ""
    assert row.real == 3


def test_nearness_is_an_own_bootstrap_of_three_columns(tmp_path, dice):
    real = dice.normal(3, 1, 30)
    a, b = real + dice.normal(1, 0.5, 30), real + dice.normal(-0.6, 0.5, 30)
    first = evaluation(tmp_path / "a", numbered(a), better="truth", real=numbered(real))
    second = evaluation(tmp_path / "b", numbered(b), better="truth", real=numbered(real))
    [row] = compare(first, second).differences
    drawn = dice.integers(0, 30, (20_000, 30))
    truth = real[drawn].mean(1)
    nearer = abs(a[drawn].mean(1) - truth) - abs(b[drawn].mean(1) - truth)
    low, high = np.percentile(nearer, [2.5, 97.5])
    assert row.nearer.low == pytest.approx(low, abs=0.06 * (high - low))
    assert row.nearer.high == pytest.approx(high, abs=0.06 * (high - low))


def test_luck_is_rarely_called_a_difference(tmp_path, dice):
    columns = tuple(ColumnInfo(f"c{number}", "higher") for number in range(100))
    for letter in "ab":
        videos = tuple(
            VideoResult(f"v{i}", {column.name: dice.normal() for column in columns})
            for i in range(20)
        )
        (tmp_path / letter).mkdir()
        Results(letter, "set", 0, columns, videos, {}).write(tmp_path / letter)
    found = compare(tmp_path / "a", tmp_path / "b")
    named = sum(row.beyond_noise for row in found.differences)
    assert 1 <= named <= 14  # of 100: one in 20 is 5
    assert "about 5.0 of 100 columns would still be named by luck" in str(found)


@pytest.mark.parametrize(("pairs", "verdict"), [(5, False), (6, True)])
def test_too_few_videos_have_no_verdict(pairs, verdict, tmp_path):
    first = evaluation(tmp_path / "a", numbered(range(pairs)))
    second = evaluation(tmp_path / "b", numbered(range(10, 10 + pairs)))
    found = compare(first, second)
    [row] = found.differences
    assert (row.beyond_noise, row.winner) == (verdict, "b" if verdict else "")
    assert ("too few" in str(found)) != verdict


def test_an_evaluation_is_no_better_than_itself(tmp_path, dice):
    first = evaluation(tmp_path / "a", numbered(dice.normal(size=9)))
    found = compare(first, first)
    assert not found.differences[0].beyond_noise
    assert "Nothing differs beyond noise." in str(found)


def test_only_what_both_have_judged_is_paired_and_the_rest_is_named(tmp_path):
    values = numbered(range(9))
    first = evaluation(tmp_path / "a", values | {"alone": 5.0, "blank": math.nan})
    given = Results.read(evaluation(tmp_path / "b", values | {"other": 5.0, "blank": 1.0}))
    broken = replace(given.videos[3], values={"x": 99.0}, problem="no sound")
    replace(given, videos=(*given.videos[:3], broken, *given.videos[4:])).write(tmp_path / "b")
    found = compare(first, tmp_path / "b")
    assert found.differences[0].n == 8  # nine less the broken one; the blank one has no figure
    assert found.only_a == ("v003", "alone")
    assert found.only_b == ("other",)
    assert "Judged in A alone, left out: v003, alone" in str(found)


def test_columns_that_cannot_be_paired_say_why(tmp_path):
    values = numbered(range(9))
    columns = tuple(ColumnInfo(each, "lower", "", "I3D") for each in ("x", "FVD", "Sync-C", "y"))
    figures = {"FVD": SetFigure(680.6, 650, 710, 9)}
    missing = {"Sync-C": "not available: needs syncnet"}
    first = evaluation(tmp_path / "a", values, columns=columns, figures=figures)
    other = (*columns[:3], replace(columns[3], about="I3D of others"), ColumnInfo("z"))
    second = evaluation(tmp_path / "b", values, columns=other, figures=figures, missing=missing)
    found = compare(first, second)
    assert [row.column.name for row in found.differences] == ["x"]
    assert set(found.unpaired) == {"FVD", "Sync-C", "y", "z"}
    assert "680.6 [650.0, 710.0]" in found.unpaired["FVD"]
    assert "needs syncnet" in found.unpaired["Sync-C"]
    assert "I3D / I3D of others" in found.unpaired["y"]
    assert all(f"Not compared: {name};" in str(found) for name in found.unpaired)
    neither = compare(tmp_path / "b", tmp_path / "b").unpaired["Sync-C"]
    assert neither.startswith("neither has a figure")


def test_what_is_written_is_json_without_nan(tmp_path):
    first = evaluation(tmp_path / "a", {"only": 1.0})
    found = compare(first, evaluation(tmp_path / "b", {"only": 2.0}))
    text = found.write(tmp_path).read_text()
    [row] = json.loads(text, parse_constant=pytest.fail)["differences"]
    assert row["difference"] == {"value": 1.0, "low": None, "high": None}
    assert (row["column"]["name"], row["beyond_noise"]) == ("x", False)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"seed": 1}, "seed 0.*of 1"),
        ({"judges": {"face": "other", "points": "tracks b"}}, "judged by others: face;"),
        ({"judges": {"i3d": "only here", "points": "tracks b"}}, ""),
    ],
)
def test_other_seeds_and_other_judges_are_refused(changes, reason, tmp_path):
    judges = {"face": "one", "points": "tracks a"}
    first = evaluation(tmp_path / "a", {"one": 1.0}, judges=judges)
    second = evaluation(tmp_path / "b", {"one": 1.0}, **{"judges": judges, **changes})
    if not reason:
        assert compare(first, second).differences[0].n == 1
        return
    with pytest.raises(ConfigurationError, match=reason):
        compare(first, second)


def test_one_name_for_two_videos_is_refused(tmp_path):
    values, real = numbered(range(7)), numbered(range(1, 8))
    first = evaluation(tmp_path / "a", values, real=real)
    near = {name: value * 1.001 for name, value in real.items()}  # another machine's rounding
    assert compare(first, evaluation(tmp_path / "b", values, real=near)).differences[0].n == 7
    second = evaluation(tmp_path / "c", values, real=real | {"v003": 9.0})
    with pytest.raises(ConfigurationError, match="1 video, for one v003"):
        compare(first, second)


def test_another_draw_is_refused_though_nothing_real_tells(tmp_path):
    def drawn(folder, sounds):
        evaluation(folder, dict.fromkeys(sounds, 1.0))
        items = tuple(
            Item(name, "a.png", sound, 0, 50, 0, ("p", sound), filmed=False)
            for name, sound in sounds.items()
        )
        Draw("set", 0, DrawOptions(), "hash", items, {}).write(folder / "draw.json")
        return folder

    first = drawn(tmp_path / "a", {"one": "x.wav", "two": "y.wav"})
    assert compare(first, drawn(tmp_path / "b", {"one": "x.wav"})).differences[0].n == 1
    with pytest.raises(ConfigurationError, match="1 video, for one two"):
        compare(first, drawn(tmp_path / "c", {"one": "x.wav", "two": "z.wav"}))


@pytest.mark.parametrize(("better", "past"), [("higher", 5.0), ("lower", -1.0), ("truth", 3.1)])
def test_a_winner_beyond_the_real_videos_is_told(better, past, tmp_path, dice):
    """A still head wins Sync-C."""
    luck, real = 0.01 * dice.normal(size=9), numbered(np.full(9, 3.0))
    below = {"higher": 2.0, "lower": 4.0, "truth": 2.0}[better]
    first = evaluation(tmp_path / "a", numbered(below + luck), better=better, real=real)
    nearer = evaluation(tmp_path / "b", numbered((below + 3) / 2 + luck), better=better, real=real)
    second = evaluation(tmp_path / "c", numbered(past - luck), better=better, real=real)
    told = "Better, but beyond the real videos: x."
    assert told not in str(compare(first, nearer))
    assert compare(first, second).differences[0].winner == "b"
    assert (told in str(compare(first, second))) == (better != "truth")


def test_what_cannot_be_compared_is_refused(tmp_path):
    first = evaluation(tmp_path / "a", {"one": 1.0})
    with pytest.raises(ConfigurationError, match="no video in common"):
        compare(first, evaluation(tmp_path / "b", {"two": 1.0}))
    with pytest.raises(ConfigurationError, match=r"'set'.*'another'"):
        compare(first, evaluation(tmp_path / "c", {"one": 1.0}, test_set="another"))
    with pytest.raises(MediaError, match="nowhere"):
        compare(first, tmp_path / "nowhere")
