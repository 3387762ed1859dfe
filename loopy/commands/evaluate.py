"""`loopy evaluate`: a model to figures, each beside its ceiling and its floor."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from jsonargparse import ArgumentError, ArgumentParser

from loopy.commands.animate import usable
from loopy.data.video import Video
from loopy.errors import ConfigurationError, OutputError
from loopy.evaluation.report import SHEET_TAKES, Report, sheet, sheet_rows
from loopy.evaluation.toon import film, score
from loopy.evaluation.tracker import Tracker, read_card
from loopy.pipeline import LoopyPipeline


def evaluate(
    benchmark: Literal["toon"],
    *,
    model: str = "toon",
    pairs: int = 8,
    seconds: float = 4.0,
    seed: int = 0,
    out: Path | None = None,
    device: str = "cpu",
) -> None:
    """Measures how well a model speaks, on faces and voices that no training saw.

    Args:
        benchmark: Which one: toon, drawn talkers whose true mouth opening is known.
        model: A model that comes with loopy, a model folder, or a hub id (owner/name).
        pairs: How many held-out faces, each with a voice of its own.
        seconds: Length of each talk.
        seed: Of the talks and of the model's noise; 0 is the one to report.
        out: A folder for report.json, sheet.png (a row of truth over a row of what the model made)
            and a video of each talk, truth on the left; without it only the table is printed.
        device: Where the model computes, for example cpu or cuda.

    Raises:
        LoopyError: No such model, or the folder cannot be written.
    """
    if out is not None:
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{out} cannot be a folder ({error.strerror})") from error
    pipe = LoopyPipeline.from_pretrained(model).to(usable(device))
    tracker = Tracker.from_pretrained()
    tracks, rows = [], []
    for take in film(pipe, tracker, pairs=pairs, seconds=seconds, seed=seed):
        tracks.append(take.tracks)
        rows.append(sheet_rows(take))
        if out is not None:
            both = torch.cat([take.truth, take.made], 2)
            Video(both, audio=take.talk.audio).save(out / f"{len(rows) - 1:02d}.mp4")
    report = Report(model, seconds, seed, read_card()["accuracy"], score(tracks))
    print(report)
    if out is not None:
        (out / "report.json").write_text(json.dumps(report.as_json(), indent=2) + "\n")
        sheet(rows[:SHEET_TAKES]).save(out / "sheet.png")
        print(f"report, sheet and videos: {out}")


def run(words: Sequence[str]) -> None:
    """Runs the verb with the words behind it.

    Raises:
        ConfigurationError: Words that make no sense.
    """
    parser = ArgumentParser(prog="loopy evaluate", description=__doc__, exit_on_error=False)
    parser.add_function_arguments(evaluate, as_positional=True)
    try:
        options = parser.parse_args(list(words[1:]))
    except ArgumentError as error:
        reason = " ".join(str(error).split())
        raise ConfigurationError(f"{reason}; see loopy evaluate --help") from error
    evaluate(**options.as_dict())
