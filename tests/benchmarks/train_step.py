"""What a training step costs: `python tests/benchmarks/train_step.py`; prints a table.

The networks are those of the recipes in configs/sd15, with random weights, or narrower ones; the
clips are random numbers in memory. Each row is a run of lightning as `loopy fit` makes it: with
averaged weights and a clipped gradient, without validations. Its peak is what tensors held: as the
accelerator counts it, on a CPU by torch's profiler, in steps that are not timed. Seconds on a CPU
are of computing, so that other work beside it does not count. Beside them stands what
`loopy estimate` says. `--inference` times clips of the whole pipeline instead.

On a GPU: `--accelerator gpu --widths real`; with `--rows` in pieces.
"""

import argparse
import gc
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Any

import lightning.pytorch as pl
import torch
import yaml
from diffusers import AutoencoderKL
from jsonargparse import ArgumentParser
from lightning.pytorch.utilities import disable_possible_user_warnings
from PIL import Image
from torch.profiler import ProfilerActivity, profile
from transformers import Wav2Vec2Config

from loopy.diffusion.options import SamplingOptions
from loopy.models import AudioEncoder
from loopy.pipeline import LoopyPipeline
from loopy.records import Clip
from loopy.timing import FPS, SAMPLE_RATE_HZ
from loopy.training.datamodule import LoopyDataModule
from loopy.training.ema import MovingAverage
from loopy.training.memory import TrainingSetup, fake_clip, step_cost, training_memory
from loopy.training.memory_inference import inference_cost
from loopy.training.module import LoopyModule

RECIPES = Path(__file__).parents[2] / "configs/sd15"
WARM = 2
"""Steps before the clock starts; the second one has an optimiser with moments."""

UNETS: dict[str, dict[str, Any]] = {
    "real": {},
    "quarter": {"block_out_channels": [80, 160, 320, 320], "norm_num_groups": 16},
    "tiny": {
        "block_out_channels": [32, 64],
        "attention": [True, True],
        "layers_per_block": 1,
        "norm_num_groups": 8,
    },
}
"""What widths change in both UNets; quarter is that of configs/sd15/quarter.yaml."""
SOUND: dict[str, dict[str, dict[str, Any]]] = {
    "real": {},
    "quarter": {"audio_to_latents": {"time_dim": 320}},
    "tiny": {
        "denoiser": {"audio_dim": 64},
        "audio_projection": {"hidden": 64, "tokens": 4, "token_width": 64},
        "audio_to_latents": {"audio_width": 256, "time_dim": 128, "dim": 64},
    },
}
"""What it changes for the sound, where a stage hears."""
SIZE_PX = {"real": 512, "quarter": 128, "tiny": 128}


@dataclass(frozen=True)
class Row:
    """A line of the table: recipes, laid over each other, and what is changed in them."""

    recipes: tuple[str, ...]
    precision: str = "bf16-mixed"
    checkpointing: bool = True


ROWS = {
    "clip": Row(("clip",)),
    "clip-history-without-gradient": Row(("clip", "no_history_gradient")),
    "clip-frozen": Row(("clip", "frozen")),
    "clip-all-activations": Row(("clip",), checkpointing=False),
    "clip-float32": Row(("clip",), precision="32-true"),
    "image": Row(("image",)),
    "image-all-activations": Row(("image",), checkpointing=False),
}


def laid_over(below: Any, above: Any) -> Any:
    """Two recipes as one; the upper one wins key by key."""
    if not (isinstance(below, dict) and isinstance(above, dict)):
        return above
    both = {key: laid_over(below[key], above[key]) for key in below.keys() & above.keys()}
    return below | above | both


