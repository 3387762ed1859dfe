"""Where a clip's time goes, and the naive way beside it: `python tests/benchmarks/inference.py`.

Both ways make the same pictures out of the same weights, noise and sound, in turns in one process.
The naive way is that of most published pipelines: every motion frame passes the reference net in
every clip, keys and values of portrait, past and sound are projected in every step, branches run
one after another, pictures are decoded one by one and all kept. (Some also let the motion frames
ask in the temporal layers and throw the answers away; that is not reckoned here.)

On a GPU: `--device cuda --dtype bfloat16 --widths real`, with `--steps` and `--compile` in pieces.
Seconds on a CPU are of computing, so that other work beside it does not count.
"""

import argparse
from collections.abc import Iterator, Mapping
from datetime import date
from statistics import median

import torch
import yaml
from diffusers import AutoencoderKL
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from transformers import Wav2Vec2Config

from loopy import LoopyPipeline, SamplingOptions
from loopy.diffusion.guidance import GuidanceTerm, combine
from loopy.diffusion.sampler import sample
from loopy.models import AudioEncoder
from loopy.models.latents import decode_latents
from loopy.nn.attention import KeyValue
from loopy.pixels import to_pixels
from loopy.randomness import generator
from loopy.records import BranchLayout, SiteFeatures
from loopy.timing import FPS, SAMPLE_RATE_HZ
from tests.benchmarks.train_step import RECIPES, ROWS, SIZE_PX, UNETS, maker, now, peak_bytes

RATE = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def built(options: argparse.Namespace) -> LoopyPipeline:
    """The embedded model, or networks of some widths with random weights."""
    if options.widths == "toon":
        pipe = LoopyPipeline.from_pretrained(options.model)
    else:
        options.size_px, options.batch_size = SIZE_PX[options.widths], 1
        stage = maker(ROWS["clip"], options)()
        description = yaml.safe_load((RECIPES / "model.yaml").read_text())["autoencoder"]
        if options.widths != "real":
            description |= {"block_out_channels": [32, 64, 128, 128], "norm_num_groups": 8}
        hearing = AudioEncoder.from_config(Wav2Vec2Config())
        vae = AutoencoderKL(**description).eval()
        pipe = LoopyPipeline(stage.network.eval(), hearing, vae, stage.scheduler, stage.settings)
    pipe.network.requires_grad_(False)
    pipe.to(options.device, dtype=options.dtype)
    if options.compile:
        pipe.network.compile_denoiser()
    return pipe


def projected(pipe: LoopyPipeline, look: Mapping[str, SiteFeatures]) -> dict[str, KeyValue]:
    """Keys and values of the portrait's tokens."""
    network = pipe.network
    of_denoiser = network.reference_projection == "denoiser"
    source = network.denoiser if of_denoiser else network.reference_net
    return {
        name: stage.attentions[i].project_reference(look[name].tokens)  # pyright: ignore[reportArgumentType]  # asked for
        for name, stage, i in source.sites()
        if stage.attentions
    }


@torch.no_grad()
def naive(
    pipe: LoopyPipeline, portrait: Tensor, samples: Tensor, options: SamplingOptions
) -> Iterator[Tensor]:
    """Clips of a video, everything computed where it is used."""
    contract = pipe.settings.contract
    past = contract.first_state(portrait, seed=0).past
    frames = pipe.settings.clip_frames
    sounds = pipe.audio_encoder.clips(samples, frames, window=pipe.audio_window)
    for clip, audio in enumerate(sounds):
        latents = naive_clip(pipe, portrait, past, audio, clip, options)
        past = torch.cat([past.to(latents), latents], 1)[:, -contract.layout.past_frames :]
        pictures = torch.cat([decode_latents(pipe.vae, each) for each in latents.transpose(0, 1)])
        yield to_pixels(pictures).permute(0, 2, 3, 1).cpu()


