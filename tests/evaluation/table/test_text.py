"""Results as a reader of the terminal and of CSV files meets them."""

import csv
import math
from dataclasses import replace

import pytest

from loopy.errors import OutputError
from loopy.evaluation.table.results import ColumnInfo, Results, SetFigure, VideoResult
from loopy.evaluation.table.text import results_table, short, write_csv

NEEDS = "not available: needs the weights of I3D"
RESULTS = Results(
    model="mine",
    test_set="toon-b",
    seed=3,
    columns=(
        ColumnInfo("FID", "lower", "", "Inception v3, all frames"),
        ColumnInfo("FVD-I", "lower", "", "I3D, 16 frames"),
        ColumnInfo("Glo", "truth", "px²", "windows of 12 frames"),
    ),
    videos=(
        VideoResult("anna, laughing", {"Glo": 1.25}, {"Glo": 3.5}),
        VideoResult("bert", {"Glo": math.nan}, {}),
        VideoResult("carl", problem="carl.mp4 has no sound"),
    ),
    figures={"FID": SetFigure(33.204, n=2), "Glo": SetFigure(1.25, 1.1, 1.4, 2)},
    real_figures={"Glo": SetFigure(3.5, 3.25, 3.75, 1)},
    missing={"FVD-I": NEEDS},
)


def row_of(name, text):
    [line] = [line for line in text.splitlines() if line.startswith(name)]
    return line.split(maxsplit=1 + name.count(" "))[-1]


def test_a_row_has_figure_interval_number_and_the_real_ones():
    row = row_of("Glo (px²)", results_table(RESULTS))
    assert " ".join(row.split()) == "as real 1.250 [1.100, 1.400] 2 3.500 [3.250, 3.750] 1"


def test_what_is_not_known_is_a_dash_and_never_a_number():
    assert " ".join(row_of("FID", results_table(RESULTS)).split()) == "lower 33.20 - 2 - - -"


def test_what_a_figure_rests_on_stands_beside_it(tmp_path):
    note = "N = 2 and 2, fewer than its 400 features + 1: singular"
    noted = replace(RESULTS, figures={**RESULTS.figures, "FID": SetFigure(33.204, n=2, note=note)})
    assert row_of("FID", results_table(noted)).endswith(note)
    columns, _ = write_csv(noted, tmp_path)
    with columns.open(newline="") as file:
        assert [row["note"] for row in csv.DictReader(file)] == [note, "", ""]
    noted.write(tmp_path)
    assert Results.read(tmp_path).figures["FID"].note == note


def test_what_is_missing_says_why_and_has_no_row():
    text = results_table(RESULTS)
    figures, _, explained = text.partition("Without a figure")
    assert "FVD-I" not in figures
    assert NEEDS in explained
    assert "1 video not judged" in text
    assert "carl: carl.mp4 has no sound" in text


def test_what_several_columns_lack_is_said_once():
    both = replace(RESULTS, missing={"FVD-I": NEEDS, "Glo": NEEDS})
    assert f"  FVD-I, Glo: {NEEDS}" in results_table(both)


def test_backbones_and_windows_are_said():
    assert "FID: Inception v3, all frames" in results_table(RESULTS)
    assert "mine on toon-b: 3 videos; seed 3" in results_table(RESULTS)


def test_csv_holds_every_figure_in_full(tmp_path):
    columns, videos = write_csv(RESULTS, tmp_path)
    with columns.open(newline="") as file:
        rows = {row["column"]: row for row in csv.DictReader(file)}
    assert list(rows) == ["FID", "FVD-I", "Glo"]
    assert float(rows["FID"]["value"]) == 33.204
    assert (rows["FID"]["low"], rows["FID"]["real value"]) == ("", "")
    assert (rows["FVD-I"]["value"], rows["FVD-I"]["missing"]) == ("", NEEDS)
    assert (rows["Glo"]["high"], rows["Glo"]["real low"]) == ("1.4", "3.25")
    with videos.open(newline="") as file:
        rows = {row["video"]: row for row in csv.DictReader(file)}
    assert (rows["anna, laughing"]["Glo"], rows["anna, laughing"]["Glo, real"]) == ("1.25", "3.5")
    assert rows["bert"]["Glo"] == ""
    assert rows["carl"]["problem"] == "carl.mp4 has no sound"
    assert "FVD-I" not in rows["carl"]


def test_a_folder_that_is_not_there_is_a_typed_error(tmp_path):
    with pytest.raises(OutputError, match="nowhere"):
        write_csv(RESULTS, tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.99491, "0.9949"),
        (680.634, "680.6"),
        (-33.204, "-33.20"),
        (2.2334, "2.233"),
        (0.0001234, "0.000123"),
        (0.0, "0"),
        (math.nan, "-"),
        (math.inf, "-"),
    ],
)
def test_figures_are_short_but_lose_nothing_that_counts(value, text):
    assert short(value) == text