def maker(row: Row, options: argparse.Namespace) -> Callable[[], LoopyModule]:
    """Builds the stage of a row, with random weights."""
    model: dict[str, Any] = {}
    for recipe in row.recipes:
        model = laid_over(model, yaml.safe_load((RECIPES / f"{recipe}.yaml").read_text())["model"])
    changes = {"reference_net": UNETS[options.widths], "denoiser": UNETS[options.widths]}
    if "audio_projection" in model["init_args"]["network"]["init_args"]:
        changes = laid_over(changes, SOUND[options.widths])
    network = {"init_args": {part: {"init_args": change} for part, change in changes.items()}}
    arguments = {
        "network": network,
        "settings": {"size_px": options.size_px},
        "init_from": None,
        "gradient_checkpointing": row.checkpointing,
    }
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(LoopyModule, "model")
    config = parser.parse_object({"model": laid_over(model, {"init_args": arguments})})
    return lambda: parser.instantiate(config).model


class RandomClips(LoopyDataModule):
    """One batch of random numbers, again and again."""

    def __init__(self, stage: LoopyModule, *, batch_size: int, latent_px: int) -> None:
        super().__init__(batch_size=batch_size, validation_batches=0)
        shapes = vars(fake_clip(stage, batch_size, latent_px))
        given = {name: value for name, value in shapes.items() if torch.is_tensor(value)}
        numbers = {k: torch.rand_like(v) for k, v in given.items() if v.is_floating_point()}
        self.clip = Clip(**given | numbers)

    def batches(self) -> Callable[[str, int, int, int], Clip]:
        return lambda *place: self.clip


def now(*, on_cpu: bool) -> float:
    """Seconds; on a CPU those that this process computed, so that others do not count."""
    if on_cpu:
        return process_time()
    torch.accelerator.synchronize()
    return perf_counter()


class Clock(pl.Callback):
    """Seconds of each step behind the warm ones."""

    def __init__(self, *, on_cpu: bool) -> None:
        self.seconds: list[float] = []
        self.on_cpu = on_cpu
        self._start = 0.0

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any
    ) -> None:
        self._start = now(on_cpu=self.on_cpu)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any
    ) -> None:
        if trainer.global_step > WARM:
            self.seconds.append(now(on_cpu=self.on_cpu) - self._start)


