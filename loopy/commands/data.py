"""`loopy data`: what is in a clip store."""

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from jsonargparse import ArgumentError, ArgumentParser

from loopy.data.index import build_index
from loopy.data.sound import read_audio
from loopy.data.store import ClipStore
from loopy.data.video import Video
from loopy.errors import ConfigurationError
from loopy.models.folder import load_part
from loopy.models.latents import decode_latents
from loopy.preprocess import report as reports
from loopy.timing import SAMPLE_RATE_HZ

AT_ONCE = 16


def report(store: Path, *, out: Path | None = None) -> None:
    """Prints counts, hours, reasons of rejection, size and times of work.

    Args:
        store: The store.
        out: A folder for report.json and histograms.png.
    """
    found = reports.report(store)
    print(found)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / "report.json").write_text(json.dumps(found.as_json(), indent=1) + "\n")
        reports.histograms(found, out / "histograms.png")
        print(f"report and histograms: {out}")


def view(
    store: str,
    *,
    parts: Path,
    clip: str | None = None,
    video: Path | None = None,
    sheet: Path | None = None,
) -> None:
    """Decodes a clip of a store: a video with its sound, and a contact sheet.

    Args:
        store: The store.
        parts: Folder with the ``vae`` that made it.
        clip: Its id; the first one if not given.
        video: Where the video goes (mp4, mov, mkv). It has sound while its source is where it was.
        sheet: Where the contact sheet goes.

    Raises:
        ConfigurationError: Neither is asked for.
        StoreError: No such clip, or it is damaged.
    """
    if video is None and sheet is None:
        raise ConfigurationError("say where it goes: --video out.mp4, --sheet out.png, or both")
    opened = ClipStore.open(store)
    chosen = opened.index.id(0) if clip is None else clip
    about = opened.about(chosen)
    latents = opened.read(chosen, {"latents": slice(None)})["latents"].float()
    vae = load_part(parts, "vae")
    pictures = torch.cat([decode_latents(vae, part) for part in latents.split(AT_ONCE)])
    frames = ((pictures.permute(0, 2, 3, 1) + 1) * 127.5).round().to(torch.uint8)
    shown = Video(frames, audio=_sound(about["provenance"]))
    if video is not None:
        shown.save(video)
    if sheet is not None:
        shown.sheet().save(sheet)
    print(f"clip {chosen}: {about['frames']} frames of {about['provenance']['source']}")


def index(store: Path, *, validation: float = 0.02, test: float = 0.02) -> None:
    """Indexes a store anew, after shards of a job or a change of the splits.

    Args:
        store: The store.
        validation: Share of the people held out to follow a training.
        test: Share of the people held out for the end.
    """
    print(f"{len(build_index(store, validation=validation, test=test))} clips")


def run(words: Sequence[str]) -> None:
    """Runs the verb with the words behind it.

    Raises:
        ConfigurationError: Words that make no sense.
    """
    verbs = {"report": report, "view": view, "index": index}
    parser = ArgumentParser(prog="loopy data", description=__doc__, exit_on_error=False)
    commands = parser.add_subcommands()
    for name, function in verbs.items():
        inner = ArgumentParser(description=(function.__doc__ or "").partition("\n")[0])
        inner.add_function_arguments(function, as_positional=True)
        commands.add_subcommand(name, inner)
    try:
        given = parser.parse_args(list(words[1:]))
    except ArgumentError as error:
        reason = " ".join(str(error).split())
        raise ConfigurationError(f"{reason}; see loopy data --help") from error
    verbs[given.subcommand](**given[given.subcommand].as_dict())


def _sound(provenance: dict) -> torch.Tensor | None:
    source = Path(provenance["source"])
    if not source.is_file():
        return None
    start, stop = (round(provenance[k] * SAMPLE_RATE_HZ) for k in ("start_s", "stop_s"))
    return read_audio(source)[start:stop]
