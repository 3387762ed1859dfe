"""A blind study: what raters may know, and what their votes say; beside own arithmetic."""

import csv
import json
import math
import re
from dataclasses import replace
from itertools import combinations, product

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from loopy.errors import ConfigurationError, ManifestError, MediaError, OutputError
from loopy.evaluation.table.results import Results, VideoResult
from tools.study.__main__ import main
from tools.study.pages import DIMENSIONS, HEAD, StudyKey, make_study, trials_of
from tools.study.votes import agreement, alpha, analyse, wins


@pytest.fixture
def folders(tmp_path):
    """Videos of three models; the study never looks inside a video."""
    for model, item in product(("secretive", "plain", "third"), ("anna", "bert", "carl")):
        (tmp_path / model).mkdir(exist_ok=True)
        (tmp_path / model / f"{item}.mp4").write_bytes(f"{model}/{item}".encode())
    (tmp_path / "plain" / "alone.mp4").write_bytes(b"alone")
    return [tmp_path / "secretive", tmp_path / "plain", tmp_path / "third"]


@pytest.fixture
def study(folders, tmp_path):
    make_study(folders[:2], tmp_path / "study", seed=4, raters=8)
    return tmp_path / "study"


def data_of(page):
    [text] = re.findall(r'id="study">(.*?)</script>', page.read_text(), re.DOTALL)
    return json.loads(text)


def test_raters_can_know_neither_models_nor_items(study):
    files = [path for path in (study / "raters").rglob("*") if path.is_file()]
    assert len(files) == 8 + 6
    for path in files:
        said = path.name + (path.read_text() if path.suffix == ".html" else "")
        assert not re.search("secretive|plain|anna|bert|carl|key.json", said)
        assert not re.search("https?:", said)


def test_every_pair_meets_in_every_item_with_its_own_videos(study):
    key = StudyKey.read(study / "key.json")
    shown = set()
    for trial in data_of(study / "raters/rater-01.html")["trials"]:
        left, right = (key.clips[trial[side]] for side in ("left", "right"))
        assert left.item == right.item
        shown.add((left.item, frozenset((left.model, right.model))))
    assert shown == {(i, frozenset(("secretive", "plain"))) for i in ("anna", "bert", "carl")}
    for name, clip in key.clips.items():
        content = (study / f"raters/clips/{name}.mp4").read_bytes()
        assert content == f"{clip.model}/{clip.item}".encode()


def test_pages_ask_the_six_questions_of_the_paper(study):
    data = data_of(study / "raters/rater-08.html")
    assert list(data["dimensions"]) == list(DIMENSIONS)
    assert len(DIMENSIONS) == 6
    assert data["rater"] == "rater-08"
    assert all((study / "raters" / file).is_file() for file in data["files"].values())


