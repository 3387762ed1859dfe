"""Trains the gate on drawn pictures: `python -m tools.judges.train_gate`; minutes on one core.

Half of the pictures are toon portraits, half are of the kinds of `tools.judges.foreign`, most
of both corrupted. The weights are a function of the options (threads and library builds fixed).
"""

from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from loopy.models.gate import Gate
from loopy.randomness import generator
from tools.judges.augmentation import blur, corrupt
from tools.judges.foreign import KINDS, foreign, framed, toons
from tools.judges.practice import Pool, in_parts, rounded, save_and_print, train_probe

SMOOTHING = 0.01


def train_gate(
    *, steps: int = 1500, new: int = 6, learning_rate: float = 3e-3, seed: int = 0
) -> Gate:
    """Train a gate from nothing in bfloat16 (the weights in float32).

    Args:
        steps: Batches.
        new: New toons in a batch, and as many other pictures; more are seen again.
        learning_rate: At its peak.
        seed: Of the first weights and of every picture.
    """
    pool = Pool(4000)
    truth = (torch.arange(2 * new) < new).float()[:, None, None]

    def loss(gate: Gate, draw: torch.Generator) -> Tensor:
        drawn = torch.cat([framed(toons(new, draw), draw), *foreign(new, draw).values()])
        pictures, is_toon = pool.batch(corrupt(drawn, draw)[:, None], truth, torch.ones(1), draw)
        with torch.autocast("cpu", torch.bfloat16):
            odds = gate(pictures[:, 0]).float()
        target = is_toon[:, 0, 0] * (1 - 2 * SMOOTHING) + SMOOTHING
        return functional.binary_cross_entropy_with_logits(odds, target)

    return train_probe(Gate, loss, steps=steps, learning_rate=learning_rate, seed=seed)


def accuracy(gate: Gate, *, pictures: int = 400, seed: int = 0) -> dict[str, dict[str, float]]:
    """How well it sorts drawn pictures that it never saw.

    Args:
        gate: The gate.
        pictures: Of each kind.
        seed: Of the pictures.

    Returns:
        The share that passes of toons as drawn, blurred to half their size, and cut out and
        corrupted as in training; the share that is refused of each other kind, corrupted.
    """
    draw = generator(seed, "gate accuracy")
    drawn = toons(pictures, draw)
    damaged = corrupt(framed(drawn, draw), draw)
    shown = {"clean": drawn, "blurred": blur(drawn), "corrupted": damaged}
    passed = {kind: _share(in_parts(gate, each) > 0) for kind, each in shown.items()}
    refused = {}
    for kind, (_, paint) in KINDS.items():
        refused[kind] = _share(in_parts(gate, corrupt(paint(pictures, draw), draw)) <= 0)
    return {"passed": passed, "refused": refused}


def train_and_save(
    *, out: Path | None = None, steps: int = 1500, new: int = 6, unseen: int = 400, seed: int = 0
) -> None:
    """Train the gate, print how well it sorts, and write it.

    Args:
        out: Folder for weights and card; the package's own by default.
        steps: Batches.
        new: New toons in a batch, and as many other pictures.
        unseen: Unseen pictures of each kind to measure it on.
        seed: Of everything.
    """
    gate = train_gate(steps=steps, new=new, seed=seed)
    made = {"steps": steps, "new": new, "seed": seed}
    measured = accuracy(gate, pictures=unseen, seed=seed)
    save_and_print(gate, out, {"made_by": made, "accuracy": measured})


def _share(right: Tensor) -> float:
    return rounded(right.float().mean())


if __name__ == "__main__":
    from jsonargparse import auto_cli

    auto_cli(train_and_save)
