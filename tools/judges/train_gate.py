"""Trains the gate on drawn pictures: `python -m tools.judges.train_gate`; minutes on one core.

Half of the pictures are toon portraits, half are of the kinds of `tools.judges.foreign`, most
of both spoiled. The weights are a function of the options (threads and library builds fixed).
"""

from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from loopy.models.gate import Gate
from loopy.models.judge import AT_ONCE, rounded
from loopy.randomness import generator
from tools.judges.degradation import blur, degrade
from tools.judges.foreign import KINDS, foreign, framed, toons
from tools.judges.practice import Pool, optimizer_for

SMOOTHING = 0.01


def train_gate(
    *, steps: int = 1500, new: int = 6, learning_rate: float = 3e-3, seed: int = 0
) -> Gate:
    """Train a gate from nothing, with a progress bar, in bfloat16 (the weights in float32).

    Args:
        steps: Batches.
        new: New toons in a batch, and as many other pictures; more are seen again.
        learning_rate: At its peak.
        seed: Of the first weights and of every picture.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        gate = Gate()
    optimizer, schedule = optimizer_for(gate, steps=steps, learning_rate=learning_rate)
    pool = Pool(4000)
    truth = (torch.arange(2 * new) < new).float()[:, None, None]
    for step in (bar := tqdm(range(steps), desc="gate", unit="batch", mininterval=5)):
        draw = generator(seed, "gate", step)
        drawn = torch.cat([framed(toons(new, draw), draw), *foreign(new, draw).values()])
        pictures, is_toon = pool.batch(degrade(drawn, draw)[:, None], truth, torch.ones(1), draw)
        with torch.autocast("cpu", torch.bfloat16):
            odds = gate(pictures[:, 0]).float()
        target = is_toon[:, 0, 0] * (1 - 2 * SMOOTHING) + SMOOTHING
        loss = functional.binary_cross_entropy_with_logits(odds, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        bar.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
    rounded(gate)
    return gate.eval()


def accuracy(gate: Gate, *, pictures: int = 400, seed: int = 0) -> dict[str, dict[str, float]]:
    """How well it sorts drawn pictures that it never saw.

    Args:
        gate: The gate.
        pictures: Of each kind.
        seed: Of the pictures.

    Returns:
        The share that passes of toons as drawn, blurred to half their size, and cut out and
        spoiled as in training; the share that is refused of each kind of others, spoiled.
    """
    draw = generator(seed, "gate accuracy")
    drawn = toons(pictures, draw)
    shown = {"clean": drawn, "blurred": blur(drawn), "spoiled": degrade(framed(drawn, draw), draw)}
    passed = {kind: _share(odds(gate, each) > 0) for kind, each in shown.items()}
    refused = {}
    for kind, (_, paint) in KINDS.items():
        refused[kind] = _share(odds(gate, degrade(paint(pictures, draw), draw)) <= 0)
    return {"passed": passed, "refused": refused}


@torch.no_grad()
def odds(gate: Gate, pictures: Float[Tensor, "n 3 128 128"]) -> Float[Tensor, " n"]:
    """Log odds of many pictures, a few at a time."""
    return torch.cat([gate(part) for part in pictures.split(AT_ONCE)])


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
    measured = accuracy(gate, pictures=unseen, seed=seed)
    made = {"steps": steps, "new": new, "seed": seed}
    gate.save_pretrained(out or Gate.home(), card={"made_by": made, "accuracy": measured})
    for what, shares in measured.items():
        print(f"{what}: {'  '.join(f'{kind} {share:.1%}' for kind, share in shares.items())}")


def _share(right: Tensor) -> float:
    return round(float(right.float().mean()), 4)


if __name__ == "__main__":
    from jsonargparse import auto_cli

    auto_cli(train_and_save)
