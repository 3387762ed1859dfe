import sys
from bisect import bisect
from fractions import Fraction

import numpy as np
import pytest

from loopy.data.media.video_reader import read_frames
from loopy.errors import DependencyError, MediaError
from loopy.preprocess.scenes import SceneOptions, Shot, find_shots

SIZE = (96, 64)
COLOURS = [(200, 40, 40), (40, 60, 200), (60, 190, 60), (230, 230, 230), (20, 20, 20)]


def film_of(cuts, *, colours=COLOURS, slide=0.0):
    """A painter: another colour from each cut on, over a pattern that slides in px a second."""

    def paint(time, width, height):
        rows, columns = np.mgrid[:height, :width]
        pattern = 12 * np.sin((columns + slide * float(time)) / 5) + 8 * np.cos(rows / 4)
        colour = np.array(colours[bisect(cuts, time)])
        return (colour + pattern[..., None]).clip(0, 255).astype(np.uint8)

    return paint


def steady(rate, count):
    return [index / Fraction(rate) for index in range(count)]


@pytest.fixture
def film(tmp_path, write_film):
    def write(times, cuts, *, suffix="mp4", start_s=Fraction(0), **look):
        return write_film(
            tmp_path / f"film.{suffix}",
            times,
            size=SIZE,
            start_s=start_s,
            paint=film_of(cuts, **look),
        )

    return write


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
@pytest.mark.parametrize("rate", [Fraction(24000, 1001), Fraction(30), Fraction(60)])
def test_cuts_are_found_to_the_frame(film, rate, suffix):
    times = steady(rate, 120)
    path = film(times, [times[41], times[90]], suffix=suffix, start_s=Fraction(5, 4))
    shots = find_shots(path)
    firsts = [float(shot.start_s) for shot in shots]
    assert firsts == pytest.approx([0, times[41], times[90]], abs=1.1e-3)
    lasts = [float(shot.last_s) for shot in shots]
    assert lasts == pytest.approx([times[40], times[89], times[119]], abs=1.1e-3)


def test_variable_rates_keep_their_times(film):
    steps = np.random.default_rng(0).integers(20, 90, 80).cumsum().tolist()
    times = [Fraction(0), *(Fraction(step, 1000) for step in steps)]
    shots = find_shots(film(times, [times[33]]))
    assert [shot.start_s for shot in shots] == [0, times[33]]


def test_frames_of_a_shot_show_no_other(film):
    times = steady(30, 90)
    path = film(times, [times[31], times[62]])
    shots = find_shots(path)
    assert len(shots) == 3
    taken = []
    for shot, colour in zip(shots, COLOURS, strict=False):
        means = read_frames(path, shot.frames()).float().mean((1, 2)).numpy()
        assert np.abs(means - colour).max() < 25
        taken += shot.frames()
    assert taken == sorted(set(taken))
    assert len(taken) >= 75 - 3  # at most one frame of the grid is lost at a cut


def test_a_shot_of_136_frames_gives_136():
    for rate, count in ((25, 136), (30, 163), (60, 326), (24, 131)):
        assert len(Shot(Fraction(0), Fraction(count - 1, rate)).frames()) >= 135
    assert len(Shot(Fraction(0), Fraction(135, 25)).frames()) == 136


def test_a_video_without_a_cut_is_one_shot(film):
    path = film(steady(25, 60), [], slide=60)  # the camera moves
    assert find_shots(path) == [(0, Fraction(59, 25))]


def test_two_cuts_soon_after_each_other_are_both_found(film):
    times = steady(25, 90)
    path = film(times, [times[40], times[44]])
    shots = find_shots(path)
    assert [shot.start_s for shot in shots] == [0, times[40], times[44]]


def test_a_faint_cut_stands_out_of_a_still_picture(film):
    times = steady(25, 60)
    near = [(100, 120, 140), (118, 142, 150)]
    path = film(times, [times[30]], colours=near)
    found = [shot.start_s for shot in find_shots(path, SceneOptions(faint_threshold=8))]
    assert found == [0, times[30]]
    assert len(find_shots(path, SceneOptions(faint_threshold=60))) == 1
    assert len(find_shots(path, SceneOptions(threshold=8, faint_threshold=60))) == 2


def test_bad_files_and_a_missing_library_are_named(film, tmp_path, monkeypatch):
    (tmp_path / "words.mp4").write_text("no video at all")
    with pytest.raises(MediaError, match="cannot be decoded"):
        find_shots(tmp_path / "words.mp4")
    path = film(steady(25, 30), [])
    monkeypatch.setitem(sys.modules, "scenedetect.common", None)
    with pytest.raises(DependencyError, match=r"loopy-portrait\[preprocess\]"):
        find_shots(path)
