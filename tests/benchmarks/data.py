"""What a sample costs to read: `python tests/benchmarks/data.py`; prints a table, a few minutes.

Clips of the real shape (Stable Diffusion's latents at 512 px, 13 layers of wav2vec2-base) hold
random numbers: what they say does not change what they weigh. The comparisons are to read the
whole file of a clip, and to have no store at all: decode the video and encode it, with networks of
the real size and random weights. `--parts rows cold` runs some parts alone.
"""

import argparse
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter, process_time

import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file
from torch.utils.data import DataLoader, Dataset
from transformers import Wav2Vec2Config

from loopy.data.media.sound import read_audio
from loopy.data.media.video_reader import read_frames
from loopy.data.media.writer import open_writer
from loopy.data.store.description import StoreDescription, create_store
from loopy.data.store.index_build import build_index
from loopy.data.store.shot_store import ShotStore
from loopy.data.store.shots import Provenance, ShotRecord, shot_id, shot_path, write_shot
from loopy.models import AudioEncoder
from loopy.models.latents import encode_images
from loopy.motion import MotionSequence
from loopy.randomness import generator
from loopy.records import Clip
from loopy.training.store_clips import ClipSampler

CLIPS, FRAMES, SAMPLES, COLD = 24, 250, 200, 48
LATENTS, SOUND, SIZE = (4, 64, 64), (13, 768), 512
ENCODED = 2
"""Frames that a CPU encodes for the comparison; the time of a sample is reckoned from them."""


def make_store(root: Path) -> None:
    """A store of talks of ten seconds."""
    create_store(root, StoreDescription(SIZE, LATENTS, SOUND))
    for number in range(CLIPS):
        draw = generator("benchmark", number)
        motion = MotionSequence(
            SIZE * torch.rand(FRAMES, 68, 2, generator=draw),
            torch.zeros(FRAMES, 3),
            torch.ones(FRAMES, 68, dtype=torch.bool),
            SIZE,
        )
        name = str(number)
        about = Provenance(f"{name}.mp4", name, 0, FRAMES / 25, (0, 0, SIZE, SIZE), 25, name)
        latents = torch.randn(FRAMES, *LATENTS, generator=draw)
        audio = torch.randn(FRAMES, *SOUND, generator=draw)
        write_shot(root, ShotRecord(shot_id(name, 0, 10, {}), latents, audio, motion, about))
    build_index(root, validation=0, test=0)


class Samples(Dataset[Clip]):
    """Batches of one rank, by number."""

    def __init__(self, sampler: ClipSampler) -> None:
        self.sampler = sampler

    def __len__(self) -> int:
        return SAMPLES // self.sampler.batch_size

    def __getitem__(self, number: int) -> Clip:
        return self.sampler.batch("training", number, 0, 1)


def each(clip: Clip) -> list[Clip]:
    """The samples of a batch."""
    return [clip.rows(slice(i, i + 1)) for i in range(len(clip))]


def pictures_of(clip: Clip) -> int:
    """How many frames one sample names: past, clip and portrait."""
    return int(clip.past_present.sum()) + clip.latents.shape[1] + 1


def needed_bytes(clip: Clip) -> int:
    """What the rows of one sample weigh in the store, of half precision where it is."""
    latents = pictures_of(clip) * 2 * LATENTS[0] * LATENTS[1] * LATENTS[2]
    audio = (clip.audio.shape[1] + 4) * 2 * SOUND[0] * SOUND[1]
    return latents + audio + clip.latents.shape[1] * (68 * 9 + 12)


