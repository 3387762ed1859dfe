"""Writes toon talks as video files of mixed rates and formats, their true tracks beside them.

python examples/toon_videos.py videos --videos 12 --seconds 6
"""

from argparse import ArgumentParser, RawDescriptionHelpFormatter
from fractions import Fraction
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from loopy.data.writer import open_writer
from loopy.preprocess.precomputed import Tracks, save_tracks, tracks_path
from loopy.synthetic.face import render
from loopy.synthetic.talker import random_talk
from loopy.timing import FPS

FORMS = (
    (".mp4", Fraction(25)),
    (".mp4", Fraction(30_000, 1001)),
    (".mkv", Fraction(24)),
    (".mov", Fraction(50)),
    (".mp4", Fraction(24_000, 1001)),
    (".mkv", Fraction(60)),
    (".mp4", Fraction(30)),
)
AT_ONCE = 32


def between(controls: Float[Tensor, "f k"], times: Float[Tensor, " t"]) -> Float[Tensor, "t k"]:
    """The talker's state at times, in frames; a straight line between two frames."""
    times = times.clamp(max=len(controls) - 1)
    before = times.floor().long()
    after = (before + 1).clamp(max=len(controls) - 1)
    return torch.lerp(controls[before], controls[after], (times - before)[:, None].float())


def write(path: Path, seed: int, *, seconds: float, fps: Fraction, size_px: int) -> None:
    """One talk as a file; nothing is done where it is there already."""
    if tracks_path(path).is_file():
        return
    talk = random_talk(seed, seconds=seconds)
    frames = round(seconds * FPS)
    times = torch.arange(round(seconds * fps)) * float(FPS / fps)
    with open_writer(path, fps=fps, sound=talk.audio) as writer:
        for part in between(talk.controls, times).split(AT_ONCE):
            shown = render(talk.identity.expand(len(part)), part, size_px=size_px)
            pixels = (shown.permute(0, 2, 3, 1) + 1) * 127.5
            writer.write(pixels.round().to(torch.uint8))
    motion = talk.motion[:frames]
    points = motion.points * (size_px / motion.size_px)
    save_tracks(path, Tracks(points, motion.valid, motion.pose))


def main(words: list[str] | None = None) -> None:
    """Writes the videos that the words ask for."""
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder of the videos")
    parser.add_argument("--videos", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--size", type=int, default=128, help="height and width in pixels")
    parser.add_argument("--first", type=int, default=0, help="seed of the first talk")
    given = parser.parse_args(words)
    given.out.mkdir(parents=True, exist_ok=True)
    for number in tqdm(range(given.videos), desc="videos", unit="video"):
        suffix, fps = FORMS[number % len(FORMS)]
        path = given.out / f"{given.first + number:04d}{suffix}"
        write(path, given.first + number, seconds=given.seconds, fps=fps, size_px=given.size)


if __name__ == "__main__":
    main()
