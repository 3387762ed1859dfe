"""Trains the tracker on renders: `python -m tools.judges.train_tracker`; minutes on one core.

A face is shown in six states, as it talks or in any state, most of them corrupted. The weights are
a function of the options (threads and library builds fixed).
"""

from collections import defaultdict
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from loopy.evaluation.toon.tracks import correlation
from loopy.models.probe import SIDE_PX
from loopy.models.tracker import OUTPUTS, SPANS, Tracker
from loopy.randomness import generator
from loopy.synthetic.face import CONTROLS, random_identities, render
from loopy.synthetic.talker import random_talk
from tools.judges.augmentation import corrupt, versions
from tools.judges.practice import (
    Pool,
    in_parts,
    random_controls,
    rounded,
    save_and_print,
    states,
    talk_controls,
    train_probe,
)

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
    """Train a tracker from nothing in bfloat16 (the weights in float32).

    Args:
        steps: Batches.
        faces: New faces in a batch, each in six states; more are seen again.
        learning_rate: At its peak.
        seed: Of the first weights and of every picture.
    """
    talks, pool = talk_controls(seed), Pool(600)

    def loss(tracker: Tracker, draw: torch.Generator) -> Tensor:
        controls = states(faces, STATES, talks, draw)
        people = random_identities(faces, draw)[torch.arange(faces).repeat_interleave(STATES)]
        drawn = corrupt(render(people, controls.flatten(0, 1), size_px=SIDE_PX), draw)
        pictures, truth = pool.batch(
            drawn.unflatten(0, (faces, STATES)), controls[..., _COLUMNS], _MIRROR, draw
        )
        with torch.autocast("cpu", torch.bfloat16):
            read = tracker(pictures.flatten(0, 1))
        return tracking_loss(read.view_as(truth), truth)

    return train_probe(Tracker, loss, steps=steps, learning_rate=learning_rate, seed=seed)


def accuracy(tracker: Tracker, *, faces: int = 512, seed: int = 0) -> dict[str, dict[str, float]]:
    """How well it reads faces it never saw.

    Returns:
        For pictures as drawn, blurred to half their size, and corrupted as in training: r and mean
        absolute error of each output, over faces with any control anywhere in its range.
    """
    draw = generator(seed, "tracker accuracy")
    pictures, truth = draw_faces(faces, draw)
    card: dict[str, dict[str, float]] = {}
    for kind, shown in versions(pictures, draw).items():
        read = in_parts(tracker, shown)
        r, error = correlation(read.T, truth.T), (read - truth).abs().mean(0)
        card[kind] = {f"{name}_r": rounded(v) for name, v in zip(OUTPUTS, r, strict=True)}
        card[kind] |= {f"{name}_mae": rounded(v) for name, v in zip(OUTPUTS, error, strict=True)}
    return card


def accuracy_in_talks(
    tracker: Tracker, *, talks: int = 12, seconds: float = 4.0, seed: int = 0
) -> dict[str, dict[str, dict[str, float]]]:
    """How well it follows talks it never saw: r over the frames of one talk.

    Returns:
        For each version of the pictures and each output: median and worst of the talks. Where an
        output never moves its r counts as 0.
    """
    draw = generator(seed, "tracker talks")
    seeds = torch.randint(2**40, (talks,), generator=draw).tolist()
    found: dict[str, list[Tensor]] = defaultdict(list)
    for each in seeds:
        talk = random_talk(each, seconds=seconds)
        truth = talk.controls[:, _COLUMNS]
        for kind, shown in versions(talk.frames(range(len(truth))), draw).items():
            r = correlation(in_parts(tracker, shown).T, truth.T)
            found[kind].append(r.nan_to_num(nan=0.0))
    spread = {kind: torch.stack(rows) for kind, rows in found.items()}
    return {
        kind: {
            name: {"median": rounded(middle), "worst": rounded(worst)}
            for name, middle, worst in zip(OUTPUTS, r.quantile(0.5, dim=0), r.amin(0), strict=True)
        }
        for kind, r in spread.items()
    }


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
    save_and_print(tracker, out, card)


if __name__ == "__main__":
    from jsonargparse import auto_cli

    auto_cli(train_and_save)
