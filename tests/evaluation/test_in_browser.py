"""Page and study in a real browser, where playwright and Chromium are installed.

Neither is a dependency: `pip install playwright`, and Debian's chromium-headless-shell.
"""

import csv
import shutil

import pytest
import torch

from loopy.data.media.video import Video
from loopy.evaluation.table.page import write_page
from loopy.evaluation.table.results import ColumnInfo, Results, VideoResult
from tools.study.pages import DIMENSIONS, StudyKey, make_study, trials_of

pytestmark = pytest.mark.slow
playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium-headless-shell", "chromium"))), None)


@pytest.fixture
def page():
    """A tab; anything on its console, and any request beyond files, fails the test."""
    if CHROMIUM is None:
        pytest.skip("no Chromium")
    options = ["--no-sandbox", "--disable-gpu", "--autoplay-policy=no-user-gesture-required"]
    told = []
    with playwright.sync_playwright() as browsers:
        browser = browsers.chromium.launch(executable_path=CHROMIUM, args=options)
        tab = browser.new_context(accept_downloads=True).new_page()
        tab.on("console", lambda message: told.append(message.text))
        tab.on("pageerror", lambda error: told.append(str(error)))
        tab.on("request", lambda r: None if r.url[:5] in ("file:", "data:") else told.append(r.url))
        yield tab
        browser.close()
    assert told == []


@pytest.fixture
def folders(tmp_path):
    """Two evaluations of four videos of a second."""
    for place, model in enumerate(("model-a", "model-b")):
        folder = tmp_path / model
        folder.mkdir()
        videos = []
        for i in range(4):
            frames = torch.full((25, 64, 64, 3), 40 * i + 20 * place, dtype=torch.uint8)
            Video(frames, audio=0.1 * torch.randn(16_000)).save(folder / f"v{i}.mp4")
            values = {"lips": 0.2 * i, "drift": 4.0 - i} | ({"blinks": 9.0} if i else {})
            curves = {"mouth": [0.0, 1.0] * 12 + [0.0], "mouth, real": [0.5] * 25}
            film = f"v{i}.mp4"
            videos.append(VideoResult(f"v{i}", values, {}, curves, video=film, real_video=film))
        columns = (
            ColumnInfo("lips", "higher"),
            ColumnInfo("drift", "higher"),
            ColumnInfo("blinks", "lower"),
        )
        Results(model, "set", 0, columns, tuple(videos), {}).write(folder)
    return [tmp_path / "model-a", tmp_path / "model-b"]


def until(page, videos, state):
    """Waits; the pages forbid playwright's own way, which evaluates strings in them."""
    for _ in range(100):
        if page.eval_on_selector_all(videos, f"all => all.every(each => each.{state})"):
            return
        page.wait_for_timeout(100)
    pytest.fail(f"{videos} never {state}")


def names(page, what):
    return page.eval_on_selector_all(what, "all => all.map(each => each.dataset.name)")


@pytest.mark.parametrize("embed_bytes", [10**8, 0])
def test_the_page_sorts_filters_and_plays(page, folders, embed_bytes):
    page.goto(write_page(Results.read(folders[0]), folders[0], embed_bytes=embed_bytes).as_uri())
    page.select_option("#order", "lips")
    assert names(page, "#cards > details") == ["v0", "v1", "v2", "v3"]
    page.select_option("#order", "drift")
    assert names(page, "#cards > details") == ["v3", "v2", "v1", "v0"]
    page.focus("#filter")
    page.keyboard.type("V2")
    assert page.inner_text("#shown") == "1 of 4 videos"
    assert page.locator("#cards > details:visible").count() == 1
    page.fill("#filter", "")
    page.get_by_text("As a table").press("Enter")
    for order in (["v1", "v2", "v3", "v0"], ["v1", "v2", "v3", "v0"]):  # v0 has none
        page.get_by_role("button", name="blinks").press("Enter")
        assert names(page, "#videos tbody tr") == order
    page.get_by_role("button", name="lips").press("Enter")
    page.get_by_role("button", name="lips").press("Enter")
    assert names(page, "#videos tbody tr") == ["v3", "v2", "v1", "v0"]
    card = page.locator("#video-1")
    card.get_by_role("button", name="Play both").press("Enter")
    until(page, "#video-1 video", "ended")
    assert card.locator("video").evaluate_all("all => all.map(v => v.muted)") == [False, True]
    assert float(card.locator(".playhead").first.get_attribute("x1")) > 500


def watch(page, side):
    page.locator(f"#{side}").evaluate("video => video.play()")
    until(page, f"#{side}", "ended")


def answer(page, choices):
    for place, choice in enumerate(choices):
        page.locator("fieldset").nth(place).locator(f"input[value={choice}]").check()


def test_a_rater_votes_and_saves(page, folders, tmp_path):
    key = make_study(folders, tmp_path / "study", raters=2, trials=2)
    page.goto((tmp_path / "study/raters/rater-02.html").as_uri())
    page.get_by_role("button", name="Begin").press("Enter")
    assert page.evaluate("document.activeElement.textContent") == "Pair 1 of 2"
    first = ["left", "right", "same", "left", "left", "right"]
    answer(page, first)
    assert page.locator("#next").is_disabled()
    assert "Watch both videos" in page.inner_text("#hint")
    page.locator("#left").evaluate("video => video.play()")
    page.locator("#right").evaluate("video => video.play()")
    until(page, "#left", "paused")  # one voice at a time
    watch(page, "left")
    watch(page, "right")
    page.locator("#next").press("Enter")
    assert page.inner_text("#title") == "Pair 2 of 2"
    assert page.locator("input:checked").count() == 0
    page.locator("fieldset").nth(1).locator("input").first.focus()
    page.keyboard.press("ArrowRight")  # to "no difference"
    page.reload()
    page.get_by_role("button", name="Begin").click()
    assert page.inner_text("#title") == "Pair 2 of 2"
    assert page.locator("input:checked").get_attribute("value") == "same"
    page.locator("#back").click()
    assert page.locator("input:checked").count() == 6
    page.locator("#next").click()
    answer(page, ["same"] * 6)
    watch(page, "left")
    watch(page, "right")
    page.locator("#next").click()
    with page.expect_download() as download:
        page.locator("#finish").click()
    download.value.save_as(tmp_path / "votes.csv")
    assert download.value.suggested_filename == "rater-02.csv"
    with (tmp_path / "votes.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["choice"] for row in rows] == [*first, *["same"] * 6]
    assert [row["dimension"] for row in rows] == [*DIMENSIONS] * 2
    shown = [(row["left"], row["right"]) for row in rows[::6]]
    assert shown == trials_of(StudyKey.read(tmp_path / "study/key.json"), "rater-02")[:2]
    assert {row["study"] for row in rows} == {key.study}
