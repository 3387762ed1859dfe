"""What `loopy estimate` prints."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from loopy.commands.estimate_ladder import Rung
from loopy.commands.estimate_recipe import Plan
from loopy.training.estimate import CUDA, PARTS, Needs
from loopy.training.estimate_inference import InferenceCost
from loopy.training.estimate_step import StepCost

GIB, TERA = 2**30, 1e12

WORDS = {
    "optimiser": "state of the optimiser",
    "average": "moving average",
    "buckets": "buckets of DDP",
    "gathered": "gathered by FSDP2",
    "casts": "weights in half precision",
}
"""Of parts whose name alone would not say it."""


def training_table(plan: Plan, step: StepCost, needs: Needs) -> str:
    """GiB on each device at the three moments, and operations of a step."""
    moments = (needs.step, needs.update, needs.validation)
    spread = plan.spread
    on = (
        f"each of {spread.devices} devices ({spread.strategy})"
        if spread.devices > 1
        else "a device"
    )
    lines = [f"Training on {on}, {plan.precision}, batches of {plan.batch_size}, GiB:"]
    lines.append(f"{'':<28}{'in a step':>12}{'at update':>12}{'validating':>12}")
    for part in PARTS:
        if any(moment[part] for moment in moments):
            lines.append(_row(WORDS.get(part, part), [moment[part] for moment in moments]))
    lines.append(_row("sum", [moment.total() for moment in moments]))
    lines.append(f"A step computes {step.ledger.flops / TERA:.3g} TFLOP on each device.")
    return "\n".join(lines)


def inference_table(cost: InferenceCost) -> str:
    """GiB of one clip in float32, as `loopy animate` makes it, and operations of a frame."""
    frames = cost.frames * TERA
    keys = ", ".join(f"{name} {size / GIB:.2f}" for name, size in cost.keys.items() if size)
    return "\n".join(
        [
            f"Inference of a clip of {cost.frames} frames in float32, GiB:",
            _row("networks", [cost.networks]),
            _row("autoencoder, audio encoder", [cost.around]),
            f"{_row('diffusion step', [cost.denoising])}  (keys and values: {keys})",
            _row("decoding", [cost.decoding]),
            _row("peak", [cost.peak]),
            f"A frame takes {cost.flops_a_frame / TERA:.3g} TFLOP: {cost.steps} steps of "
            f"{cost.step / frames:.3g}, decoding {cost.decode / frames:.3g}.",
        ]
    )


def ladder_table(rungs: Sequence[Rung], card: float, names: str) -> str:
    """Each variant's peak, and which is the first that fits."""
    lines = [f"{'GiB':>8}{'room':>8}  {'at its':<12}variant ({CUDA / GIB} GiB are CUDA's own)"]
    for rung in rungs:
        sizes = f"{rung.needs.peak / GIB:8.1f}{rung.room(card) / GIB:8.1f}"
        words = " + ".join(rung.changes) or "as it stands"
        lines.append(f"{sizes}  {rung.needs.largest:<12}{words}")
    last = rungs[-1]
    size = f"{card / GIB:.4g} GiB"
    if last.room(card) < 0:
        lines.append(f"No variant of {names} fits {size}; take a larger card, or more of them.")
        return "\n".join(lines)
    close = last.room(card) < 0.1 * last.needs.peak
    lines.append(
        f"{names}{f' with {last.options}' if last.options else ''} is the first that fits {size}: "
        f"{last.needs.peak / GIB:.1f} GiB"
        + (", nearer than the 10 % that the estimate may be wrong." if close else ".")
    )
    return "\n".join(lines)


def as_json(
    step: StepCost, needs: Needs, inference: InferenceCost, rungs: Sequence[Rung]
) -> dict[str, Any]:
    """The same in bytes and operations."""
    moments = {name: dict(moment) for name, moment in vars(needs).items()}
    return {
        "training": {**moments, "peak": needs.peak, "flops_a_step": step.ledger.flops},
        "inference": {
            **asdict(inference),
            "peak": inference.peak,
            "flops_a_frame": inference.flops_a_frame,
        },
        "variants": [
            {"changes": rung.changes, "options": rung.options, "peak": rung.needs.peak}
            for rung in rungs
        ],
    }


def _row(name: str, sizes: Sequence[int]) -> str:
    return f"{name:<28}" + "".join(f"{size / GIB:12.2f}" for size in sizes)
