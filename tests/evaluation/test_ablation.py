"""Runs of an ablation: what a run is judged on, and what the table makes of made-up runs."""

import csv
import math
from dataclasses import asdict, replace

import pytest
import torch
from safetensors.torch import save_file

from loopy.errors import ConfigurationError
from loopy.evaluation.ablation import judge as ablation_judge
from loopy.evaluation.ablation.judge import judge_run
from loopy.evaluation.ablation.table import as_text, tabulate, write_table
from loopy.evaluation.features.extract import ExtractorSet
from loopy.evaluation.table.columns import TOON_COLUMNS
from loopy.evaluation.table.evaluate import MADE, REAL, VideoEvaluator
from loopy.evaluation.table.results import ColumnInfo, Results, SetFigure, VideoResult
from loopy.evaluation.toon.conditions import held_out_clips
from loopy.segments import SegmentLayout
from loopy.typed_values import finite

UP, DOWN = ColumnInfo("Up", "higher"), ColumnInfo("Down", "lower")
LIKE, SIZE = ColumnInfo("Like", "truth"), ColumnInfo("Size", "")
WHOLE = ColumnInfo("Whole", "lower")
TALKS = 8
HARD = [0.0, 3.0, -2.0, 5.0, 1.0, -4.0, 2.0, 7.0]
"""How hard each talk is: the same for all, and far more than variants differ."""


def run_of(changes, *, talks=TALKS, real=None):
    """A run whose figure of talk i is 10 + HARD[i] + the change of its column (a number, or a list
    of one for each talk)."""
    columns = [UP, DOWN, LIKE, SIZE]
    real = {} if real is None else {"Like": real}
    videos = []
    for i in range(talks):
        of_talk = {
            column.name: each[i] if isinstance(each, list) else each
            for column in columns
            for each in [changes.get(column.name, 0.0)]
        }
        values = {name: 10 + HARD[i] + change for name, change in of_talk.items()}
        shown = {name: value + HARD[i] for name, value in real.items()}
        videos.append(VideoResult(f"{i:04d}", values, shown))
    means = {
        column.name: SetFigure(sum(v.values[column.name] for v in videos) / talks, n=talks)
        for column in columns
    }
    means["Whole"] = SetFigure(2.0 + changes.get("Whole", 0.0), n=talks)
    own = {name: SetFigure(sum(v.real[name] for v in videos) / talks, n=talks) for name in real}
    return Results(
        "m", "made up", 0, (*columns, WHOLE), tuple(videos), means, own, judges={"talks": 1}
    )


def against(changes, *others, **options):
    """The variant's row: full models of two seeds that are alike, and variants by their changes."""
    full = {seed: run_of({}, **options) for seed in range(2)}
    own = {seed: run_of(each, **options) for seed, each in enumerate([changes, *others])}
    return of_variant(tabulate({"other": own, "full": full}), "other")


def of_variant(rows, variant):
    """Rows of a variant by figure."""
    return {row.figure: row for row in rows if row.variant == variant}


def test_a_difference_is_of_the_same_talk_and_of_the_mean_over_seeds():
    """Talks differ by far more than variants; the pairs take that out."""
    spread = [0.1, -0.1] * 4
    row = against({"Up": [0.5 + each for each in spread]}, {"Up": 0.7})
    assert row["Up"].seeds == pytest.approx({0: 12.0, 1: 12.2})
    assert row["Up"].value == pytest.approx(12.1)
    assert row["Up"].difference == pytest.approx(0.6)
    assert 0.54 < row["Up"].low < 0.6 < row["Up"].high < 0.66  # half of it: one seed has no spread
    assert row["Down"].difference == 0
    assert row["Down"].verdict == "undecided"


@pytest.mark.parametrize(
    ("column", "change", "verdict"),
    [
        ("Up", 1.0, "better"),
        ("Up", -1.0, "worse"),
        ("Down", 1.0, "worse"),
        ("Down", -1.0, "better"),
        ("Size", 1.0, "more"),
        ("Size", -1.0, "less"),
        ("Like", 2.0, "better"),  # the real ones have 2 more
        ("Like", 4.5, "worse"),  # beyond them, and farther than the full model was
    ],
)
def test_the_direction_of_a_column_says_what_is_better(column, change, verdict):
    spread = [0.05, -0.05] * 4
    each = {column: [change + small for small in spread]}
    assert against(each, each, real=12.0)[column].verdict == verdict


def test_seeds_that_disagree_decide_nothing():
    """Their mean is beyond the noise of talks: only the seeds know that it was luck of training."""
    row = against({"Up": 1.0}, {"Up": -0.4})
    assert row["Up"].low > 0
    assert row["Up"].verdict == "seeds disagree"


def test_few_talks_decide_nothing():
    assert against({"Up": 1.0}, {"Up": 1.0}, talks=5)["Up"].verdict == "too few talks"


def test_only_seeds_of_both_are_compared():
    full = {seed: run_of({}) for seed in (0, 1)}
    own = {seed: run_of({"Up": change}) for seed, change in [(2, 9.0), (1, 1.0)]}
    row = of_variant(tabulate({"full": full, "other": own}), "other")["Up"]
    assert row.difference == pytest.approx(1.0)
    assert list(row.seeds) == [1, 2]
    alone = tabulate({"full": {0: run_of({})}, "other": {1: run_of({})}})
    assert math.isnan(of_variant(alone, "other")["Up"].difference)


def test_a_figure_without_talks_has_a_difference_and_no_verdict():
    row = against({"Whole": 1.0}, {"Whole": 2.0})
    assert row["Whole"].difference == pytest.approx(1.5)
    assert math.isnan(row["Whole"].low)
    assert row["Whole"].verdict == ""


