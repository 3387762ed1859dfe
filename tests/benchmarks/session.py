"""Sound as it is spoken: delays, memory, lips. `python tests/benchmarks/session.py --seconds 20`.

A held-out toon talk is pushed in pieces of 20 ms at the pace of a clock, as from a microphone; with
``--fast`` without waiting. Printed are the delay of the first clip after the last of its sound was
spoken, median, 95 % and maximum over clips, their drift (last quarter less first), what the session
says itself, and the peak of memory after the first minute, or a quarter, and at the end.

``--talks 4`` makes videos of so many talks instead: offline, live with a look-ahead of two frames,
and of none; and prints r of the opening of the lips, as the tracker reads it, with the truth and
with the offline video, and how far the encoder's features are from the offline ones.
"""

import argparse
import time
from collections.abc import Sequence

import torch
from torch import Tensor

from loopy import LoopyPipeline, SamplingOptions
from loopy.evaluation.toon.talks import held_out_portrait, held_out_talk
from loopy.evaluation.toon.tracks import correlation
from loopy.memory import in_steady_memory
from loopy.models.live_features import FRAME_SAMPLES, LiveFeatures, LiveOptions
from loopy.models.tracker import OUTPUTS, Tracker
from loopy.randomness import generator
from loopy.session import Session
from tests.memory import peak_kib

FIRST = 50_000
"""Number of the first talk; no other benchmark has these."""
RATE_HZ, REPEATED_S = 16_000, 20.0
OPEN = OUTPUTS.index("open")


def spoken(number: int, seconds: float, size_px: int) -> tuple[Tensor, Tensor, Tensor]:
    """A portrait, a voice, and how far its lips are open in truth."""
    talk = held_out_talk(0, FIRST + number, seconds=seconds)
    portrait = held_out_portrait(talk, generator(0, "session", number), size_px=size_px)
    return portrait, talk.audio, talk.controls[:, 0]


