"""`loopy evaluate celebv-hq`, `ravdess`, `hdtf`, `open-set`, `videos`: the table of the paper."""

import sys
from collections.abc import Sequence
from math import nan
from pathlib import Path
from typing import Literal

from loopy.data.media.finished import content_hash
from loopy.data.media.outputs import check_outputs
from loopy.devices import Precision, dtype_of, usable
from loopy.diffusion.options import SamplingOptions, named_with
from loopy.drafts import folder_of_results
from loopy.errors import ConfigurationError, MediaError, MetricError
from loopy.evaluation.features.extract import ExtractorSet
from loopy.evaluation.features.faces import FindPoints, Points
from loopy.evaluation.features.networks import EvaluationModels, build_extractors
from loopy.evaluation.features.people import people_extractors
from loopy.evaluation.features.toon import toon_extractors
from loopy.evaluation.sets.draw import DrawOptions, open_draw
from loopy.evaluation.sets.generate import (
    BOUNDS,
    Maker,
    bound_pairs,
    folder_pairs,
    made_pairs,
)
from loopy.evaluation.sets.layouts import PORTRAIT_FOLDER, SETS, SOUND_FOLDER
from loopy.evaluation.table.columns import COLUMNS, PEOPLE_COLUMNS, TOON_COLUMNS, Column
from loopy.evaluation.table.evaluate import VideoEvaluator
from loopy.evaluation.table.page import write_page
from loopy.evaluation.table.results import FILE, Results
from loopy.evaluation.table.text import aligned, results_table, short, write_csv
from loopy.models.folder import read_places
from loopy.pipeline import LoopyPipeline
from loopy.preprocess.landmarks import estimator
from loopy.preprocess.landmarks.precomputed import tracks_path


def evaluate_set(
    test_set: Literal["celebv-hq", "ravdess", "hdtf", "open-set"],
    *,
    data: Path,
    out: Path,
    model: str = "toon",
    draw: DrawOptions = DrawOptions(),  # noqa: B008 (frozen)
    weights: EvaluationModels = EvaluationModels(),  # noqa: B008 (frozen)
    toons: bool = False,
    bounds: bool = False,
    seeds: int = 1,
    seed: int = 0,
    sampling: SamplingOptions = SamplingOptions(),  # noqa: B008 (frozen)
    device: str = "cpu",
    dtype: Precision = "float32",
) -> None:
    """Makes the videos of a test set of the paper, judges them and prints the table.

    Started again, it goes on where it stopped.

    Args:
        test_set: Which one.
        data: The folder with its files; docs/evaluation.md has the layout.
        out: The folder of the results: the draw, videos, results.json, report.html and tables.
        model: A model that comes with loopy, a model folder, or a hub id (owner/name).
        draw: Which videos.
        weights: Files of the networks that judge.
        toons: The faces are toons: also judged by the judges of the package. A model of toons says
            so itself.
        bounds: Also ceilings and floors: the real videos, the still portrait, another sound.
        seeds: Videos of each portrait and sound, for diversity; the first one is judged.
        seed: Of the draw, of the model's noise and of the intervals; 0 is the one to report.
        sampling: What to sample otherwise than the model itself says.
        device: Where to compute, for example cpu or cuda.
        dtype: Precision of the networks that denoise.

    Raises:
        LoopyError: No such model, no files, or the folder cannot be written or is one that is read.
    """
    if seeds < 1:
        raise ConfigurationError(f"{seeds} seeds make no video; give 1 or more")
    inputs = {"data": data}
    if SETS[test_set].crossed:
        inputs = {name: data / name for name in (PORTRAIT_FOLDER, SOUND_FOLDER)}
    check_outputs({"results": out / FILE}, inputs | read_places(model))
    folder_of_results(out)
    chosen = open_draw(SETS[test_set], data, out, seed=seed, options=draw)
    for name, reason in chosen.left_out.items():
        print(f"loopy: left out: {name}: {reason}", file=sys.stderr)
    pipe = LoopyPipeline.from_pretrained(model).to(device, dtype=dtype_of(dtype))
    maker = Maker(pipe, data, seed, sampling)
    toons = toons or pipe.settings.toons
    extractors = extractors_of(weights, toons=toons, device=device)
    evaluator = VideoEvaluator(out, extractors, columns_of(toons=toons))
    pairs = made_pairs(maker, chosen.items, out, seeds=seeds)
    of_set = {"test_set": test_set, "seed": seed, "total": len(chosen.items)}
    results = evaluator.results(pairs, model=named_with(sampling, model, dtype), **of_set)
    tell(results, out)
    if bounds:
        beside = {"made": results}
        for bound in BOUNDS:
            place = folder_of_results(out / "bounds" / bound)
            evaluator = VideoEvaluator(place, extractors, evaluator.columns, out)
            pairs = bound_pairs(maker, chosen.items, out, bound)
            beside[bound] = evaluator.results(pairs, model=bound, **of_set)
            beside[bound].write(place)
        print("\n".join(["", *side_by_side(beside)]))


