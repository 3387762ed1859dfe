"""`loopy evaluate`: figures of a model, with their ceilings and floors."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from jsonargparse import ArgumentParser, Namespace

from loopy.commands.evaluate_person import evaluate_person
from loopy.commands.evaluate_sets import evaluate_set, evaluate_videos
from loopy.commands.parsing import chosen, parsed, read_words
from loopy.data.media.outputs import check_outputs
from loopy.devices import Precision, dtype_of
from loopy.diffusion.options import SamplingOptions, named_with
from loopy.drafts import folder_of_results, writing
from loopy.errors import ConfigurationError
from loopy.evaluation.sets.layouts import SETS
from loopy.evaluation.table.compare import compare
from loopy.evaluation.toon.conditions import (
    CLIPS,
    QUICK_CLIPS,
    condition_sensitivity,
    held_out_clips,
)
from loopy.evaluation.toon.measure import Probes, measure_talks
from loopy.evaluation.toon.report import Report, sheet
from loopy.evaluation.toon.rows import ToonMeasurements, row_results
from loopy.evaluation.toon.talks import scenes
from loopy.models.folder import read_places
from loopy.models.recogniser import Recogniser
from loopy.models.tracker import Tracker, unread
from loopy.pipeline import LoopyPipeline
from loopy.typed_values import write_record

MOVED = {"--study": "pages", "--votes": "votes"}
"""Older words, and what `tools.study` calls them."""


def evaluate(
    benchmark: Literal["toon"],
    *,
    model: str = "toon",
    out: Path | None = None,
    quick: bool = False,
    long: bool = False,
    seconds: float | None = None,
    videos: bool = False,
    seed: int = 0,
    workers: int | None = None,
    device: str = "cpu",
    dtype: Precision = "float32",
    sampling: SamplingOptions = SamplingOptions(),  # noqa: B008 (frozen)
) -> None:
    """Measures how well a model speaks, on faces and voices that no training saw.

    Args:
        benchmark: Which one: toon, drawn talkers whose every frame is known.
        model: A model that comes with loopy, a model folder, or a hub id (owner/name).
        out: A folder for report.json and sheet.png (a row of truth over a row of what the model
            made, worst talks first); without it only the table is printed.
        quick: A look at 5 talks in place of 28. Not to be reported.
        long: Also a talk of ten minutes.
        seconds: Cut the talks to this length, for an even quicker look; 2 at least.
        videos: Also a video of each talk in the folder, truth on the left.
        seed: Of the talks and of the model's noise; 0 is the one to report.
        workers: Processes, of one thread each; the number of cores if not given. 0 works
            in this process, the only way with a GPU. The figures do not depend on it.
        device: Where the model computes, for example cpu or cuda.
        dtype: Precision of the networks that denoise.
        sampling: What to sample otherwise than the model itself says.

    Raises:
        LoopyError: No such model, or the folder cannot be written.
    """
    if videos and out is None:
        raise ConfigurationError("videos need a folder; give --out too")
    if out is not None:
        results = {"report": out / "report.json", "sheet": out / "sheet.png"}
        check_outputs(results, read_places(model))
        folder_of_results(out)
    talks = scenes(seed, quick=quick, endless=long, seconds=seconds)
    workers = _workers(workers, device)
    pipe = LoopyPipeline.from_pretrained(model).to(device, dtype=dtype_of(dtype))
    pipe.settings = replace(pipe.settings, sampling=pipe.settings.sampling.altered(sampling))
    probes = Probes(Tracker.from_pretrained(), Recogniser.from_pretrained())
    cards = {probe.name: probe.card() for probe in probes}
    talks[0].talk()  # a missing voice is said here, in one line, not by a worker
    measured = measure_talks(pipe, probes, talks, videos=out if videos else None, workers=workers)
    count = QUICK_CLIPS if quick else CLIPS
    sensitivity = condition_sensitivity(
        pipe, held_out_clips(pipe, clips=count, seed=seed, workers=workers)
    )
    measurements = ToonMeasurements(measured, pipe.settings.clip_frames, sensitivity)
    report = Report(
        named_with(sampling, model, dtype),
        seed,
        {name: len(group) for name, group in measured.items()},
        {name: card["accuracy"] for name, card in cards.items()},
        row_results(measurements, seed=seed, unread=unread(cards[Tracker.name])),
    )
    print(report)
    if out is not None:
        write_record(out / "report.json", report.as_json())
        with writing(out / "sheet.png") as hidden:
            sheet(measurements).save(hidden)
        print(f"report and sheet{' and videos' * videos}: {out}")


def run(words: Sequence[str]) -> None:
    """Runs what the word after the verb names."""
    functions = {"toon": evaluate, "person": evaluate_person}
    functions |= {**dict.fromkeys(SETS, evaluate_set), "videos": evaluate_videos}
    functions["--compare"] = _compare
    way = [word for word in words if word in ("--compare", *MOVED)]  # other options may be first
    if way:
        _compare(words)
        return
    name = chosen(functions, words[1:], verb="evaluate")
    flat = {"sampling": SamplingOptions}
    if name == "videos":
        evaluate_videos(**parsed(evaluate_videos, words[2:], verb="evaluate videos"))
    elif name == "person":
        evaluate_person(**parsed(evaluate_person, words[1:], verb="evaluate person", flat=flat))
    elif name == "toon":
        evaluate(**parsed(evaluate, words[1:], verb="evaluate toon", flat=flat))
    else:
        verb = f"evaluate {name}"
        evaluate_set(**parsed(evaluate_set, words[1:], verb=verb, flat=flat))


def _compare(words: Sequence[str]) -> None:
    """Compares two evaluations."""
    if moved := [word for word in words if word in MOVED]:
        raise ConfigurationError(
            f"studies are now in the repository: python -m tools.study {MOVED[moved[0]]} --help"
        )
    parser = ArgumentParser(
        prog="loopy evaluate --compare", description=_compare.__doc__, exit_on_error=False
    )
    add = parser.add_argument
    add("--compare", nargs="*", type=Path, help="Folders of two evaluations of one test set.")
    add("--out", type=Path, help="A folder for comparison.json.")
    add("--seed", type=int, default=0, help="Of intervals.")
    options = Namespace(**read_words(parser, words[1:]))
    if len(options.compare) != 2:
        raise ConfigurationError(f"--compare of {len(options.compare)} folders; give two")
    found = compare(*options.compare, seed=options.seed)
    print(found)
    if options.out is not None:
        folder_of_results(options.out)
        print(f"\n{found.write(options.out)}")


def _workers(wanted: int | None, device: str) -> int:
    """Processes that make and measure talks; none where the model is on a GPU."""
    cpu = device.startswith("cpu")
    if wanted is None:
        return (os.cpu_count() or 1) if cpu else 0
    if wanted < 0 or (wanted and not cpu):
        raise ConfigurationError(
            f"{wanted} workers on {device}; give 0 or more, and 0 where the device is no cpu"
        )
    return wanted