def delays(pipe: LoopyPipeline, seconds: float, piece_ms: int, *, steps: int, fast: bool) -> None:
    """Pushes a talk, over and over, and prints delays and memory."""
    portrait, voice, _ = spoken(0, min(seconds, REPEATED_S), pipe.settings.size_px)
    subject, options = pipe.prepare(portrait, crop="center"), SamplingOptions(steps=steps)
    session = pipe.session(subject, options=options)
    session.idle()  # the first clip of a process takes longer
    session.interrupt()
    piece = RATE_HZ * piece_ms // 1000
    pieces, late, early_kib, frames = int(seconds * RATE_HZ) // piece, list[float](), 0, 0
    begin, cpu_s = time.perf_counter(), time.process_time()
    for number in in_steady_memory(range(pieces)):
        spoken_s = (number + 1) * piece / RATE_HZ
        if not fast:
            time.sleep(max(begin + spoken_s - time.perf_counter(), 0))
        start, place = time.perf_counter(), number * piece % (len(voice) - piece)
        made = session.push(voice[place : place + piece])
        if len(made):
            late.append(time.perf_counter() - (start if fast else begin + spoken_s))
            frames += len(made)
        if spoken_s <= min(60.0, seconds / 4) or not early_kib:
            early_kib = peak_kib()
    found = torch.tensor(late, dtype=torch.float64)
    cpu_s = (time.process_time() - cpu_s) / len(found)
    quarter = max(len(found) // 4, 1)
    drift = found[-quarter:].mean() - found[:quarter].mean()
    middle, most = found.quantile(found.new_tensor([0.5, 0.95])).tolist()
    print(
        f"{seconds:g} s of sound, {steps} steps, {torch.get_num_threads()} threads, pieces of "
        f"{piece_ms} ms, {'as fast as it goes' if fast else 'by the clock'}: {frames} frames\n"
        f"delay after the last sound of a clip: first {found[0]:.2f} s, median {middle:.2f}, 95 % "
        f"{most:.2f}, maximum {found.max():.2f}, drift {drift:+.2f}\n"
        f"work: {cpu_s:.2f} CPU seconds a clip\n"
        f"the session says: {session.delays}\n"
        f"peak of memory: {early_kib / 2**10:.0f} MiB early, {peak_kib() / 2**10:.0f} MiB at the "
        f"end, ratio {peak_kib() / early_kib:.3f}"
    )


def live_features(pipe: LoopyPipeline, voice: Tensor, hearing: LiveOptions) -> Tensor:
    """What the network is given of a voice, (f n k d)."""
    form = {"window": pipe.audio_window, "options": hearing, "device": voice.device}
    live, found = LiveFeatures(pipe.audio_encoder, pipe.settings.clip_frames, **form), []
    for frame in voice.split(FRAME_SAMPLES):
        live.add(frame) if len(frame) == FRAME_SAMPLES else live.finish(frame)
        while live.ready:
            found.append(live.clip()[0][0])
    while live.pending:
        found.append(live.clip()[0][0])
    return torch.cat(found)


def lips(pipe: LoopyPipeline, talks: int, seconds: float, *, steps: int) -> None:
    """Makes talks offline and live, and prints how their lips agree."""
    tracker, options = Tracker.from_pretrained(), SamplingOptions(steps=steps)
    clip, window = pipe.settings.clip_frames, pipe.audio_window
    found = dict[str, list[tuple[float, float, float]]]()
    for number in range(talks):
        portrait, voice, truth = spoken(number, seconds, pipe.settings.size_px)
        subject = pipe.prepare(portrait, crop="center")
        offline = tracker.track(torch.cat(list(pipe.stream(subject, voice, options=options))))
        heard = torch.cat([x[0] for x in pipe.audio_encoder.clips(voice, clip, window=window)])
        r = float(correlation(truth, offline[:, OPEN]))
        found.setdefault("offline", []).append((r, 1.0, 0.0))
        for lookahead in (2, 0):
            hearing = LiveOptions(lookahead=lookahead)
            session: Session = pipe.session(subject, options=options, hearing=hearing)
            frames = torch.cat([session.push(voice), session.flush()])
            opened = tracker.track(frames)[:, OPEN]
            error = (live_features(pipe, voice, hearing) - heard).norm() / heard.norm()
            true, same = (float(correlation(x, opened)) for x in (truth, offline[:, OPEN]))
            found.setdefault(f"look-ahead {lookahead}", []).append((true, same, float(error)))
    print(f"{talks} talks of {seconds:g} s, {steps} steps: r with the truth, r with the offline")
    print("video, relative error of the features; of each talk, then the mean")
    for name, rows in found.items():
        mean = torch.tensor(rows).nanmean(0).tolist()
        each = "; ".join(" ".join(f"{x:.3f}" for x in row) for row in rows)
        print(f"{name}: {each}; mean {' '.join(f'{x:.3f}' for x in mean)}", flush=True)


def quiet(pipe: LoopyPipeline, *, steps: int) -> None:
    """Lets a face hear silence, a talk, silence, and faint noise; prints mean and deviation."""
    portrait, voice, _ = spoken(0, 3.0, pipe.settings.size_px)
    subject, options = pipe.prepare(portrait, crop="center"), SamplingOptions(steps=steps)
    session, tracker = pipe.session(subject, options=options), Tracker.from_pretrained()

    def show(name: str, frames: Tensor) -> None:
        tracks = tracker.track(frames)[:, [OPEN, OUTPUTS.index("yaw")]]
        means, deviations = tracks.mean(0).tolist(), tracks.std(0).tolist()
        lips, yaw = zip(means, deviations, strict=True)
        said = f"open {lips[0]:.3f} +- {lips[1]:.3f}, yaw {yaw[0]:.3f} +- {yaw[1]:.3f}"
        print(f"{name}, {len(frames)} frames: {said}", flush=True)

    show("silence at first", torch.cat([session.idle() for _ in range(3)]))
    show("talk", session.push(voice))
    show("silence, the first clip, which ends the talk", session.idle())
    show("silence, later", torch.cat([session.idle() for _ in range(5)]))
    draw = generator(0, "session noise", 0)
    show("noise of -60 dB, 6 s", session.push(1e-3 * torch.randn(6 * RATE_HZ, generator=draw)))


def main(words: Sequence[str] | None = None) -> None:
    """Prints delays and memory, or lips."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0, help="of sound")
    parser.add_argument("--minutes", type=float, help="of sound, in place of seconds")
    parser.add_argument("--steps", type=int, help="of denoising; the model's own")
    parser.add_argument("--threads", type=int, default=2, help="of torch")
    parser.add_argument("--piece_ms", type=int, default=20)
    parser.add_argument("--fast", action="store_true", help="do not wait for the clock")
    parser.add_argument("--talks", type=int, help="make so many talks and compare lips")
    parser.add_argument("--quiet", action="store_true", help="let a face hear nobody")
    parser.add_argument("--model", default="toon")
    given = parser.parse_args(words)
    torch.set_num_threads(given.threads)
    pipe = LoopyPipeline.from_pretrained(given.model)
    steps = given.steps or pipe.settings.sampling.steps
    seconds = given.seconds if given.minutes is None else 60 * given.minutes
    if given.talks is not None:
        lips(pipe, given.talks, seconds, steps=steps)
    elif given.quiet:
        quiet(pipe, steps=steps)
    else:
        delays(pipe, seconds, given.piece_ms, steps=steps, fast=given.fast)


if __name__ == "__main__":
    main()