def train(
    make: Callable[[], LoopyModule], row: Row, options: argparse.Namespace, steps: int
) -> list[float]:
    """Runs some steps; seconds of those on the clock."""
    stage, clock = make(), Clock(on_cpu=options.accelerator == "cpu")
    data = RandomClips(stage, batch_size=options.batch_size, latent_px=options.size_px // 8)
    pl.Trainer(
        accelerator=options.accelerator,
        devices=1,
        precision=row.precision,  # pyright: ignore[reportArgumentType]
        max_steps=steps,
        gradient_clip_val=1.0,
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[MovingAverage(), clock],
    ).fit(stage, datamodule=data)
    return clock.seconds


def peak_bytes(run: Callable[[], object], *, on_cpu: bool) -> int:
    """Most bytes that tensors held, those of the weights included."""
    if not on_cpu:
        gc.collect()
        torch.accelerator.empty_cache()
        torch.accelerator.reset_peak_memory_stats()
        before = torch.accelerator.memory_allocated()
        run()
        return torch.accelerator.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as told:
        run()
    events = [e for e in told.profiler.kineto_results.events() if e.name() == "[memory]"]  # pyright: ignore[reportOptionalMemberAccess]
    held = most = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        held += event.nbytes()
        most = max(most, held)
    return most


def measure(name: str, options: argparse.Namespace) -> str:
    """One line of the table."""
    row, on_cpu = ROWS[name], options.accelerator == "cpu"
    make = maker(row, options)
    setup = TrainingSetup(
        batch_size=options.batch_size,
        latent_px=options.size_px // 8,
        precision=row.precision,
        device="cpu" if on_cpu else "cuda",
        averaged=True,
    )
    wanted = training_memory(step_cost(make, setup), setup)
    estimate = max(wanted.step.total(), wanted.update.total())
    seconds: list[float] = []
    try:
        peak = peak_bytes(
            lambda: seconds.extend(
                train(make, row, options, WARM if on_cpu else WARM + options.steps)
            ),
            on_cpu=on_cpu,
        )
        if on_cpu:
            seconds = train(make, row, options, WARM + options.steps)
    except torch.OutOfMemoryError:
        return f"| {name} | {row.precision} | out of memory | | | {estimate / 1e9:.2f} | |"
    finally:
        gc.collect()
    step = median(seconds)
    return (
        f"| {name} | {row.precision} | {step:.3f} | {options.batch_size / step:.3f} "
        f"| {peak / 1e9:.3f} | {estimate / 1e9:.3f} | {peak / estimate:.3f} |"
    )


def animate(options: argparse.Namespace) -> str:
    """One line about the pipeline: the second of two clips, for the first one warms up."""
    on_cpu = options.accelerator == "cpu"
    dtype = torch.float32 if on_cpu else torch.bfloat16
    make = maker(ROWS["clip"], options)
    description = yaml.safe_load((RECIPES / "model.yaml").read_text())["autoencoder"]
    if options.widths != "real":
        description |= {"block_out_channels": [32, 64, 128, 128], "norm_num_groups": 8}

    def make_in_dtype() -> LoopyModule:
        torch.set_default_dtype(dtype)
        try:
            return make()
        finally:
            torch.set_default_dtype(torch.float32)

    cost = inference_cost(make_in_dtype, description, latent_px=options.size_px // 8)
    seconds: list[float] = []

    def run() -> None:
        stage = make()
        pipe = LoopyPipeline(
            stage.network.eval(),
            AudioEncoder.from_config(Wav2Vec2Config()),
            AutoencoderKL(**description).eval(),
            stage.scheduler,
            stage.settings,
        ).to("cpu" if on_cpu else "cuda", dtype=dtype)
        picture = Image.effect_noise((options.size_px,) * 2, 60).convert("RGB")
        sound = torch.randn(round(2 * stage.settings.clip_frames / FPS * SAMPLE_RATE_HZ)) / 10
        chosen = SamplingOptions(steps=options.diffusion_steps)
        clips = pipe.stream(picture, sound.clamp(-1, 1), options=chosen)
        next(clips)
        start = now(on_cpu=on_cpu)
        next(clips)
        seconds.append(now(on_cpu=on_cpu) - start)

    peak = peak_bytes(run, on_cpu=on_cpu)
    return (
        f"| {options.widths}, {options.size_px} px, {options.diffusion_steps} steps "
        f"| {str(dtype).removeprefix('torch.')} | {seconds[0]:.2f} "
        f"| {peak / 1e9:.3f} | {cost.peak / 1e9:.3f} | {peak / cost.peak:.3f} |"
    )


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--widths", choices=UNETS, default="tiny")
    parser.add_argument(
        "--size_px", type=int, help="side of the pictures; by default of the widths"
    )
    parser.add_argument("--batch_size", type=int, default=1)
    parser.add_argument("--steps", type=int, default=3, help="on the clock; the median counts")
    parser.add_argument("--accelerator", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--inference", action="store_true", help="clips of the pipeline instead")
    parser.add_argument("--diffusion_steps", type=int, default=25)
    options = parser.parse_args()
    options.size_px = options.size_px or SIZE_PX[options.widths]
    disable_possible_user_warnings()
    card = torch.cuda.get_device_name() if options.accelerator == "gpu" else "CPU"
    place = f"{card}, {torch.get_num_threads()} threads" if card == "CPU" else card
    print(f"{date.today()}, {place}, torch {torch.__version__}, {options.widths} widths, ", end="")
    print(f"{options.size_px} px, batch of {options.batch_size}\n")
    memory = "peak GB | estimate GB | measured / estimate |"
    if options.inference:
        print(f"| a clip | precision | seconds | {memory}\n|{'---|' * 6}")
        print(animate(options))
        return
    print(f"| row | precision | s a step | clips a second | {memory}\n|{'---|' * 7}")
    for name in options.rows:
        print(measure(name, options), flush=True)


if __name__ == "__main__":
    main()
