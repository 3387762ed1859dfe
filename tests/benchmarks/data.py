"""What a sample costs to read: `python tests/benchmarks/data.py`; prints figures, about a minute.

Clips of the real shape (Stable Diffusion's latents at 512 px, 13 layers of wav2vec2-base) hold
random numbers: what they say does not change what they weigh.
"""

import tempfile
from pathlib import Path
from time import perf_counter, process_time

import torch
from safetensors.torch import load_file
from torch.utils.data import DataLoader, Dataset

from loopy.data.clips import ClipRecord, Provenance, clip_id, clip_path
from loopy.data.description import StoreDescription, create_store
from loopy.data.index import build_index
from loopy.data.store import ClipStore, write_clip
from loopy.motion import MotionSequence
from loopy.randomness import generator
from loopy.records import Clip
from loopy.training.clip_sampler import ClipSampler

CLIPS, FRAMES, SAMPLES = 24, 250, 200
LATENTS, SOUND = (4, 64, 64), (13, 768)


def make_store(root: Path) -> None:
    """A store of talks of ten seconds."""
    create_store(root, StoreDescription(512, LATENTS, SOUND))
    for number in range(CLIPS):
        draw = generator("benchmark", number)
        motion = MotionSequence(
            512 * torch.rand(FRAMES, 68, 2, generator=draw),
            torch.zeros(FRAMES, 3),
            torch.ones(FRAMES, 68, dtype=torch.bool),
            512,
        )
        name = str(number)
        about = Provenance(f"{name}.mp4", name, 0, FRAMES / 25, (0, 0, 512, 512), 25, name)
        latents = torch.randn(FRAMES, *LATENTS, generator=draw)
        audio = torch.randn(FRAMES, *SOUND, generator=draw)
        write_clip(root, ClipRecord(clip_id(name, 0, 10, {}), latents, audio, motion, about))
    build_index(root, validation=0, test=0)


class Samples(Dataset[Clip]):
    """Batches of one rank, by number."""

    def __init__(self, sampler: ClipSampler) -> None:
        self.sampler = sampler

    def __len__(self) -> int:
        return SAMPLES // self.sampler.batch_size

    def __getitem__(self, number: int) -> Clip:
        return self.sampler.batch("training", number, 0, 1)


def needed_bytes(clip: Clip) -> int:
    """What the rows of one sample weigh in the store, of half precision where it is."""
    rows = int(clip.past_present.sum()) + clip.latents.shape[1] + 1
    latents = rows * 2 * LATENTS[0] * LATENTS[1] * LATENTS[2]
    audio = (clip.audio.shape[1] + 4) * 2 * SOUND[0] * SOUND[1]
    return latents + audio + clip.latents.shape[1] * (68 * 9 + 12)


def main() -> None:
    """Prints the figures."""
    torch.set_num_threads(1)  # as in a worker
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "store"
        make_store(root)
        store = ClipStore.open(root)
        sampler = ClipSampler(store, 2)
        needed, start = 0, store.bytes_requested
        wall, busy = perf_counter(), process_time()
        for number in range(SAMPLES // 2):
            clip = sampler.batch("training", number, 0, 1)
            needed += sum(
                needed_bytes(
                    Clip(**{k: v[i : i + 1] for k, v in vars(clip).items() if v is not None})
                )
                for i in range(len(clip))
            )
        wall, busy = perf_counter() - wall, process_time() - busy
        asked = store.bytes_requested - start
        print(
            f"rows, one process: {SAMPLES / wall:.0f} samples/s, {1e3 * busy / SAMPLES:.2f} CPU ms"
        )
        print(
            f"  requested {asked / SAMPLES / 1e6:.3f} MB a sample, needed "
            f"{needed / SAMPLES / 1e6:.3f} MB: {asked / needed - 1:+.1%}"
        )
        loader = DataLoader(Samples(sampler), batch_size=None, num_workers=2)
        wall = perf_counter()
        batches = sum(1 for _ in loader)
        print(f"rows, 2 workers: {2 * batches / (perf_counter() - wall):.0f} samples/s, with start")
        wall = perf_counter()
        for number in range(SAMPLES // 4):
            load_file(root / clip_path(store.index.id(number % CLIPS)))["latents"].clone()
        each = (perf_counter() - wall) / (SAMPLES // 4)
        size = (root / clip_path(store.index.id(0))).stat().st_size
        print(f"whole clips: {1 / each:.0f} samples/s, {size / 1e6:.1f} MB a sample")


if __name__ == "__main__":
    main()