def forget(root: Path) -> None:
    """Drops the clips from the page cache; what is not on the disk yet is written first."""
    for path in root.glob("clips/*/*.safetensors"):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def disk_bytes() -> int:
    """Bytes that this process has had fetched from a disk."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(dict(line.split(": ") for line in lines)["read_bytes"])


def cold_bytes(root: Path, read: Callable[[int], object]) -> str:
    """MB from the disk a sample, each read with a cold cache."""
    total = 0
    for number in range(COLD):
        forget(root)
        before = disk_bytes()
        read(number)
        total += disk_bytes() - before
    return f"{total / COLD / 1e6:.3f}" if total else "unknown"  # overlay and tmpfs do not count


def load_whole(store: ShotStore, root: Path, number: int) -> None:
    """Reads all bytes of a clip, unchecked, and makes nothing of them."""
    tensors = load_file(root / shot_path(store.index.id(number % CLIPS)))
    for tensor in tensors.values():
        tensor.clone()  # a mapped file is read when it is looked at


def line(what: str, *, rate: float | None = None, **cells: str) -> None:
    """A row of the table."""
    names = ("cpu_ms", "requested", "needed", "disk")
    speed = "" if rate is None else f"{rate:.0f}" if rate > 10 else f"{rate:.4f}"
    print(f"| {what} | {speed} | {' | '.join(cells.get(name, '') for name in names)} |", flush=True)


def rows(sampler: ClipSampler) -> None:
    """Samples by their rows, from memory."""
    store, needed = sampler.store, 0
    start, wall, busy = store.bytes_requested, perf_counter(), process_time()
    for number in range(SAMPLES // 2):
        needed += sum(map(needed_bytes, each(sampler.batch("training", number, 0, 1))))
    wall, busy = perf_counter() - wall, process_time() - busy
    asked = store.bytes_requested - start
    line(
        "rows of a sample, one process",
        rate=SAMPLES / wall,
        cpu_ms=f"{1e3 * busy / SAMPLES:.2f}",
        requested=f"{asked / SAMPLES / 1e6:.3f} ({asked / needed - 1:+.1%})",
        needed=f"{needed / SAMPLES / 1e6:.3f}",
    )


def workers(sampler: ClipSampler) -> None:
    """The same by two processes, with the time that they take to start."""
    loader = DataLoader(Samples(sampler), batch_size=None, num_workers=2)
    wall = perf_counter()
    batches = sum(1 for _ in loader)
    rate = sampler.batch_size * batches / (perf_counter() - wall)
    line("rows of a sample, 2 workers with their start", rate=rate)


def cold(sampler: ClipSampler, root: Path) -> None:
    """Bytes from the disk, by rows and by whole files, one sample at a time."""
    one = ClipSampler(sampler.store, 1)
    needed, start = 0, one.store.bytes_requested

    def read(number: int) -> None:
        nonlocal needed
        needed += needed_bytes(one.batch("training", number, 0, 1))

    disk = cold_bytes(root, read)
    asked = f"{(one.store.bytes_requested - start) / COLD / 1e6:.3f}"
    line(
        "rows of a sample, nothing in memory",
        requested=asked,
        needed=f"{needed / COLD / 1e6:.3f}",
        disk=disk,
    )
    disk = cold_bytes(root, lambda number: load_whole(one.store, root, number))
    line("whole file of a clip, nothing in memory", disk=disk)


def whole(sampler: ClipSampler, root: Path) -> None:
    """Whole files, from memory."""
    wall, busy = perf_counter(), process_time()
    for number in range(SAMPLES // 4):
        load_whole(sampler.store, root, number)
    wall, busy = perf_counter() - wall, process_time() - busy
    size = (root / shot_path(sampler.store.index.id(0))).stat().st_size
    line(
        "whole file of a clip, one process; unchecked, not made ready",
        rate=SAMPLES // 4 / wall,
        cpu_ms=f"{4e3 * busy / SAMPLES:.2f}",
        requested=f"{size / 1e6:.1f}",
    )


def write_video(path: Path) -> None:
    """Ten seconds of a moving picture at 512 px, and noise to hear."""
    draw = generator("benchmark video")
    coarse = torch.rand(1, 3, 32, 32, generator=draw)
    still = torch.nn.functional.interpolate(coarse, SIZE, mode="bicubic").clamp(0, 1)
    picture = (still[0].permute(1, 2, 0) * 255).to(torch.uint8)
    sound = 0.1 * torch.randn(FRAMES * 640, generator=draw)
    with open_writer(path, sound=sound) as writer:
        for number in range(FRAMES):
            writer.write(picture.roll(2 * number, 1)[None])


def fly(sampler: ClipSampler, folder: Path, device: str) -> None:
    """No store: the frames of a sample decoded and encoded, the whole sound heard."""
    torch.manual_seed(0)
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(128, 256, 512, 512),
        layers_per_block=2,
    )
    hearing = AudioEncoder.from_config(Wav2Vec2Config()).to(device)
    vae = vae.eval().to(device)
    video = folder / "talk.mp4"
    write_video(video)
    clips = [sampler.batch("training", number, 0, 1) for number in range(20)]
    frames = round(sum(pictures_of(one) for clip in clips for one in each(clip)) / 40)
    places = torch.linspace(0, FRAMES - 1, frames).round().int().tolist()

    spent = {}
    for name in ("warming up", "measured"):
        begun = perf_counter()
        pixels = read_frames(video, places)
        spent["decode"] = perf_counter() - begun
        encoded = frames if device != "cpu" else 1 if name == "warming up" else ENCODED
        pictures = pixels[:encoded].permute(0, 3, 1, 2).to(device).float() / 127.5 - 1
        begun = perf_counter()
        encode_images(vae, pictures).cpu()
        spent["encode"] = (perf_counter() - begun) * frames / encoded
        begun = perf_counter()
        hearing.features(read_audio(video).to(device)).cpu()
        spent["hear"] = perf_counter() - begun
    parts = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in spent.items())
    reckoned = "" if device != "cpu" else f", reckoned from {ENCODED}"
    line(
        f"no store, one thread and {device}: {frames} frames of a 512 px video ({parts}{reckoned})",
        rate=1 / sum(spent.values()),
    )


PARTS = ("rows", "workers", "whole", "cold", "fly")


def main(words: Sequence[str] | None = None) -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="which rows")
    parser.add_argument("--folder", type=Path, help="on the disk to measure; needs 400 MB")
    parser.add_argument("--device", default="cpu", help="encodes where there is no store")
    given = parser.parse_args(words)
    torch.set_num_threads(1)  # as in a worker
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        root = Path(folder) / "store"
        make_store(root)
        sampler = ClipSampler(ShotStore.open(root), 2)
        print("| | samples a second | CPU ms | MB requested | MB needed | MB from disk |")
        print("|---|---|---|---|---|---|")
        run = {
            "rows": lambda: rows(sampler),
            "workers": lambda: workers(sampler),
            "cold": lambda: cold(sampler, root),
            "whole": lambda: whole(sampler, root),
            "fly": lambda: fly(sampler, Path(folder), given.device),
        }
        for part in PARTS:  # cold behind those that read from memory
            if part in given.parts:
                run[part]()


if __name__ == "__main__":
    main()
