"""What less work costs: `python tests/benchmarks/less_work.py --out judged`; hours, goes on.

Held-out toon talks are made in each way of `WAYS` by the same noise, and read by the toon tracker
and recogniser. The table has the work of each way and, paired by talk against the first one, what
it changes; 95 % intervals by redrawing talks. A file a way is kept in the folder: what is there is
not made again.
"""

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, UniPCMultistepScheduler
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from loopy import LoopyPipeline, SamplingOptions
from loopy.diffusion.options import Sampling
from loopy.evaluation.table.statistics import bootstrap, mean
from loopy.evaluation.table.text import aligned
from loopy.evaluation.toon import steadiness
from loopy.evaluation.toon.measure import MeasuredTalk, Probes, film_features, shown_frames
from loopy.evaluation.toon.rows import drift, follows, gain, recognised
from loopy.evaluation.toon.talks import Scene, gallery, held_out_portrait, portrait_controls
from loopy.metrics.beat import smoothed
from loopy.models.recogniser import Recogniser
from loopy.models.tracker import OUTPUTS, Tracker
from loopy.typed_values import plain_values, write_record

FIRST = 30_000
"""Number of the first talk; no other benchmark has these."""
POSE = [OUTPUTS.index(name) for name in ("yaw", "pitch", "roll")]


class Way(NamedTuple):
    """How clips are sampled: what of the sampling, the scheduler, and a model of its own."""

    options: SamplingOptions
    scheduler: Callable[..., Any] = DDIMScheduler.from_config
    model: str | None = None


def guided(**changes: Any) -> SamplingOptions:
    """12 steps of three branches: a guided model's own sampling, at toon size."""
    return SamplingOptions(**({"steps": 12, "audio_ratio": 2.0, "reference_ratio": 1.5} | changes))


_dpm = partial(DPMSolverMultistepScheduler.from_config, algorithm_type="dpmsolver++")
WAYS: Mapping[str, Way] = {
    "quality": Way(guided()),
    "guided in the first half": Way(guided(guidance_stop=0.5)),
    "guided in the second half": Way(guided(guidance_start=0.5)),
    "every second step guided": Way(guided(guidance_every=2)),
    "half the steps": Way(guided(steps=6)),
    "half, DPM-Solver++": Way(guided(steps=6), _dpm),
    "half, UniPC": Way(guided(steps=6), UniPCMultistepScheduler.from_config),
    "balanced": Way(guided(steps=6, guidance_every=2)),
    "fast": Way(guided(steps=3, guidance_every=2)),
    "4 steps, no guidance": Way(SamplingOptions(steps=4, audio_ratio=1.0, reference_ratio=1.0)),
    "2 steps, no guidance": Way(SamplingOptions(steps=2, audio_ratio=1.0, reference_ratio=1.0)),
    "1 step, no guidance": Way(SamplingOptions(steps=1, audio_ratio=1.0, reference_ratio=1.0)),
    "turbo": Way(SamplingOptions(), model="turbo"),
}
FIGURES: Mapping[str, Callable[[MeasuredTalk, Any], float]] = {
    "lips r": follows("open"),
    "gain": gain,
    "identity": recognised(),
    "drift": drift,
    "head": lambda _, film: float(smoothed(film.get("tracks")[:, POSE]).std(0).mean()),
}


Rows = list[dict[str, float]]


def measured(pipe: LoopyPipeline, way: Way, probes: Probes, scene: Scene) -> dict[str, float]:
    """Figures of one talk made in one way, and its seconds of CPU."""
    talk, resting = scene.talk(), portrait_controls(scene.dice("portrait"))
    size_px = pipe.settings.size_px
    portrait = held_out_portrait(talk, scene.dice("portrait"), size_px=size_px)
    subject = pipe.prepare(portrait, crop="center")
    start = time.process_time()
    made = list(pipe.stream(subject, talk.audio, seed=scene.noise_seed, options=way.options))
    seconds = time.process_time() - start
    film = film_features(
        made,
        probes,
        background=steadiness.always_background(
            talk.identity, torch.cat([talk.controls, resting]), size_px=size_px
        ),
        face=steadiness.face_box(talk.identity, resting, size_px=size_px),
        shown=shown_frames(len(talk.controls), ends=False),
    )
    people = gallery(probes.recogniser, talk.identity, scene.dice("look-alikes"))
    known = MeasuredTalk(scene, talk.controls, people, portrait, {})
    return {name: figure(known, film) for name, figure in FIGURES.items()} | {"cpu s": seconds}


def work(pipe: LoopyPipeline, sampling: Sampling) -> float:
    """GFLOP of a frame of a long video: past, sound and decoding of a clip, and every run."""
    subject = pipe.prepare(torch.zeros(128, 128, 3, dtype=torch.uint8), crop="none")

    def counted(clips: int, steps: int) -> int:
        sound = torch.rand(clips * pipe.settings.clip_frames * 640) - 0.5
        options = SamplingOptions(steps=steps, audio_ratio=1.0, reference_ratio=1.0)
        with FlopCounterMode(display=False) as counter:
            list(pipe.stream(subject, sound, options=options))
        return counter.get_total_flops()

    a_run = counted(1, 2) - counted(1, 1)
    a_clip = counted(13, 1) - counted(12, 1)  # all motion frames are there, and 8 of them new
    return (a_clip + (sampling.runs - 1) * a_run) / pipe.settings.clip_frames / 1e9


def row(name: str, rows: Rows, base: Rows, gflop: float) -> list[str]:
    """Cells of a way: work, time, and each figure with its change against the first way."""
    cells = [name, f"{gflop:.2f}"]
    ratio = torch.tensor([[a["cpu s"] / b["cpu s"]] for a, b in zip(rows, base, strict=True)])
    cells.append(f"{float(ratio.median()):.2f}")
    for figure in FIGURES:
        values = torch.tensor([[each[figure]] for each in rows])
        change = values - torch.tensor([[each[figure]] for each in base])
        found = bootstrap(mean, change, seed=0)
        own = f"{float(values.mean()):.3f}"
        cells.append(own if rows is base else f"{own} ({found.low:+.3f}, {found.high:+.3f})")
    return cells


def main(words: Sequence[str] | None = None) -> None:
    """Make what is missing, and print the table of what is there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="toon")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--talks", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=2.4)
    parser.add_argument("--ways", nargs="*", choices=list(WAYS), default=list(WAYS))
    given = parser.parse_args(words)
    given.out.mkdir(parents=True, exist_ok=True)
    probes = Probes(Tracker.from_pretrained(), Recogniser.from_pretrained())
    table, base = list[list[str]](), Rows()
    for name in given.ways:
        way, file = WAYS[name], given.out / f"{name.replace(' ', '_')}.json"
        pipe = LoopyPipeline.from_pretrained(way.model or given.model)
        pipe.network.requires_grad_(False)  # torch's counter asks gradients of what has some
        pipe.scheduler = way.scheduler(pipe.scheduler.config)
        rows = plain_values(file.read_text())["talks"] if file.exists() else []
        for i in tqdm(range(len(rows), given.talks), desc=name, unit="talk"):
            scene = Scene("speech", FIRST + i, "speech", given.seconds, 0)
            rows.append(measured(pipe, way, probes, scene))
            write_record(file, {"talks": rows})
        base = base or rows
        gflop = work(pipe, pipe.settings.sampling.altered(way.options))
        table.append(row(name, rows[: given.talks], base[: given.talks], gflop))
    print("\n".join(aligned(["way", "GFLOP", "time", *FIGURES], table)))


if __name__ == "__main__":
    main()
