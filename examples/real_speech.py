"""How a model's mouth follows real recordings: a figure of opening over energy, and three numbers.

python examples/real_speech.py Front_Center.wav Rear_Left.wav  (docs/evaluation.md: more)
"""

from argparse import ArgumentParser, RawDescriptionHelpFormatter
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from loopy import LoopyPipeline
from loopy.data.media.sound import read_audio
from loopy.data.media.video import contact_sheet, evenly_spread
from loopy.evaluation.toon.tracks import correlation
from loopy.models.tracker import OUTPUTS, Tracker
from loopy.timing import FPS, SAMPLE_RATE_HZ

PAUSE_S = 0.5
SILENT = 0.05
"""Frames with less than this share of the loudest frame's energy are called silent."""
EXAMPLES = Path(__file__).parent


def join(sounds: list[Path]) -> Float[Tensor, " samples"]:
    """The sounds one after the other, with a pause before, between and behind them."""
    pause = torch.zeros(round(PAUSE_S * SAMPLE_RATE_HZ))
    return torch.cat([pause, *(part for path in sounds for part in (read_audio(path), pause))])


def energy(sound: Float[Tensor, " samples"], frames: int) -> Float[Tensor, " f"]:
    """Root mean square of the samples heard during each frame."""
    each = int(SAMPLE_RATE_HZ / FPS)
    heard = torch.zeros(frames * each)
    heard[: len(sound)] = sound[: len(heard)]
    return heard.view(frames, each).square().mean(1).sqrt()


def compare(loudness: Float[Tensor, " f"], opening: Float[Tensor, " f"]) -> dict[str, float]:
    """Correlation of the two, and the mean opening in voiced and in silent frames."""
    silent = loudness < SILENT * loudness.max()
    return {
        "correlation of opening and energy": float(correlation(loudness, opening)),
        "mean opening, voiced frames": float(opening[~silent].mean()),
        "mean opening, silent frames": float(opening[silent].mean()),
    }


def draw(
    loudness: Float[Tensor, " f"],
    opening: Float[Tensor, " f"],
    frames: UInt8[Tensor, "f H W 3"],
    out: Path,
) -> None:
    """Energy and opening over time on one axis, and a strip of frames below."""
    seconds = (torch.arange(len(frames)) + 0.5) / float(FPS)
    figure, (curves, strip) = plt.subplots(
        2, 1, figsize=(12, 4.5), height_ratios=(3, 1), layout="constrained"
    )
    curves.fill_between(seconds, loudness / loudness.max(), color="0.8", label="energy of sound")
    curves.plot(seconds, opening, color="C3", label="mouth opening, read by the tracker")
    curves.set(xlabel="seconds", ylabel="0 to 1", xlim=(0, len(frames) / float(FPS)))
    curves.legend(loc="upper right")
    strip.imshow(contact_sheet(frames[evenly_spread(len(frames), 16)], columns=16))
    strip.axis("off")
    figure.savefig(out, dpi=100)
    plt.close(figure)


def measure(
    sounds: list[Path], portrait: Path, pipeline: LoopyPipeline, tracker: Tracker, out: Path
) -> dict[str, float]:
    """Make the portrait speak, read its mouth, draw the figure; returns what `compare` finds."""
    sound = join(sounds)
    frames = pipeline(portrait, sound, seed=0).frames
    opening = tracker.track(frames)[:, OUTPUTS.index("open")]
    loudness = energy(sound, len(frames))
    draw(loudness, opening, frames, out)
    return compare(loudness, opening)


def main() -> None:
    """Read the options, measure, print."""
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("sounds", type=Path, nargs="+", help="recordings, in the order spoken")
    parser.add_argument("--portrait", type=Path, default=EXAMPLES / "portrait.png")
    parser.add_argument("--model", default="toon", help="an embedded model, a folder, or a hub id")
    parser.add_argument("--out", type=Path, default=Path("real_speech.png"), help="the figure")
    chosen = parser.parse_args()
    pipeline, tracker = LoopyPipeline.from_pretrained(chosen.model), Tracker.from_pretrained()
    found = measure(chosen.sounds, chosen.portrait, pipeline, tracker, chosen.out)
    print(*(f"{name}: {value:.2f}" for name, value in found.items()), sep="\n")


if __name__ == "__main__":
    main()
