"""`loopy data`: what is in a shot store."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from tqdm import tqdm

from loopy.commands.parsing import chosen, parsed
from loopy.data.media.container import open_media
from loopy.data.media.finished import content_hash
from loopy.data.media.outputs import check_outputs
from loopy.data.media.sound import SHORTEST_SAMPLES, read_audio
from loopy.data.media.video import contact_sheet, evenly_spread
from loopy.data.media.writer import open_writer
from loopy.data.store.index import CURRENT, FOLDER
from loopy.data.store.index_build import build_index
from loopy.data.store.rows import Rows
from loopy.data.store.shot_store import ShotStore
from loopy.data.store.shots import shot_path
from loopy.data.store.storage import is_address
from loopy.drafts import folder_of_results, output_errors, remove_dead_drafts, writing
from loopy.errors import ConfigurationError, CorruptFileError, MediaError, StoreError
from loopy.models.folder import load_part
from loopy.models.latents import decode_latents
from loopy.pixels import to_pixels
from loopy.preprocess import report as reports
from loopy.preprocess.ledger import readable_ledgers
from loopy.preprocess.motion_scale import motion_scale
from loopy.timing import SAMPLE_RATE_HZ
from loopy.typed_values import write_record

AT_ONCE = 16
"""Frames that are decoded together."""

ON_A_SHEET = 24


def report_store(store: Path, *, out: Path | None = None, clip_frames: int = 12) -> None:
    """Prints counts, hours, reasons of rejection, size, times of work, and how much faces move.

    Args:
        store: The store.
        out: A folder for report.json and histograms.png.
        clip_frames: Frames of a clip of the model to be trained; how much a face moves is told for
            that many.

    Raises:
        StoreError: There is no store, or a ledger is damaged.
        OutputError: The folder cannot be made or written.
        DependencyError: A folder is given, and matplotlib is not installed.
    """
    if out is not None:
        results = {"report": out / "report.json", "histograms": out / "histograms.png"}
        check_outputs(results, {"folder of the store": store / "clips", "index": store / FOLDER})
    found = reports.store_report(store)
    if (store / FOLDER / CURRENT).is_file():  # not before the last shard is done
        try:
            scale = motion_scale(ShotStore.open(store), clip_frames=clip_frames)
            found = replace(found, scale=scale)
        except StoreError as error:  # all else can be told
            found = replace(found, unmeasured=f"{error}; loopy data check {store} lists all damage")
    print(found)
    if out is not None:
        folder_of_results(out)
        write_record(out / "report.json", found.as_json())
        with writing(out / "histograms.png") as hidden:
            reports.histograms(found, hidden)
        print(f"report and histograms: {out}")


def view_shot(
    store: str,
    *,
    parts: Path,
    clip: str | None = None,
    video: Path | None = None,
    sheet: Path | None = None,
) -> None:
    """Decodes a shot of a store: a video with its sound, and a contact sheet.

    Only a few frames are in memory at a time.

    Args:
        store: The store.
        parts: Folder with the ``vae`` that made it.
        clip: Its id; the first one if not given.
        video: Where the video goes (mp4, mov, mkv). It has sound while its source is where it was,
            and the same to the byte: a store of somebody else plays no other file of yours.
        sheet: Where the contact sheet goes.

    Raises:
        ConfigurationError: Neither is asked for.
        StoreError: No such shot, or it is damaged.
        OutputError: Video or sheet cannot be written there.
    """
    if video is None and sheet is None:
        raise ConfigurationError("say where it goes: --video out.mp4, --sheet out.png, or both")
    opened = ShotStore.open(store)
    if not len(opened):
        raise StoreError(f"{store} has no shots to show; see loopy data report {store}")
    shot = opened.index.id(0) if clip is None else clip
    about = opened.about(shot)
    results = {"video": video, "sheet": sheet}
    results = {word: path for word, path in results.items() if path is not None}
    inputs = {"vae of --parts": parts / "vae", "source": about["provenance"]["source"]}
    url = urlsplit(store)
    if url.scheme == "file" or not is_address(store):
        inputs["store"] = url2pathname(url.path) if is_address(store) else store
    check_outputs(results, inputs)
    remove_dead_drafts(*(path.parent for path in results.values()))
    frames, vae = about["frames"], load_part(parts, "vae")

    def pictures(rows: Rows) -> UInt8[Tensor, "f h w 3"]:
        latents = opened.read(shot, {"latents": rows})["latents"].float()
        shown = decode_latents(vae, latents).permute(0, 2, 3, 1)
        return to_pixels(shown)

    if video is not None:
        sound, words = _sound(about["provenance"])
        with open_writer(video, sound=sound) as writer:
            for start in range(0, frames, AT_ONCE):
                writer.write(pictures(slice(start, start + AT_ONCE)))
        print(words)
    if sheet is not None:
        spread = evenly_spread(frames, ON_A_SHEET).split(AT_ONCE)
        laid_out = contact_sheet(torch.cat([pictures(rows) for rows in spread]))
        # ValueError: a suffix that is no picture's
        with writing(sheet) as hidden, output_errors(sheet, ValueError):
            laid_out.save(hidden)
    print(f"shot {shot}: {frames} frames of {about['provenance']['source']}")


def check_store(store: str, *, remove: bool = False) -> int:
    """Compares every row of a store with its checksum, and lists what is damaged.

    The shots are those of the index and those that ledgers keep. A damaged ledger, or a row of the
    index that holds no id, is listed too.

    Args:
        store: The store.
        remove: Delete the shots that are damaged: the next `loopy preprocess` makes them again.

    Returns:
        The exit code: 1 if anything is damaged.

    Raises:
        ConfigurationError: Files of a bucket shall be deleted.
        StoreError: There is no store, or its index cannot be read.
        OutputError: A damaged shot cannot be deleted.
    """
    if remove and is_address(store):
        raise ConfigurationError(f"{store} is in a bucket: damaged files are listed, not deleted")
    opened = ShotStore.open(store)
    ledgers, faults = ([], []) if is_address(store) else readable_ledgers(store)
    outcomes = [(shot, ledger.source) for ledger in ledgers for shot in ledger.shots]
    shots = {shot.shot: source for shot, source in outcomes if shot.status == "kept"}
    for row in range(len(opened.index)):
        try:
            shots.setdefault(opened.index.id(row), "")
        except StoreError as error:
            faults.append(error)
    for fault in faults:
        print(fault)
    damaged = deleted = 0
    for clip in (bar := tqdm(sorted(shots), desc="shots", unit="shot")):
        try:
            opened.check(clip)
        except StoreError as error:
            damaged += 1
            bar.write(f"{clip} of {shots[clip] or _source(opened, clip)}: {error}")
            if remove and isinstance(error, CorruptFileError):  # not what is only out of reach
                path = Path(store) / shot_path(clip)
                with output_errors(path):
                    path.unlink(missing_ok=True)
                deleted += 1
    cure = f", {deleted} deleted: run loopy preprocess again" if deleted else ""
    print(f"{bar.n} shots, {damaged} damaged{cure}")
    return int(bool(damaged or faults))


def index_store(store: Path, *, validation: float | None = None, test: float | None = None) -> int:
    """Indexes a store anew, after shards of a job or a change of the splits.

    Clips that no ledger names are left out, where the store has ledgers; so are those that cannot
    be read, which are listed.

    Args:
        store: The store.
        validation: Share of the people held out to follow a training; that of the index which is
            there, or 0.02, if not given.
        test: Share of the people held out for the end, likewise.

    Returns:
        The exit code: 1 if shots cannot be read.

    Raises:
        StoreError: There is no store, a ledger is damaged, or not one shot can be read.
        OutputError: The index cannot be written.
    """
    damaged = list[StoreError]()
    keep, shares = reports.listed_shots(store), {"validation": validation, "test": test}
    made = build_index(store, keep=keep, left_out=damaged.append, **shares)
    for error in damaged:
        print(f"left out: {error}")
    print(f"{len(made)} shots{f', {len(damaged)} left out' if damaged else ''}")
    return int(bool(damaged))


def run(words: Sequence[str]) -> int | None:
    """Runs the verb with the words behind it.

    Returns:
        The exit code, where it is not 0: 1 if a check, or an index, found damage.
    """
    functions = {
        "report": report_store,
        "view": view_shot,
        "check": check_store,
        "index": index_store,
    }
    name = chosen(functions, words[1:], verb="data")
    return functions[name](**parsed(functions[name], words[2:], verb=f"data {name}"))


def _source(store: ShotStore, clip: str) -> str:
    """The video of a shot, which may be damaged."""
    try:
        return store.about(clip)["provenance"]["source"]
    except StoreError:
        return "an unknown video"


def _sound(provenance: dict[str, Any]) -> tuple[Float[Tensor, " samples"] | None, str]:
    """What is heard in the span of a shot, if anything, and in words where it is from, or why not.

    A header may name any file of this disk: only that which the shot was made of is opened.
    """
    source = Path(provenance["source"])
    if not source.is_file():
        return None, f"no sound: {source} is not there"
    try:
        same = content_hash(source, "video") == provenance["source_hash"]
    except (OSError, MediaError) as error:
        return None, f"no sound: {source} cannot be read ({error})"
    if not same:
        return None, f"no sound: {source} is not the file that the shot was made of"
    with open_media(source, "sound") as container:
        if not container.streams.audio:
            return None, f"no sound: {source} has none"
    samples = read_audio(source, zero="pictures")
    start, stop = (
        round(min(max(provenance[name], 0) * SAMPLE_RATE_HZ, len(samples)))
        for name in ("start_s", "stop_s")
    )
    if stop - start < SHORTEST_SAMPLES:
        return None, f"no sound: {source} is silent there"
    return samples[start:stop], f"sound: {source}, from {provenance['start_s']:.2f} s on"
