"""Which column sees which damage: `python tests/benchmarks/sensitivity.py`; some minutes.

Toon talks that no training saw are filmed as drawn, and once for each damage; all are judged
against the films as drawn, written once more. A cell is the change of a column against the films as
drawn, in standard errors of this change: over the pairs of videos, or of both Frechet distances.
"""

import argparse
import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional

from loopy.commands.evaluate_sets import extractors_of
from loopy.data.media.video_reader import iterate_frames
from loopy.data.media.writer import open_writer
from loopy.evaluation.features.networks import EvaluationModels
from loopy.evaluation.sets.generate import folder_pairs
from loopy.evaluation.table.columns import COLUMNS, TOON_COLUMNS
from loopy.evaluation.table.evaluate import VideoEvaluator
from loopy.evaluation.table.results import Results
from loopy.evaluation.table.text import short
from loopy.evaluation.toon.talks import held_out_talk, pixels
from loopy.metrics.beat import beat_alignment, head_speed, speech_energy
from loopy.synthetic.face import CONTROLS
from loopy.synthetic.movement import POSE_LIMITS
from loopy.synthetic.talker import Talk
from loopy.timing import sample_span
from tools.judges.augmentation import blur

FIRST = 20_000
"""Number of the first talk; no other benchmark has these."""
LATE_FRAMES, CAST = 3, (24.0, 0.0, -24.0)
"""How late the sound comes, and what the last frame has more of red, green and blue, in 1/255."""
LINE = 2.0
"""Standard errors above which a column is said to have moved."""

Frames = UInt8[Tensor, "f h w 3"]
Film = tuple[Frames, Float[Tensor, " samples"]]


def drawn(talk: Talk) -> Frames:
    """All frames of a talk."""
    return torch.cat(
        [pixels(talk.frames(some)) for some in torch.arange(len(talk.motion)).split(32)]
    )


def late(sound: Float[Tensor, " samples"]) -> Float[Tensor, " samples"]:
    """The sound after some frames of silence, as long as before."""
    return functional.pad(sound, (sample_span(LATE_FRAMES)[0], 0))[: len(sound)]


def blurred(frames: Frames) -> Frames:
    """Half the size and back."""
    return pixels(blur(frames.permute(0, 3, 1, 2) / 127.5 - 1))


def tinted(frames: Frames) -> Frames:
    """A cast of colour that grows in time, by as much in each frame."""
    grows = torch.linspace(0, 1, len(frames))[:, None, None, None]
    return (frames + grows * torch.tensor(CAST)).round().clamp(0, 255).to(torch.uint8)


def frozen(talk: Talk) -> Talk:
    """The head as in the first frame, while the face goes on."""
    controls = talk.controls.clone()
    pose = [CONTROLS.index(name) for name in POSE_LIMITS]
    controls[:, pose] = controls[:1, pose]
    return replace(talk, controls=controls)


DAMAGES: Mapping[str, Callable[[Talk, Frames, Talk], Film]] = {
    "other voice": lambda talk, frames, other: (frames, other.audio),
    "still portrait": lambda talk, frames, other: (frames[:1].expand_as(frames), talk.audio),
    "3 frames late": lambda talk, frames, other: (frames, late(talk.audio)),
    "blur": lambda talk, frames, other: (blurred(frames), talk.audio),
    "tint": lambda talk, frames, other: (tinted(frames), talk.audio),
    "frozen head": lambda talk, frames, other: (drawn(frozen(talk)), talk.audio),
}
"""Of a talk, its frames as drawn, and the next talk."""

_HEAD = {f"{name} (toon)" for name in ("Glo", "Exp", "DGlo", "DExp", "Glo/eyes", "Exp/eyes")}
EXPECTED: Mapping[str, set[str]] = {
    # The pictures are the same. The best shift is any, far from 0 in the mean.
    "other voice": {"Sync-C (toon)", "Sync-D (toon)", "Offset (toon)", "Beats (toon)"},
    # Nothing moves, so the drifts of a moving head vanish; that of sharpness has no sign to lose.
    "still portrait": {
        "Sync-C (toon)", "Sync-D (toon)", "Offset (toon)", "FVD (toon)", "FID (toon)",
        "E-FID (toon)", *_HEAD, "Identity (toon)", "Colour drift", "Smooth, linear",
        "Blinks (toon)", "Beats (toon)",
    },
    # C and D are at the best of all shifts. The head is out of step with the voice too.
    "3 frames late": {"Offset (toon)", "Beats (toon)"},
    # Faces look like others; less changes from frame to frame. No column is sharpness as such.
    "blur": {"FID (toon)", "Identity (toon)", "Smooth, linear"},
    # The same amount is added in each frame: edges stay, and the mean of two frames is right.
    "tint": {"FID (toon)", "Identity (toon)", "Colour drift"},
    # What turns with the head goes too: lids seen from aside (Exp), colours, likeness to the start.
    "frozen head": {
        "FVD (toon)", "FID (toon)", *_HEAD, "Identity (toon)", "Colour drift", "Smooth, linear",
        "Beats (toon)",
    },
}  # fmt: skip
"""Columns that each damage should move, by their definitions; written before the first run, the
offsets of another voice and a still portrait when that column lost its sign."""