def test_runs_that_do_not_compare_are_refused():
    full = run_of({})
    for other in (run_of({}, talks=7), replace(full, judges={"talks": 2})):
        with pytest.raises(ConfigurationError, match="other/seed_3 and full/seed_0 were judged on"):
            tabulate({"full": {0: full}, "other": {3: other}})
    with pytest.raises(ConfigurationError, match="no run was judged"):
        tabulate({})


def test_both_forms_of_the_table_hold_all_of_it(tmp_path):
    full = {seed: run_of({}, real=12.0) for seed in (0, 1)}
    own = {seed: run_of({"Up": 1.0}, real=12.0) for seed in (0, 1)}
    for results in own.values():
        del results.figures["Whole"]
    rows = tabulate({"other": own, "full": full})
    assert [row.variant for row in rows[:2]] == ["full", "other"]
    lines = as_text(rows).splitlines()
    (up,) = (line.split() for line in lines if line.startswith("Up") and "other" in line)
    assert up[1:] == [
        "higher",
        "other",
        "12.50",
        "0:12.50",
        "1:12.50",
        "1.000",
        "1.000",
        "1.000",
        "better",
        "-",
    ]
    with write_table(rows, tmp_path).open() as file:
        cells = {(row["variant"], row["figure"]): row for row in csv.DictReader(file)}
    assert float(cells["other", "Up"]["difference"]) == pytest.approx(1.0)
    assert cells["other", "Up"]["verdict"] == "better"
    assert cells["other", "Whole"]["value"] == ""
    assert float(cells["other", "Like"]["real"]) == pytest.approx(13.5)


def test_the_distance_of_a_set_is_shared_out_among_its_talks(tmp_path):
    """The mean is the distance, and the talk that makes it large has the largest share."""
    column = next(each for each in TOON_COLUMNS if each.name == "FID (toon)")
    evaluator = VideoEvaluator(tmp_path, ExtractorSet({}), [column])
    videos = []
    for i in range(6):
        name = f"{i:04d}"
        videos.append(VideoResult(name, real_video="there"))
        for what in (MADE, REAL):
            rows = torch.randn(40, 3, generator=torch.Generator().manual_seed(i))
            evaluator.cache_path(what, name).parent.mkdir(parents=True, exist_ok=True)
            far = 3.0 * (i == 4 and what == MADE)
            save_file(
                {"toon_face": rows + far}, evaluator.cache_path(what, name), {"problems": "{}"}
            )
    figure = evaluator.set_figure(column, videos, 0)
    results = Results("m", "s", 0, (column.info,), tuple(videos), {column.name: figure})
    ablation_judge._share(evaluator, column, results)
    shares = [video.values[column.name] for video in videos]
    assert sum(shares) / 6 == pytest.approx(figure.value)
    assert shares.index(max(shares)) == 4
    error = torch.tensor(shares).double().std() / 6**0.5  # of the mean: the jackknife's
    assert float(error) == pytest.approx((figure.high - figure.value) / 1.96, rel=1e-6)


def test_clips_are_the_same_for_every_layout(make_pipeline):
    """What comes before the clip differs; the clip, its sound and the portrait do not."""
    layouts = [
        SegmentLayout(2, 2, 2),
        SegmentLayout(4, 1, 1),
        SegmentLayout(2, 2, 2, mode="mean"),
        SegmentLayout(2, 2, 2, mode="random"),
        SegmentLayout(2, 2, 2, mode="near"),
    ]
    clips = [
        held_out_clips(make_pipeline(contract={"layout": layout}), clips=1, past_frames=10)
        for layout in layouts
    ]
    for one in clips[1:]:
        for name in ("latents", "reference", "audio", "landmarks", "measures", "weight"):
            torch.testing.assert_close(getattr(one, name), getattr(clips[0], name))
    past = [clip.motion_frames[0] for clip in clips]
    assert all(len(frames) == 4 for frames in past)
    torch.testing.assert_close(past[0][-1], past[1][-1])  # one frame a slot, both at distance 0
    assert not torch.equal(past[0][0], past[1][0])
    far, mean, near = (past[i][0] for i in (0, 2, 4))
    torch.testing.assert_close(mean, (far + near) / 2)  # of distances 5 and 4


@pytest.mark.weights
def test_a_run_is_judged_and_what_it_lacks_is_named(make_pipeline, tmp_path):
    """A model without audio-to-latents; looked at once more, nothing is filmed anew."""
    pipe = make_pipeline(sampling={"steps": 1})
    pipe.network.audio_to_latents = None
    pipe.save_pretrained(tmp_path / "model")
    (tmp_path / "run").mkdir()
    options = {"talks": 1, "seconds": 2.0, "clips": 2}

    def judged():
        folders = {"model": tmp_path / "model", "out": tmp_path / "run"}
        judge_run(**folders, shared=tmp_path / "truth", name="toy", **options)
        return Results.read(tmp_path / "run")

    results = judged()
    talk, *clips = results.videos
    assert talk.problem == ""
    assert {"Mouth opening, r", "Clip border", "Sync-D (toon)", "Glo (toon)"} <= set(talk.values)
    assert talk.real["Mouth opening, r"] > talk.values["Mouth opening, r"]
    assert [set(clip.values) for clip in clips] == [
        {"Past, mismatched", "Voice, mismatched", "Voice, in the keys"}
    ] * 2
    assert results.missing["Voice, in A2L"].startswith("not available")
    assert results.judges["talks"]["seconds"] == 2.0
    video = tmp_path / "run" / "videos" / "3000.mp4"
    before = video.stat().st_mtime_ns
    again = judged()
    assert video.stat().st_mtime_ns == before
    assert finite(asdict(again)) == finite(asdict(results))