def test_sides_and_orders_are_by_chance_of_seed_and_rater(folders, tmp_path):
    keys = [make_study(folders, tmp_path / f"s{i}", seed=i // 2, raters=40) for i in range(3)]
    first, again, other = (
        {path.name: path.read_text() for path in (tmp_path / f"s{i}/raters").glob("*.html")}
        for i in range(3)
    )
    assert first == again
    assert first != other
    orders = {rater: trials_of(keys[0], rater) for rater in keys[0].raters}
    assert len({tuple(trials) for trials in orders.values()}) == 40
    lefts = [keys[0].clips[trial.left].model for trials in orders.values() for trial in trials]
    assert len(lefts) == 40 * 3 * 3
    assert all(95 <= lefts.count(model) <= 145 for model in ("secretive", "plain", "third"))


def test_a_rater_may_see_a_part(folders, tmp_path):
    key = make_study(folders, tmp_path / "study", raters=12, trials=4)
    assert key.raters[::11] == ("rater-01", "rater-12")
    pages = [data_of(page) for page in (tmp_path / "study/raters").glob("*.html")]
    assert all(len(page["trials"]) == 4 for page in pages)
    seen = {frozenset(trial.values()) for page in pages for trial in page["trials"]}
    assert len(seen) == 9  # all, of one rater or another


def test_an_evaluation_gives_its_videos_by_their_names(folders, tmp_path):
    given = Results("m", "set", 0, (), (VideoResult("anna", video="bert.mp4"),), {})
    given.write(folders[0])
    key = make_study(folders[:2], tmp_path / "study")
    assert {clip.item for clip in key.clips.values()} == {"anna"}
    [name] = [name for name, clip in key.clips.items() if clip.model == "secretive"]
    assert (tmp_path / f"study/raters/clips/{name}.mp4").read_bytes() == b"secretive/bert"


def test_results_that_name_another_file_never_send_it_to_raters(folders, tmp_path):
    (tmp_path / "secret.txt").write_text("secret")
    for folder in folders[:2]:
        videos = (VideoResult("bert", video="../secret.txt"),)
        Results(folder.name, "hdtf", 0, (), videos, {}).write(folder)
    with pytest.raises(MediaError, match="is no video that a page can show"):
        make_study(folders[:2], tmp_path / "study")
    assert not (tmp_path / "study").exists()


def test_what_makes_no_study_is_refused_and_leaves_nothing(folders, tmp_path):
    out, empty = tmp_path / "study", tmp_path / "empty"
    empty.mkdir()
    for these, error in [
        (folders[:1], ConfigurationError),
        ([folders[0], folders[0]], ConfigurationError),
        ([folders[0], empty], MediaError),
        ([folders[0], tmp_path / "nowhere"], MediaError),
    ]:
        with pytest.raises(error):
            make_study(these, out)
    with pytest.raises(ConfigurationError):
        make_study(folders, out, raters=0)
    (empty / "others.mp4").write_bytes(b"")
    with pytest.raises(ConfigurationError, match="no video of one name"):
        make_study([folders[0], empty], out)
    assert not out.exists()
    with pytest.raises(OutputError):
        make_study(folders, folders[0])


def rows_of(study, rater, choose):
    """What a page saves; `choose` is told the models on the left and on the right."""
    key = StudyKey.read(study / "key.json")
    for number, trial in enumerate(data_of(study / f"raters/{rater}.html")["trials"], 1):
        models = [key.clips[trial[side]].model for side in ("left", "right")]
        for dimension in DIMENSIONS:
            choice = choose(dimension, *models)
            yield [key.study, rater, number, trial["left"], trial["right"], dimension, choice]


def save(path, rows, head=HEAD):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([head, *rows])
    return path


def prefers(model):
    return lambda _, left, __: "left" if left == model else "right"


def test_votes_are_decoded_wherever_a_model_stood(study, tmp_path):
    def choose(dimension, left, right):
        return "same" if dimension == "lip-sync" else prefers("secretive")(dimension, left, right)

    files = [
        save(tmp_path / f"{r}.csv", rows_of(study, f"rater-0{r}", choose)) for r in range(1, 8)
    ]
    found = analyse(files, study / "key.json")
    assert len(found.raters) == 7
    rows = {row.dimension: row for row in found.preferences}
    assert set(rows) == set(DIMENSIONS)
    for dimension, row in rows.items():
        assert (row.first, row.second, row.votes) == ("plain", "secretive", 21)
        assert (row.raters, row.items) == (7, 3)
        expected = 0.5 if dimension == "lip-sync" else 0.0
        assert tuple(row.wins) == (expected, expected, expected)
        assert row.winner == ""  # three items are as few as three raters
        enough = replace(row, items=6)
        assert enough.winner == ("" if dimension == "lip-sync" else "secretive")
        assert replace(enough, raters=5).winner == ""
    json.loads(found.write(tmp_path).read_text(), parse_constant=pytest.fail)
    assert "before 6 raters and 6 items" in str(found)


def test_a_rater_who_always_says_left_decides_nothing(study, tmp_path):
    files = [
        save(tmp_path / f"{r}.csv", rows_of(study, f"rater-0{r}", lambda *_: "left"))
        for r in range(1, 9)
    ]
    for row in analyse(files, study / "key.json").preferences:
        assert row.wins.low < 0.5 < row.wins.high
        assert row.winner == ""


def test_few_raters_on_few_items_prefer_nobody(study, tmp_path):
    file = save(tmp_path / "v.csv", rows_of(study, "rater-01", prefers("plain")))
    for row in analyse([file], study / "key.json").preferences:
        assert tuple(row.wins) == (1.0, 1.0, 1.0)
        assert row.winner == ""


def changed(rows, **cells):
    first = list(rows[0])
    for name, cell in cells.items():
        first[HEAD.index(name)] = cell
    return [first, *rows[1:]]


def first_of_next_item(rows):
    return next(row[3] for row in rows if row[2] == 2)


MALFORMED = {
    "another study": (lambda rows: changed(rows, study="x"), "give its own key"),
    "unknown rater": (lambda rows: changed(rows, rater="x"), "unknown rater 'x'"),
    "unknown clip": (lambda rows: changed(rows, left="x"), "unknown left 'x'"),
    "unknown choice": (lambda rows: changed(rows, choice="both"), "unknown choice 'both'"),
    "unknown dimension": (lambda rows: changed(rows, dimension="x"), "unknown dimension 'x'"),
    "a clip against itself": (lambda rows: changed(rows, left=rows[0][4]), "no pair"),
    "two items": (lambda rows: changed(rows, left=first_of_next_item(rows)), "no pair"),
    "an answer twice": (lambda rows: [*rows, rows[0]], "answered this before"),
    "a cell too few": (lambda rows: [rows[0][:-1], *rows[1:]], "has not 7 cells"),
    "a cell too many": (lambda rows: [[*rows[0], "x"], *rows[1:]], "has not 7 cells"),
    "nothing": (lambda rows: [], "no votes"),
}


@pytest.mark.parametrize(("spoil", "reason"), MALFORMED.values(), ids=MALFORMED)
def test_malformed_votes_are_refused(spoil, reason, study, tmp_path):
    rows = list(rows_of(study, "rater-01", prefers("plain")))
    file = save(tmp_path / "votes.csv", spoil(rows))
    with pytest.raises(ManifestError, match=reason):
        analyse([file], study / "key.json")


def test_files_that_are_no_votes_and_no_key_are_refused(study, tmp_path):
    (tmp_path / "noise.csv").write_bytes(bytes(range(256)))
    save(tmp_path / "head.csv", [], head=["a", "b"])
    save(tmp_path / "blank.csv", [], head=[])
    for name in ("noise.csv", "head.csv", "blank.csv", "nowhere.csv"):
        with pytest.raises(ManifestError, match=name):
            analyse([tmp_path / name], study / "key.json")
    for text in ("[]", "{", '{"study": 1}'):
        (tmp_path / "key.json").write_text(text)
        with pytest.raises(ManifestError, match="key of a study"):
            analyse([], tmp_path / "key.json")


def test_the_command_writes_pages_and_sums_votes_up(folders, tmp_path, capsys):
    out = tmp_path / "study"
    words = [*map(str, folders[:2]), "--out", str(out), "--raters", "6", "--trials", "2"]
    assert main(["pages", *words]) == 0
    assert "3 videos of each of 2, for 6 raters" in capsys.readouterr().out
    for rater in StudyKey.read(out / "key.json").raters:
        save(out / f"{rater}.csv", rows_of(out, rater, prefers("plain")))
    votes = [str(path) for path in out.glob("*.csv")]
    key = ["--key", str(out / "key.json")]
    assert main(["votes", *votes, *key, "--out", str(tmp_path)]) == 0
    rows = json.loads((tmp_path / "study.json").read_text())["preferences"]
    assert [(row["votes"], row["wins"]["value"]) for row in rows] == [(12, 1.0)] * 6
    assert "study.json" in capsys.readouterr().out


def test_the_command_refuses_in_one_line_and_writes_over_no_input(study, tmp_path, capsys):
    votes = str(save(tmp_path / "study.json", rows_of(study, "rater-01", prefers("plain"))))
    before = (tmp_path / "study.json").read_bytes()
    key = str(study / "key.json")
    for words, told in [
        (["pages", "a", "b"], "give --out too"),
        (["votes", votes], "give --key too"),
        (["votes", votes, "--key", str(tmp_path / "nowhere")], "nowhere"),
        (["votes", votes, "--key", key, "--out", str(tmp_path)], "would replace votes 1"),
    ]:
        assert main(words) == 2
        error = capsys.readouterr().err
        assert told in error
        assert error.count("\n") == 1
    assert (tmp_path / "study.json").read_bytes() == before


def counts_of(table):
    """Choices a row a rater, NaN for none, to counts a row an item."""
    values = sorted({each for row in table for each in row if not math.isnan(each)})
    columns = zip(*table, strict=True)
    return torch.tensor([[float(list(c).count(v)) for v in values] for c in columns]).double()


def alpha_by_pairs(table):
    """Krippendorff's alpha from the list of all pairs of answers, with no formula of counts."""
    items = [[each for each in c if not math.isnan(each)] for c in zip(*table, strict=True)]
    items = [each for each in items if len(each) > 1]
    pool = [answer for each in items for answer in each]
    observed = sum(
        sum(a != b for a, b in combinations(each, 2)) * 2 / (len(each) - 1) for each in items
    ) / len(pool)
    apart = [a != b for a, b in combinations(pool, 2)]
    return 1 - observed / (sum(apart) / len(apart)) if any(apart) else math.nan


def test_alpha_is_that_of_the_example_in_the_literature():
    # Krippendorff, "Computing Krippendorff's alpha-reliability" (2011), section C: 0.743.
    rows = ["123321412...", "1233224125.3", ".3332342251.", "12332441251."]
    table = [[math.nan if each == "." else float(each) for each in row] for row in rows]
    assert float(alpha(counts_of(table))) == pytest.approx(0.743, abs=5e-4)
    assert alpha_by_pairs(table) == pytest.approx(0.743, abs=5e-4)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(2, 5).flatmap(
        lambda items: st.lists(
            st.lists(st.sampled_from([0.0, 0.5, 1.0, math.nan]), min_size=items, max_size=items),
            min_size=2,
            max_size=5,
        )
    )
)
def test_alpha_is_that_of_all_pairs(table):
    items = [[each for each in c if not math.isnan(each)] for c in zip(*table, strict=True)]
    assume(any(len(each) > 1 for each in items))
    assert float(alpha(counts_of(table))) == pytest.approx(alpha_by_pairs(table), nan_ok=True)


def test_alpha_at_its_extremes():
    agreed = torch.tensor([[4.0, 0, 0], [0, 4, 0], [0, 0, 4]] * 3)
    assert tuple(agreement(agreed)) == (1, 1, 1)
    opposed = torch.tensor([[1.0, 0, 1]] * 6)
    assert float(alpha(opposed)) < 0
    assert math.isnan(float(alpha(torch.tensor([[3.0, 0, 0]] * 4))))


def test_the_interval_of_wins_redraws_raters_and_items():
    dice = np.random.default_rng(3)
    people, things = dice.normal(size=(9, 1)), dice.normal(size=(1, 12))
    scores = (0.4 + people + things + dice.normal(size=(9, 12)) > 0).astype(float)
    scores[dice.random(scores.shape) < 0.2] = np.nan
    drawn = [
        np.nanmean(scores[dice.integers(0, 9, 9)][:, dice.integers(0, 12, 12)]) for _ in range(4000)
    ]
    low, high = np.percentile(drawn, [2.5, 97.5])
    found = wins(torch.tensor(scores))
    assert found.value == pytest.approx(np.nanmean(scores))
    assert found.low == pytest.approx(low, abs=0.1 * (high - low))
    assert found.high == pytest.approx(high, abs=0.1 * (high - low))
    assert math.isnan(wins(torch.ones(1, 1)).low)