def write(path: Path, frames: Frames, sound: Float[Tensor, " samples"]) -> None:
    """A film as a file, in a folder that need not be there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open_writer(path, sound=sound) as writer:
        writer.write(frames)


def film(out: Path, talks: Sequence[Talk]) -> None:
    """Writes every talk as drawn, once more ("real"), and with each damage."""
    for number, talk in enumerate(talks):
        name, frames = f"{number:02d}.mp4", drawn(talk)
        other = talks[(number + 1) % len(talks)]
        write(out / "base" / name, frames, talk.audio)
        shown = torch.stack(
            [torch.from_numpy(each) for each in iterate_frames(out / "base" / name)]
        )
        write(out / "real" / name, shown, talk.audio)
        for damage, spoil in DAMAGES.items():
            write(out / damage / name, *spoil(talk, frames, other))


def results_of(out: Path) -> dict[str, Results]:
    """What `loopy evaluate videos --toons --real real` says of each folder."""
    extractors = extractors_of(EvaluationModels(), toons=True, device="cpu")
    found = {}
    for name in ("base", *DAMAGES):
        place = out / "judged" / name
        place.mkdir(parents=True, exist_ok=True)
        evaluator = VideoEvaluator(
            place, extractors, COLUMNS + TOON_COLUMNS, out / "judged" / "base"
        )
        pairs = folder_pairs(out / name, out / "real")
        found[name] = evaluator.results(pairs, model=name, test_set="videos", seed=0)
        found[name].write(place)
    return found


def change(base: Results, damaged: Results, column: str) -> float:
    """Of a column, in standard errors; NaN where fewer than two films have a figure."""
    if column not in base.figures or column not in damaged.figures:
        return math.nan
    if base.figures[column].n < 2 or damaged.figures[column].n < 2:
        return math.nan  # one video has no spread
    pairs = [
        (one.values[column], other.values[column])
        for one, other in zip(base.videos, damaged.videos, strict=True)
        if column in one.values and column in other.values
    ]
    if pairs:
        before, after = torch.tensor(pairs, dtype=torch.float64).T
        apart = after - before
        step, error = float(apart.mean()), float(apart.std()) / math.sqrt(len(apart))
    else:  # of the whole set; the lower end may be cut off at 0
        before, after = base.figures[column], damaged.figures[column]
        step = after.value - before.value
        error = math.hypot(*((each.high - each.value) / 1.96 for each in (before, after)))
    if step == 0:
        return 0.0
    return step / error if error else math.copysign(math.inf, step)


def cell(value: float, *, expected: bool) -> str:
    """Bold above the line; with a mark where something else was expected."""
    if math.isnan(value):
        return "none"
    text = f"{value:.{1 if abs(value) >= 10 else 2}f}" if value else "0"
    if abs(value) > 99:
        text = "> 99" if value > 0 else "< -99"
    moved = abs(value) > LINE
    return (f"**{text}**" if moved else text) + " !" * (moved != expected)


def report(found: Mapping[str, Results]) -> list[str]:
    """The table, then the cells that say otherwise than expected."""
    base, otherwise = found["base"], list[str]()
    lines = [f"| column | as drawn | {' | '.join(DAMAGES)} |", f"|{'---|' * (2 + len(DAMAGES))}"]
    for name in (each.name for each in base.columns if each.name in base.figures):
        cells = {
            damage: cell(change(base, found[damage], name), expected=name in EXPECTED[damage])
            for damage in DAMAGES
        }
        otherwise += [f"{damage}, {name}: {text}" for damage, text in cells.items() if "!" in text]
        lines.append(
            f"| {name} | {short(base.figures[name].value)} | {' | '.join(cells.values())} |"
        )
    return [*lines, "", "otherwise than expected:", *otherwise]


def true_beats(*, talks: int = 60, seconds: float = 8.0) -> str:
    """Beats where nobody has to read the head, and of more talks: is it the column or the noise?"""
    drawn_from = range(2 * FIRST, 2 * FIRST + talks)
    spoken = [held_out_talk(0, number, seconds=seconds) for number in drawn_from]
    rows = []
    for number, talk in enumerate(spoken):
        speed, other = head_speed(talk.motion), spoken[(number + 1) % talks]
        heard = (
            speech_energy(sound, frames=len(speed))
            for sound in (talk.audio, other.audio, late(talk.audio))
        )
        rows.append([beat_alignment(speed, energy).gain for energy in heard])
    gains = torch.tensor(rows, dtype=torch.float64)
    apart = gains[:, 1:] - gains[:, :1]
    voice, shift = (apart.mean(0) / apart.std(0) * math.sqrt(talks)).tolist()
    own = short(float(gains[:, 0].mean()))
    return (
        f"Beats of true tracks, {talks} talks of {seconds:g} s: {own}; "
        f"other voice {voice:.1f}, 3 frames late {shift:.1f} standard errors"
    )


def main(words: Sequence[str] | None = None) -> None:
    """Films, judges, prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--talks", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--out", type=Path, help="keeps films and results there")
    given = parser.parse_args(words)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        out = given.out or Path(folder)
        numbers = range(FIRST, FIRST + given.talks)
        film(out, [held_out_talk(0, number, seconds=given.seconds) for number in numbers])
        found = results_of(out)
    print(*report(found), "", f"{given.talks} talks of {given.seconds:g} s", true_beats(), sep="\n")


if __name__ == "__main__":
    main()