def naive_clip(
    pipe: LoopyPipeline,
    portrait: Tensor,
    past: Tensor,
    audio: Tensor,
    clip: int,
    options: SamplingOptions,
) -> Tensor:
    """Latents of the next clip."""
    network, contract = pipe.network, pipe.settings.contract
    sampling = pipe.settings.sampling.altered(options)
    dtype = network.denoiser.dtype
    sound, motion = audio.to(dtype), None
    if network.audio_projection is not None:
        sound = network.audio_projection(sound)
        motion = network.audio_to_latents and network.audio_to_latents(sound)
    slots, present = contract.layout.select(past.to(dtype), generator(0, "segments", clip))
    seen = network.frame_tokens(slots) if past.shape[1] else None
    look = network.reference_net.features(portrait.to(dtype), collect="tokens")

    def run(latents: Tensor, timestep: Tensor, branch: GuidanceTerm) -> Tensor:
        sees, hears = branch.reference, branch.audio
        keys = network.null_past() if seen is None else network.project_tokens(seen)
        contexts = network.contexts(
            reference=projected(pipe, look) if sees else {},
            past=keys if sees else {},
            audio=network.project_audio(sound) if hears else {},
        )
        return network.denoiser(
            latents.to(dtype),
            timestep.expand(1),
            contexts,
            motion=motion if motion is None or hears else torch.zeros_like(motion),
            portrait=portrait.to(dtype),
            branches=BranchLayout(1, int(sees), int(hears), int(sees)),
            past_present=present if sees and seen is not None else None,
        )

    def predict(latents: Tensor, timestep: Tensor, progress: float) -> Tensor:
        branches = sampling.branches(progress)
        return combine(torch.cat([run(latents, timestep, each) for each in branches]), branches)

    draw = generator(0, "clip", clip)
    noise = contract.noise((1, audio.shape[1], *portrait.shape[1:]), draw).to(portrait)
    clean = sample(pipe.scheduler, predict, noise, steps=sampling.steps, generator=draw)
    return contract.from_residual(clean, portrait)


def main() -> None:
    """Prints parts, work, time, peak, and ours against the naive way."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--widths", choices=["toon", *UNETS], default="toon")
    parser.add_argument("--model", default="toon", help="with widths toon: which")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=RATE, default="float32")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--clips", type=int, default=13, help="the last one is on the clock")
    parser.add_argument("--times", type=int, default=3, help="how often; the median counts")
    for name, kind in (("steps", int), ("audio_ratio", float), ("reference_ratio", float)):
        parser.add_argument(f"--{name}", type=kind, help="in place of the model's own")
    given = parser.parse_args()
    pipe, on_cpu = built(given), given.device == "cpu"
    names = ("steps", "audio_ratio", "reference_ratio")
    options = SamplingOptions(**{name: getattr(given, name) for name in names})
    size = pipe.settings.size_px
    picture = (torch.rand(size, size, 3) * 255).to(torch.uint8)
    subject = pipe.prepare(picture, crop="none")
    portrait = subject.latents.to(given.device)
    seconds = given.clips * pipe.settings.clip_frames / float(FPS)
    sound = torch.rand(round(seconds * SAMPLE_RATE_HZ), device=given.device) - 0.5
    ways = {
        "ours": lambda: pipe.stream(subject, sound, options=options),
        "naive": lambda: naive(pipe, portrait, sound, options),
    }
    clock, work, peak, pictures = {}, {}, {}, {}
    for name, way in ways.items():
        clips = way()
        for _ in range(given.clips - 1):
            next(clips)
        with FlopCounterMode(display=False) as counter:
            pictures[name] = next(clips)
        work[name] = counter.get_total_flops()
    for turn in range(given.times):
        for name, way in ways.items():
            clips = way()
            for _ in range(given.clips - 1):
                next(clips)
            start = now(on_cpu=on_cpu)
            if turn:
                next(clips)
            else:
                peak[name] = peak_bytes(lambda clips=clips: next(clips), on_cpu=on_cpu)
            clock.setdefault(name, []).append(now(on_cpu=on_cpu) - start)
    apart = (pictures["ours"].float() - pictures["naive"].float()).abs()
    sampling = pipe.settings.sampling.altered(options)
    print(
        f"\n{date.today()}, {given.device}, {given.dtype}, {given.widths} widths, {size} px, "
        f"{sampling.steps} steps, {sampling.runs} runs of the denoiser; pictures differ by "
        f"{float(apart.mean()):.4f} of 255 in the mean, {int(apart.max())} at most\n"
    )
    print(f"| clip {given.clips} | TFLOP | seconds | work, peak GB |\n|{'---|' * 4}")
    for name in ways:
        took = median(clock[name][1:])
        print(f"| {name} | {work[name] / 1e12:.4g} | {took:.3f} | {peak[name] / 1e9:.3f} |")
    ratios = [a / b for a, b in zip(*(clock[name][1:] for name in ways), strict=True)]
    print(f"\nours : naive, turn by turn: {', '.join(f'{ratio:.2f}' for ratio in ratios)}")


if __name__ == "__main__":
    main()
