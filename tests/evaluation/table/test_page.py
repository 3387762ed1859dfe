"""The page of an evaluation, as a browser and somebody before it meet it."""

import base64
import json
import math
from html.parser import HTMLParser

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from loopy.data.media.video import Video
from loopy.errors import OutputError
from loopy.evaluation.table.charts import BOTTOM, LEFT, RIGHT, TOP, charts, overview, round_steps
from loopy.evaluation.table.page import EMBED_BYTES, worst_first, write_page
from loopy.evaluation.table.results import ColumnInfo, Results, SetFigure, VideoResult

EVIL = "<script>alert('x')</script>"
NEEDS = "not available: needs the weights of SyncNet"
VOID = {"meta", "img", "input", "line", "path", "circle", "br"}


class Page(HTMLParser):
    """What a reader sees, and what the browser fetches or plays."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.words, self.hidden = [], [], [], {}
        self.feed(text)
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("script", "style"):
            self.hidden[self.tags[-1][1].get("id", self.open[-1])] = data
        else:
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())

    def all(self, tag, **wanted):
        return [a for name, a in self.tags if name == tag and wanted.items() <= a.items()]


@pytest.fixture
def folder(tmp_path):
    frames = torch.randint(256, (8, 32, 32, 3), dtype=torch.uint8)
    Video(frames).save(tmp_path / "made one.mp4")
    Video(frames).save(tmp_path / "real.mp4")
    Image.new("RGB", (64, 32)).save(tmp_path / "strip.png")
    return tmp_path


@pytest.fixture
def results():
    columns = (
        ColumnInfo("FID", "lower", "", "Inception v3"),
        ColumnInfo("Sync-C", "higher", "", "SyncNet"),
        ColumnInfo("lips", "higher", "", "our judge"),
        ColumnInfo("Glo", "truth", "px²"),
        ColumnInfo("offset", "", "frames"),
    )
    curves = {"mouth": [0.0, math.nan, 1.0, 0.5], "mouth, real": [0.0, 0.5, 1.0, 0.5]}
    videos = (
        VideoResult("good", {"lips": 0.9, "Glo": 3.0}, {"Glo": 3.1}, {"drift": [0.0, 1.0]}),
        VideoResult(
            "bad",
            {"lips": 0.1, "Glo": 9.0},
            {"Glo": 3.1},
            curves | {"drift": [0.0, 9.0]},
            "made one.mp4",
            "real.mp4",
            "strip.png",
        ),
        VideoResult("mute", problem="mute.mp4 has no sound"),
        VideoResult(EVIL, {"lips": 0.5, "Glo": 3.3, "offset": 2.0}, {"Glo": 3.1}, video="gone.mp4"),
    )
    return Results(
        EVIL, "toon-b", 5, columns, videos,
        {
            "FID": SetFigure(33.2, n=3, note="N = 3 and 3: singular"),
            "lips": SetFigure(0.5, 0.1, 0.9, 3),
            "Glo": SetFigure(5, 3, 9, 3),
        },
        {"Glo": SetFigure(3.1, 3, 3.2, 3)},
        {"Sync-C": NEEDS},
    )  # fmt: skip


def shown(results, folder, **options):
    return Page(write_page(results, folder, **options).read_text(encoding="utf-8"))


def test_the_table_has_intervals_numbers_and_real_figures(results, folder):
    text = shown(results, folder).text
    assert "lips our judge higher 0.5000 [0.1000, 0.9000] 3" in text
    assert "Glo px² as real 5.000 [3.000, 9.000] 3 3.100 [3.000, 3.200]" in text
    assert "FID Inception v3 N = 3 and 3: singular lower 33.20 - 3 - -" in text
    assert f"Without a figure: Sync-C Sync-C {NEEDS}" in text
    assert "4 videos, 1 of them not judged; seed 5" in text
    assert "Not judged: mute.mp4 has no sound" in text


def test_the_worst_come_first(results, folder):
    cards = shown(results, folder).all("details", **{"class": "card"})
    assert [card["data-name"] for card in cards] == ["mute", "bad", EVIL, "good"]


def test_nothing_is_fetched_and_nothing_runs_that_is_not_ours(results, folder):
    page = shown(results, folder)
    addresses = [a[name] for _, a in page.tags for name in ("src", "href") if name in a]
    assert addresses
    assert all(each.startswith(("data:", "#", "gone")) for each in addresses)
    assert not page.all("link")
    assert len(page.all("script")) == 2
    [policy] = page.all("meta", **{"http-equiv": "Content-Security-Policy"})
    assert policy["content"].startswith("default-src 'none'")
    assert "http" not in policy["content"]
    assert EVIL in page.text  # as text


def test_files_are_inside_the_page_as_they_are(results, folder):
    page = shown(results, folder)
    made, real = page.all("video")
    assert {"controls", "src"} <= made.keys() & real.keys()
    for film, name in ((made, "made one.mp4"), (real, "real.mp4")):
        kind, _, letters = film["src"].partition(";base64,")
        assert kind == "data:video/mp4"
        assert base64.b64decode(letters) == (folder / name).read_bytes()
    [strip] = page.all("img")
    assert strip["src"].startswith("data:image/png;base64,")
    assert strip["alt"]
    assert "3 files inside this page." in page.text
    assert "gone.mp4 is gone." in page.text


def test_beyond_the_bound_files_are_links_beside_the_page(results, folder):
    size = (folder / "strip.png").stat().st_size
    page = shown(results, folder, embed_bytes=size)
    assert [film["src"] for film in page.all("video")] == ["made%20one.mp4", "real.mp4"]
    assert page.all("img")[0]["src"].startswith("data:")
    assert "1 file inside this page; 2 beyond" in page.text
    assert EMBED_BYTES <= 100_000_000


def test_the_curves_of_mouth_and_drift_are_drawn(results, folder):
    page = shown(results, folder)
    paths = [a for a in page.all("path") if a["class"].startswith("curve")]
    assert [a["class"].split()[1] for a in paths] == ["made", "real", "made", "made", "made"]
    labels = [a["aria-label"] for a in page.all("svg", role="img")]
    assert [label.partition(" over")[0] for label in labels] == ["drift", "mouth", "drift", "drift"]


def test_it_works_by_keyboard_and_for_screen_readers(results, folder):
    page = shown(results, folder)
    assert page.tags[0] == ("html", {"lang": "en"})
    assert page.all("summary")
    assert all("tabindex" in a for a in page.all("div", **{"class": "wide"}))
    assert "sort" in [a.get("class") for a in page.all("button")]
    orders = json.loads(page.hidden["orders"])
    assert list(orders) == ["all columns", "lips", "Glo"]
    assert orders["lips"] == [2, 1, 3, 0]


def test_an_evaluation_without_videos_or_figures_is_a_page_too(folder):
    empty = Results("m", "s", 0, (ColumnInfo("x"),), (), {}, {}, {"x": NEEDS})
    assert NEEDS in shown(empty, folder).text


def test_a_folder_that_is_not_there_is_a_typed_error(results, tmp_path):
    with pytest.raises(OutputError):
        write_page(results, tmp_path / "nowhere")


VALUES = st.none() | st.floats(-100, 100) | st.just(math.nan)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(VALUES, VALUES, st.booleans()), max_size=8),
    st.sampled_from(["higher", "lower", "truth"]),
)
def test_every_order_has_all_videos_and_falls(rows, better):
    videos = tuple(
        VideoResult(
            f"v{i}",
            {"x": value} if value is not None else {},
            {"x": real} if real is not None else {},
            problem="broken" * broken,
        )
        for i, (value, real, broken) in enumerate(rows)
    )
    orders = worst_first(Results("m", "s", 0, (ColumnInfo("x", better),), videos, {}))
    assert all(sorted(order) == list(range(len(rows))) for order in orders.values())
    for order in orders.values():
        broken = [rows[i][2] for i in order]
        assert broken == sorted(broken, reverse=True)
    bad = {"higher": lambda x, _: -x, "lower": lambda x, _: x, "truth": lambda x, y: abs(x - y)}
    known = [
        [math.nan if each is None else each for each in rows[i][:2]]
        for i in orders.get("x", [])
        if not rows[i][2]
    ]
    measured = [bad[better](*each) for each in known]
    measured = [each for each in measured if math.isfinite(each)]
    assert measured == sorted(measured, reverse=True)


def points(path):
    return [tuple(map(float, each.split())) for each in path.replace("M", "L").split("L")[1:]]


def test_a_gap_in_a_curve_is_a_gap():
    [chart] = charts({"mouth": [0.0, 1.0, math.nan, 1.0, 0.0]})
    [line] = chart.lines
    assert line.path.count("M") == 2
    assert [y for _, y in points(line.path)] == [BOTTOM, TOP, TOP, BOTTOM]
    assert charts({"mouth": [math.nan]}) == []


def test_both_curves_share_one_scale_and_the_ticks_fit_it():
    [chart] = charts({"mouth": [0.0, 1.0], "mouth, real": [0.0, 2.0]})
    real, made = chart.lines
    assert (real.label, made.label) == ("real", "made")
    assert points(made.path)[1] == (RIGHT, (TOP + BOTTOM) / 2)
    assert points(real.path) == [(LEFT, BOTTOM), (RIGHT, TOP)]
    assert {tick.label: tick.place for tick in chart.values}["1"] == (TOP + BOTTOM) / 2


def test_a_long_curve_keeps_its_spikes_in_few_points():
    curve = [0.0] * 15_000
    curve[7001], curve[7002] = 1.0, -1.0
    [chart] = charts({"drift": curve})
    places = points(chart.lines[0].path)
    assert len(places) <= 600
    assert {TOP, BOTTOM} <= {y for _, y in places}


def test_the_overview_is_the_mean_of_videos_of_any_length():
    videos = [VideoResult("a", curves={"drift": [0.0, 2.0, 4.0]}),
              VideoResult("b", curves={"drift": [0.0, 0.0]}),
              VideoResult("c", curves={"mouth": [0.0], "mouth, real": [0.0]})]  # fmt: skip
    [chart] = overview(videos)
    [made] = chart.lines
    assert [y for _, y in points(made.path)] == [BOTTOM, 0.75 * BOTTOM + 0.25 * TOP, TOP]
    truth = [VideoResult(each.name, curves=each.curves | {"drift, real": [0.0]}) for each in videos]
    assert [line.label for line in overview(truth)[0].lines] == ["real", "made"]
    assert chart.band


@settings(max_examples=60)
@given(st.floats(-1e4, 1e4), st.floats(0, 1e4), st.integers(2, 8))
def test_ticks_are_few_and_round(low, span, most):
    steps = round_steps(low, low + span, most)
    assert 2 <= len(steps) <= max(most + 1, 3)
    assert steps == sorted(set(steps))
