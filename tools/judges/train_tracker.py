"""Trains the tracker on renders: `python -m tools.judges.train_tracker`; minutes on one core.

A face is shown in six states, as it talks or in any state, most of them spoiled. The weights are
a function of the options (threads and library builds fixed).
"""

from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from loopy.evaluation.toon.tracker import OUTPUTS, SPANS, Tracker
from loopy.evaluation.toon.tracks import correlation
from loopy.models.judge import AT_ONCE, SIDE_PX, rounded
from loopy.randomness import generator
from loopy.synthetic.face import CONTROLS, random_identities, render
from loopy.synthetic.talker import random_talk
from tools.judges.degradation import blur, degrade
from tools.judges.practice import Pool, optimizer_for, random_controls, states, talk_controls

STATES = 6
_COLUMNS = [CONTROLS.index(name) for name in OUTPUTS]
_MIRROR = torch.tensor([-1.0 if name in ("yaw", "roll", "shift_x") else 1.0 for name in OUTPUTS])
_MATTERS = {"open": 2.0, "wide": 2.0, "round": 2.0}
_WEIGHT = torch.tensor([_MATTERS.get(name, 1.0) for name in OUTPUTS]) / torch.tensor(SPANS)


def draw_faces(
    n: int, draw: torch.Generator
) -> tuple[Float[Tensor, "n 3 H W"], Float[Tensor, "n 11"]]:
    """Pictures of n unrelated faces in any state, and what a tracker should read in them."""
    controls = random_controls(n, draw)
    return render(random_identities(n, draw), controls, size_px=SIDE_PX), controls[:, _COLUMNS]


def tracking_loss(read: Float[Tensor, "i s k"], truth: Float[Tensor, "i s k"]) -> Float[Tensor, ""]:
    """L1 in usual deviations: of the values by half, of their changes within a face in full."""
    error = (read - truth) * _WEIGHT
    return 0.5 * error.abs().mean() + (error - error.mean(1, keepdim=True)).abs().mean()


def train_tracker(
    *, steps: int = 1500, faces: int = 2, learning_rate: float = 3e-3, seed: int = 0
) -> Tracker:
    """Train a tracker from nothing, with a progress bar, in bfloat16 (the weights in float32).

    Args:
        steps: Batches.
        faces: New faces in a batch, each in six states; more are seen again.
        learning_rate: At its peak.
        seed: Of the first weights and of every picture.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        tracker = Tracker()
    optimizer, schedule = optimizer_for(tracker, steps=steps, learning_rate=learning_rate)
    talks, pool = talk_controls(seed), Pool(600)
    for step in (bar := tqdm(range(steps), desc="tracker", unit="batch", mininterval=5)):
        draw = generator(seed, "tracker", step)
        controls = states(faces, STATES, talks, draw)
        people = random_identities(faces, draw)[torch.arange(faces).repeat_interleave(STATES)]
        drawn = degrade(render(people, controls.flatten(0, 1), size_px=SIDE_PX), draw)
        pictures, truth = pool.batch(
            drawn.unflatten(0, (faces, STATES)), controls[..., _COLUMNS], _MIRROR, draw
        )
        with torch.autocast("cpu", torch.bfloat16):
            read = tracker(pictures.flatten(0, 1))
        loss = tracking_loss(read.view_as(truth), truth)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        bar.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
    rounded(tracker)
    return tracker.eval()


def accuracy(tracker: Tracker, *, faces: int = 512, seed: int = 0) -> dict[str, dict[str, float]]:
    """How well it reads faces it never saw.

    Returns:
        For pictures as drawn, blurred to half their size, and spoiled as in training: r and mean
        absolute error of each output, over faces with any control anywhere in its range.
    """
    draw = generator(seed, "tracker accuracy")
    pictures, truth = draw_faces(faces, draw)
    card: dict[str, dict[str, float]] = {}
    for kind, shown in _kinds(pictures, draw).items():
        read = _read(tracker, shown)
        r = correlation(read.T, truth.T).tolist()
        error = (read - truth).abs().mean(0).tolist()
        card[kind] = {f"{name}_r": round(v, 4) for name, v in zip(OUTPUTS, r, strict=True)}
        card[kind] |= {f"{name}_mae": round(v, 4) for name, v in zip(OUTPUTS, error, strict=True)}
    return card


def accuracy_in_talks(
    tracker: Tracker, *, talks: int = 12, seconds: float = 4.0, seed: int = 0
) -> dict[str, dict[str, dict[str, float]]]:
    """How well it follows talks it never saw: r over the frames of one talk.

    Returns:
        For pictures as drawn, blurred and spoiled, and each output: median and worst of the talks.
    """
    draw = generator(seed, "tracker talks")
    seeds = torch.randint(2**40, (talks,), generator=draw).tolist()
    found: dict[str, list[Tensor]] = {"clean": [], "blurred": [], "spoiled": []}
    for each in seeds:
        talk = random_talk(each, seconds=seconds)
        truth = talk.controls[:, _COLUMNS]
        for kind, shown in _kinds(talk.frames(range(len(truth))), draw).items():
            found[kind].append(correlation(_read(tracker, shown).T, truth.T))
    return {kind: _spread(torch.stack(rows)) for kind, rows in found.items()}


def train_and_save(
    *,
    out: Path | None = None,
    steps: int = 1500,
    faces: int = 2,
    unseen: int = 512,
    talks: int = 12,
    seed: int = 0,
) -> None:
    """Train the tracker, print how well it reads, and write it.

    Args:
        out: Folder for weights and card; the package's own by default.
        steps: Batches.
        faces: New faces in a batch.
        unseen: Unseen faces to measure it on.
        talks: Unseen talks to measure it on.
        seed: Of everything.
    """
    tracker = train_tracker(steps=steps, faces=faces, seed=seed)
    measured = accuracy(tracker, faces=unseen, seed=seed)
    in_talks = accuracy_in_talks(tracker, talks=talks, seed=seed)
    made = {"steps": steps, "faces": faces, "seed": seed}
    card = {"made_by": made, "accuracy": measured, "talks": in_talks}
    tracker.save_pretrained(out or Tracker.home(), card=card)
    for kind, figures in measured.items():
        row = "  ".join(
            f"{name} {figures[f'{name}_r']:.3f} ({figures[f'{name}_mae']:.3f})" for name in OUTPUTS
        )
        print(f"faces, {kind:8} r (mean error): {row}")
    for kind, outputs in in_talks.items():
        row = "  ".join(
            f"{name} {v['median']:.3f} ({v['worst']:.3f})" for name, v in outputs.items()
        )
        print(f"talks, {kind:8} r median (worst): {row}")


def _spread(r: Float[Tensor, "talks k"]) -> dict[str, dict[str, float]]:
    """Median and worst over the talks; where an output never moves its r counts as 0."""
    known = r.nan_to_num(nan=0.0)
    middle, worst = known.quantile(0.5, dim=0), known.amin(0)
    return {
        name: {"median": round(float(m), 4), "worst": round(float(w), 4)}
        for name, m, w in zip(OUTPUTS, middle, worst, strict=True)
    }


def _kinds(pictures: Tensor, draw: torch.Generator) -> dict[str, Tensor]:
    return {"clean": pictures, "blurred": blur(pictures), "spoiled": degrade(pictures, draw)}


@torch.no_grad()
def _read(tracker: Tracker, pictures: Tensor) -> Tensor:
    return torch.cat([tracker(part) for part in pictures.split(AT_ONCE)])


if __name__ == "__main__":
    from jsonargparse import auto_cli

    auto_cli(train_and_save)
