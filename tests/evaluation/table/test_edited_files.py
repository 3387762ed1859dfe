"""Edited files of evaluations: read, or refused in one line of our own errors."""

import json
import math
from dataclasses import replace
from functools import reduce

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loopy.errors import LoopyError, MediaError
from loopy.evaluation.sets.draw import Draw, DrawOptions, Item
from loopy.evaluation.table.page import write_page
from loopy.evaluation.table.results import ColumnInfo, Results, SetFigure, VideoResult
from loopy.evaluation.table.text import results_table
from tools.study.pages import StudyKey, StudyVideo, trials_of

RESULTS = Results(
    "toon",
    "hdtf",
    3,
    (ColumnInfo("FID", "lower", "", "Inception"), ColumnInfo("Glo", "truth")),
    (
        VideoResult("a", {"Glo": 0.25}, {"Glo": 0.5}, {"mouth": [0.0, 1.0]}, "videos/a.mp4"),
        VideoResult("b", problem="video b.mp4 has no sound stream"),
    ),
    {"FID": SetFigure(12.5, 10.0, 15.0, 2)},
)
ITEM = Item("a", "a.mp4", "a.mp4", 0, 25, 0, ("1" * 64, "2" * 64), True)
DRAW = Draw("hdtf", 0, DrawOptions(), "3" * 64, (ITEM,), {"b.mp4": "is silent"})
KEY = StudyKey(
    "5f", 0, {"x": StudyVideo("a", "ours"), "y": StudyVideo("a", "theirs")}, ("rater-01",)
)
ODD = (None, True, -1, 10**400, 0.5, "../../x", [], {}, [1], {"a": []}, math.nan, "\x00", "<b>")


def use_results(folder):
    RESULTS.write(folder)
    yield folder / "results.json"
    read = Results.read(folder)
    write_page(read, folder)
    assert results_table(read)


def use_draw(folder):
    DRAW.write(folder / "draw.json")
    yield folder / "draw.json"
    for item in Draw.read(folder / "draw.json").items:
        written = (folder / f"{item.name}.mp4").resolve()
        assert written.parent == folder.resolve()
        assert (folder / item.picture).resolve().is_relative_to(folder.resolve())


def use_key(folder):
    KEY.write(folder / "key.json")
    yield folder / "key.json"
    key = StudyKey.read(folder / "key.json")
    for rater in key.raters:
        trials_of(key, rater)


def places(value, place=()):
    """Where everything in a value of JSON stands."""
    inside = value.items() if isinstance(value, dict) else enumerate(value)
    for name, each in inside:
        yield (*place, name)
        if isinstance(each, dict | list):
            yield from places(each, (*place, name))


@pytest.mark.parametrize("use", [use_results, use_draw, use_key])
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_a_file_edited_by_hand(tmp_path, use, data):
    steps = use(tmp_path)
    path = next(steps)
    values = json.loads(path.read_text())
    *way, last = data.draw(st.sampled_from(list(places(values))))
    inside = reduce(lambda found, name: found[name], way, values)
    inside[last] = data.draw(st.sampled_from(ODD))
    path.write_text(json.dumps(values))
    said = f"{path} is fine"
    try:
        list(steps)
    except LoopyError as error:
        said = str(error)
    assert str(path) in said
    assert "\n" not in said


@pytest.mark.parametrize("use", [use_results, use_draw, use_key])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_file_cut_off(tmp_path, use, share):
    steps = use(tmp_path)
    path = next(steps)
    text = path.read_text()
    path.write_text(text[: int(share * len(text))])
    with pytest.raises(LoopyError, match="json"):
        list(steps)


@pytest.mark.parametrize("use", [use_results, use_draw, use_key])
def test_a_file_nested_without_end(tmp_path, use):
    steps = use(tmp_path)
    next(steps).write_text("[" * 200_000)
    with pytest.raises(LoopyError, match="nested too deeply"):
        list(steps)


@pytest.mark.parametrize(
    "change",
    [
        {"name": "../../evil"},
        {"name": "/tmp/evil"},
        {"name": ".."},
        {"name": ""},
        {"picture": "../secret.mp4"},
        {"sound": "/etc/passwd"},
    ],
)
def test_a_draw_names_nothing_outside_its_folders(tmp_path, change):
    replace(DRAW, items=(replace(ITEM, **change),)).write(tmp_path / "draw.json")
    with pytest.raises(MediaError, match=r"draw\.json cannot be read"):
        Draw.read(tmp_path / "draw.json")