def evaluate_videos(
    *,
    made: Path,
    out: Path,
    real: Path | None = None,
    name: str = "",
    weights: EvaluationModels = EvaluationModels(),  # noqa: B008 (frozen)
    landmarks: Literal["dwpose", "precomputed"] = "dwpose",
    toons: bool = False,
    seed: int = 0,
    device: str = "cpu",
) -> None:
    """Judges videos that anybody made, and prints the table.

    Args:
        made: The folder of the videos.
        out: The folder of the results: results.json, report.html and tables.
        real: The folder of the real ones, of the same names.
        name: Who made them; the folder's name if not given.
        weights: Files of the networks that judge.
        landmarks: Found by DWPose, or known: beside a.mp4 lies a.mp4.tracks.safetensors.
        toons: The faces are toons: also judged by the judges of the package.
        seed: Of the intervals.
        device: Where to compute, for example cpu or cuda.

    Raises:
        LoopyError: No videos, or the folder cannot be written.
    """
    folder_of_results(out)
    pairs = list(folder_pairs(made, real))
    files = [path for pair in pairs for path in (pair.made, pair.real) if path is not None]
    tracks = files if landmarks == "precomputed" else None
    extractors = extractors_of(weights, toons=toons, device=device, tracks=tracks)
    evaluator = VideoEvaluator(out, extractors, columns_of(toons=toons))
    name = name or made.resolve().name
    tell(evaluator.results(pairs, model=name, test_set="videos", seed=seed), out)


def tell(results: Results, out: Path) -> None:
    """Writes results in every form, and prints the table.

    Raises:
        MediaError: No video was judged.
        OutputError: The folder cannot be written.
    """
    results.write(out)
    write_csv(results, out)
    write_page(results, out)
    print(results_table(results))
    print(f"\nresults.json, report.html, table.csv, videos.csv: {out}")
    if all(video.problem for video in results.videos):
        first = results.videos[0]
        raise MediaError(
            f"none of {len(results.videos)} videos was judged; for one, {first.name}: "
            f"{first.problem}"
        )


def side_by_side(beside: dict[str, Results]) -> list[str]:
    """A table of the figures of several results, and what each of them is."""
    first = next(iter(beside.values()))
    figures = {name: each.figures for name, each in beside.items()} | {"real": first.real_figures}
    rows = [
        [column.name, *(short(each[column.name].value if column.name in each else nan)
                        for each in figures.values())]
        for column in first.columns
        if column.name in first.figures
    ]  # fmt: skip
    legend = [f"{name}: {BOUNDS[name]}" for name in beside if name in BOUNDS]
    return [*aligned(["what", *figures], rows), "", *legend]


def extractors_of(
    weights: EvaluationModels, *, toons: bool, device: str, tracks: Sequence[Path] | None = None
) -> ExtractorSet:
    """All extractors that the given files allow, with the judges of toons, or else of people.

    Landmarks are found by DWPose, or known: `tracks` are the videos that have theirs beside them.
    """
    found_by, points = "dwpose", _dwpose(weights, device)
    if tracks is not None:
        known = [tracks_path(video) for video in tracks if tracks_path(video).is_file()]
        found_by, points = " ".join(content_hash(path, "track") for path in known), known_track
    own = build_extractors(weights, points=points, found_by=found_by, device=str(usable(device)))
    return own | (toon_extractors() if toons else people_extractors())


def columns_of(*, toons: bool) -> tuple[Column, ...]:
    """What is figured of toons, or of people."""
    return COLUMNS + (TOON_COLUMNS if toons else PEOPLE_COLUMNS)


def _dwpose(weights: EvaluationModels, device: str) -> Points | None:
    """DWPose; None without its files."""
    if weights.detector is None and weights.pose is None:
        return None
    if weights.detector is None or weights.pose is None:
        raise ConfigurationError(
            "landmarks need both --weights.detector (yolox_l.onnx) and --weights.pose "
            "(dw-ll_ucoco_384.onnx)"
        )
    found = estimator("dwpose", detector=weights.detector, pose=weights.pose, device=device)
    return lambda _: lambda frames: found(frames).points


def known_track(video: Path | None) -> FindPoints:
    """The track in the file of a video; it goes on by itself from call to call.

    Raises:
        MetricError: A single picture.
        MediaError: The video has no track, or one that does not fit.
    """
    if video is None:
        raise MetricError("a portrait has no track; find landmarks by DWPose")
    found = estimator("precomputed", video=video)
    return lambda frames: found(frames).points
