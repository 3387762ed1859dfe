"""Trains the tracker on renders: `python -m loopy.evaluation.train_tracker`; minutes on one core.

Every picture is drawn once: another face, any mouth, any turn, and most of them spoiled. The
weights are a function of the options (threads and library builds fixed).
"""

import math
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from loopy.evaluation.degradation import blur, degrade
from loopy.evaluation.metrics import correlation
from loopy.evaluation.tracker import FOLDER, OUTPUTS, SIDE_PX, Tracker
from loopy.randomness import generator
from loopy.synthetic.face import CONTROLS, random_identities, render

_LIMIT = {"yaw": 0.45, "pitch": 0.3, "roll": 0.25, "shift_x": 0.06, "shift_y": 0.06}
_COLUMNS = [CONTROLS.index(name) for name in OUTPUTS]


def random_controls(n: int, draw: torch.Generator) -> Float[Tensor, "n 14"]:
    """Any state of a face: each control over its whole range, each fourth mouth shut."""
    unit = torch.rand(len(CONTROLS) + 2, n, generator=draw)
    columns: dict[str, Tensor] = dict(zip(CONTROLS, unit, strict=False))
    for name in ("smile", "gaze_x", "gaze_y", "brow", *_LIMIT):
        columns[name] = (2 * columns[name] - 1) * _LIMIT.get(name, 1.0)
    columns["open"] = columns["open"] * (unit[-1] > 0.25)
    columns["blink"] = columns["blink"] * (unit[-2] > 0.5)
    return torch.stack([columns[name] for name in CONTROLS], 1)


def draw_faces(
    n: int, draw: torch.Generator
) -> tuple[Float[Tensor, "n 3 H W"], Float[Tensor, "n 6"]]:
    """Pictures of n unrelated faces, and what a tracker should read in them."""
    controls = random_controls(n, draw)
    return render(random_identities(n, draw), controls, size_px=SIDE_PX), controls[:, _COLUMNS]


def train_tracker(
    *, steps: int = 800, batch_size: int = 48, learning_rate: float = 4e-3, seed: int = 0
) -> Tracker:
    """Train a tracker from nothing, with a progress bar.

    Loss: L1 of all outputs, mouth opening three times, yaw (in radians) twice. AdamW; the rate
    rises over a twentieth of the steps and falls as a cosine.

    Args:
        steps: Batches.
        batch_size: Faces in a batch.
        learning_rate: At its peak.
        seed: Of the first weights and of every picture.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        tracker = Tracker()
    optimizer = torch.optim.AdamW(tracker.parameters(), learning_rate, weight_decay=0.01)
    warm = max(1, steps // 20)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min((step + 1) / warm, 0.5 + 0.5 * math.cos(math.pi * step / steps)),
    )
    weight = torch.tensor([3.0, 1.0, 1.0, 1.0, 1.0, 2.0])
    for step in (bar := tqdm(range(steps), desc="tracker", unit="batch")):
        draw = generator(seed, "tracker", step)
        pictures, truth = draw_faces(batch_size, draw)
        pictures = degrade(pictures, draw)
        loss = (functional.l1_loss(tracker(pictures), truth, reduction="none") * weight).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        bar.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
    return tracker.eval()


@torch.no_grad()
def accuracy(tracker: Tracker, *, faces: int = 512, seed: int = 0) -> dict[str, dict[str, float]]:
    """How well it reads faces it never saw.

    Returns:
        For pictures as drawn, blurred to half their size, and spoiled as in training: r and mean
        absolute error of each output, over faces with any control anywhere in its range.
    """
    draw = generator(seed, "tracker accuracy")
    pictures, truth = draw_faces(faces, draw)
    kinds = {"clean": pictures, "blurred": blur(pictures), "spoiled": degrade(pictures, draw)}
    card: dict[str, dict[str, float]] = {}
    for kind, shown in kinds.items():
        read = torch.cat([tracker(part) for part in shown.split(32)])
        r = correlation(read.T, truth.T).tolist()
        error = (read - truth).abs().mean(0).tolist()
        card[kind] = {f"{name}_r": round(v, 4) for name, v in zip(OUTPUTS, r, strict=True)}
        card[kind] |= {f"{name}_mae": round(v, 4) for name, v in zip(OUTPUTS, error, strict=True)}
    return card


def train_and_save(
    *, out: Path = FOLDER, steps: int = 800, batch_size: int = 48, faces: int = 512, seed: int = 0
) -> None:
    """Train the tracker, print how well it reads, and write it.

    Args:
        out: Folder for weights and card.
        steps: Batches.
        batch_size: Faces in a batch.
        faces: Unseen faces to measure it on.
        seed: Of everything.
    """
    tracker = train_tracker(steps=steps, batch_size=batch_size, seed=seed)
    measured = accuracy(tracker, faces=faces, seed=seed)
    made = {"steps": steps, "batch_size": batch_size, "seed": seed}
    tracker.save_pretrained(out, card={"made_by": made, "accuracy": measured})
    for kind, figures in measured.items():
        row = "  ".join(
            f"{name} {figures[f'{name}_r']:.3f} ({figures[f'{name}_mae']:.3f})" for name in OUTPUTS
        )
        print(f"{kind:8} r (mean error): {row}")


if __name__ == "__main__":
    from jsonargparse import auto_cli

    auto_cli(train_and_save)
