"""How fast videos become clips, by stage: `python tests/benchmarks/preprocess.py`; a minute or two.

Toon videos of mixed rates and formats with known tracks, prepared by the networks of the embedded
model, in one process of one thread.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

import torch

from loopy.commands.preprocess import preprocess
from loopy.preprocess.filters import FilterOptions
from loopy.preprocess.options import PreprocessOptions
from loopy.preprocess.report import store_report

ROOT = Path(__file__).parents[2]


def main(words: Sequence[str] | None = None) -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--videos", type=int, default=14, help="of 6 s")
    given = parser.parse_args(words)
    torch.set_num_threads(1)
    options = PreprocessOptions(128, "precomputed", filters=FilterOptions(fewest_px=128))
    with tempfile.TemporaryDirectory() as folder:
        videos, store = Path(folder) / "videos", Path(folder) / "store"
        written = [sys.executable, ROOT / "examples/toon_videos.py", videos]
        subprocess.run([*written, "--videos", str(given.videos)], check=True)
        begun = perf_counter()
        preprocess(str(videos), store, parts=ROOT / "loopy/assets/toon", options=options)
        spent, found = perf_counter() - begun, store_report(store)
        seconds = 3600 * found.hours
        size = sum(path.stat().st_size for path in videos.glob("*.m*"))
    print("| stage | seconds of work | seconds of video a second |\n|---|---|---|")
    for stage, work in found.spent_s.items():
        print(f"| {stage} | {work:.2f} | {seconds / work:.0f} |")
    print(f"| all, with start and index | {spent:.2f} | {seconds / spent:.1f} |")
    print(f"\n{seconds:.0f} s of video, {size / 1e6:.1f} MB; store {found.bytes / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
