"""Writes toon talks as video files of mixed rates and formats, their true tracks beside them.

python examples/toon_videos.py videos --videos 12 --seconds 6

With --layout they lie as the files of a test set of the paper do, and are of faces and voices that
no training saw:

python examples/toon_videos.py toons --layout celebv-hq --videos 4 --seconds 3
loopy evaluate celebv-hq --data toons --model toon --out judged
"""

import wave
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from loopy.data.media.writer import open_writer
from loopy.evaluation.toon.talks import held_out_portrait, held_out_talk
from loopy.preprocess.landmarks.precomputed import Tracks, save_tracks, tracks_path
from loopy.randomness import generator
from loopy.synthetic.face import render
from loopy.synthetic.talker import Talk, random_talk
from loopy.timing import FPS, SAMPLE_RATE_HZ

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

LAYOUTS: dict[str, Callable[[int], str]] = {
    "celebv-hq": lambda n: f"{n:011x}_{n % 3}.mp4",
    "ravdess": lambda n: (
        f"Actor_{n % 24 + 1:02d}/01-01-{n % 8 + 1:02d}-01-01-"
        f"{n // 24 % 2 + 1:02d}-{n % 24 + 1:02d}.mp4"
    ),
    "hdtf": lambda n: f"RD_Toon{n:03d}_000.mp4",
}
"""Names of videos as in the test sets of the paper; an open set has portraits and sounds."""
OWN = 10_000
"""Held-out talks of a layout are numbered from here on; the toon benchmark has the ones before."""


def between(controls: Float[Tensor, "f k"], times: Float[Tensor, " t"]) -> Float[Tensor, "t k"]:
    """The talker's state at times, in frames; a straight line between two frames."""
    times = times.clamp(max=len(controls) - 1)
    before = times.floor().long()
    after = (before + 1).clamp(max=len(controls) - 1)
    return torch.lerp(controls[before], controls[after], (times - before)[:, None].float())


def write(path: Path, talk: Talk, *, seconds: float, fps: Fraction, size_px: int) -> None:
    """One talk as a file, its tracks beside it."""
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


def write_portrait_and_sound(folder: Path, number: int, talk: Talk, *, size_px: int) -> None:
    """One talker at rest and one voice: a row and a column of an open set."""
    portrait, sound = folder / "portraits", folder / "sounds"
    for each in (portrait, sound):
        each.mkdir(parents=True, exist_ok=True)
    picture = held_out_portrait(talk, generator(number, "portrait"), size_px=size_px)
    Image.fromarray(picture.numpy()).save(portrait / f"{number:03d}.png")
    with wave.open(str(sound / f"{number:03d}.wav"), "wb") as file:
        file.setparams((1, 2, SAMPLE_RATE_HZ, 0, "NONE", ""))
        file.writeframes((talk.audio * 32767).short().numpy().tobytes())


def main(words: list[str] | None = None) -> None:
    """Writes the videos that the words ask for."""
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder of the videos")
    parser.add_argument("--videos", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--size", type=int, default=128, help="height and width in pixels")
    parser.add_argument("--first", type=int, default=0, help="seed of the first talk")
    parser.add_argument("--layout", choices=[*LAYOUTS, "open-set"], help="of a test set")
    given = parser.parse_args(words)
    given.out.mkdir(parents=True, exist_ok=True)
    shape = {"seconds": given.seconds, "size_px": given.size}
    for number in tqdm(range(given.first, given.first + given.videos), desc="videos", unit="video"):
        suffix, fps = FORMS[(number - given.first) % len(FORMS)]
        if given.layout is None:
            path = given.out / f"{number:04d}{suffix}"
            if not tracks_path(path).is_file():
                write(path, random_talk(number, seconds=given.seconds), fps=fps, **shape)
            continue
        talk = held_out_talk(0, OWN + number, seconds=given.seconds)
        if given.layout == "open-set":
            write_portrait_and_sound(given.out, number, talk, size_px=given.size)
            continue
        path = given.out / LAYOUTS[given.layout](number)
        path.parent.mkdir(exist_ok=True)
        write(path, talk, fps=fps, **shape)


if __name__ == "__main__":
    main()
