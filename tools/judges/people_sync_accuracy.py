"""How well the sync judge for people does on clips that it never met: a table.

::

    python -m tools.judges.people_sync_accuracy --speaker s1 --others others

Of the speaker's folder only the sentences are measured that its training holds out.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from scipy.stats import binomtest
from torch import Tensor
from torch.nn.functional import pad

from loopy.evaluation.table.statistics import bootstrap
from loopy.metrics.sync_scores import SyncScores, load_people_judge, scores_of
from loopy.models import AudioEncoder
from loopy.models.people_sync import PeopleSyncJudge
from loopy.timing import SAMPLE_RATE_HZ
from tools.judges.people_clips import PeopleClip, read_clips

SHIFTS = (-12, -6, -3, 3, 6, 12)
"""Frames by which the sound is made late."""
STRANGERS = 4
"""Other sentences of the set that a clip is heard with: those with the fewest words in common."""
FALSE = 0.05
"""Share of clips with a stranger's sound that the line of the judge lets pass."""
SAMPLES_A_FRAME = SAMPLE_RATE_HZ // 25

Measured = dict[str, Float[Tensor, "clips n"]]


def late(sound: Float[Tensor, " samples"], frames: int) -> Float[Tensor, " samples"]:
    """A sound that comes so many frames later, or earlier where they are negative; as long."""
    shift = frames * SAMPLES_A_FRAME
    return pad(sound, (shift, -shift))


def strangers(clip: PeopleClip, clips: Sequence[PeopleClip], *, most: bool = False) -> list[int]:
    """Places of other sentences with the fewest (or most) words in common; ties by their order."""
    own = next(place for place, each in enumerate(clips) if each is clip)
    others = [(own + step) % len(clips) for step in range(1, len(clips))]
    others.sort(key=lambda place: clip.shared_words(clips[place]) * (-1 if most else 1))
    return others[:1] if most else others[:STRANGERS]


@torch.no_grad()
def measure(judge: PeopleSyncJudge, hearing: AudioEncoder, clips: Sequence[PeopleClip]) -> Measured:
    """Judge clips with their own sound, with it moved, and with that of other sentences.

    Returns:
        A row a clip: its "offset" and "confidence", the error of the offset where the sound was
        "moved" by `SHIFTS`, the confidence with "strangers", and with the "nearest" sentence.
    """
    heard = [judge.embed_sound(hearing.features(clip.sound)) for clip in clips]
    rows: dict[str, list[list[float]]] = {}
    for clip, own in zip(clips, heard, strict=True):
        seen = judge.embed_points(clip.points)
        score = _scores(own, seen)
        moved = [
            _scores(judge.embed_sound(hearing.features(late(clip.sound, k))), seen).offset + k
            for k in SHIFTS
        ]
        others = [_scores(heard[place], seen).confidence for place in strangers(clip, clips)]
        nearest = _scores(heard[strangers(clip, clips, most=True)[0]], seen).confidence
        found = {"offset": [score.offset], "confidence": [score.confidence], "moved": moved}
        for name, values in {**found, "strangers": others, "nearest": [nearest]}.items():
            rows.setdefault(name, []).append([float(value) for value in values])
    return {name: torch.tensor(values) for name, values in rows.items()}


def _scores(sound: Float[Tensor, "g d"], mouth: Float[Tensor, "h d"]) -> SyncScores:
    together = min(len(sound), len(mouth))
    return scores_of(sound[:together], mouth[:together])


def line_of(sets: Sequence[Measured]) -> float:
    """The confidence that `FALSE` of all clips have with the sound of a stranger."""
    return (
        torch.cat([measured["strangers"].flatten() for measured in sets]).quantile(1 - FALSE).item()
    )


def figures(measured: Measured, *, sure: float) -> dict[str, Any]:
    """Figures of a set of clips: [value, low, high], the ends of 95 % intervals.

    Of shares by Clopper and Pearson (those of moved sounds, several of a clip, by redrawing clips),
    of quantiles by redrawing clips.
    """
    offset, own = measured["offset"][:, 0], measured["confidence"]
    return {
        "clips": len(offset),
        "right": _share(offset == 0),
        "right_within_1": _share(offset.abs() <= 1),
        "moved_right_within_1": _redrawn(measured["moved"].abs().le(1).float(), None),
        "confidence": _redrawn(own, 0.5),
        "confidence_5": _redrawn(own, 0.05),
        "stranger_confidence": _redrawn(measured["strangers"], 0.5),
        "stranger_confidence_95": _redrawn(measured["strangers"], 0.95),
        "nearest_confidence": _redrawn(measured["nearest"], 0.5),
        "sure": _share(own[:, 0] >= sure),
        "stranger_sure": _redrawn(measured["strangers"].ge(sure).float(), None),
    }


def _share(hits: Tensor) -> list[float]:
    found = binomtest(int(hits.sum()), len(hits)).proportion_ci()
    return _rounded(hits.double().mean().item(), found.low, found.high)


def _redrawn(rows: Float[Tensor, "clips n"], quantile: float | None) -> list[float]:
    """Mean, or a quantile, of all numbers of all clips."""

    def statistic(values: Float[Tensor, "*draws clips n"]) -> Tensor:
        flat = values.flatten(-2)
        return flat.mean(-1) if quantile is None else flat.quantile(quantile, -1)

    return _rounded(*bootstrap(statistic, rows))


def _rounded(*values: float) -> list[float]:
    return [round(float(value), 4) for value in values]


def print_table(
    *,
    speaker: Path,
    others: Path,
    judge: Path | None = None,
    encoder: Path | None = None,
    cache: Path | None = None,
) -> None:
    """Measure a judge, and print the table.

    Args:
        speaker: Folder with the clips of the speaker it was trained on.
        others: Folder with clips of others.
        judge: Its folder; the package's own by default.
        encoder: Folder of its audio encoder; likewise.
        cache: Folder for the points of the clips; None reads them anew.
    """
    network, hearing = load_people_judge(judge, audio_encoder=encoder)
    for name, folder in (("speaker", speaker), ("others", others)):
        clips = read_clips(folder, cache=cache)
        if name == "speaker":
            clips = [clip for clip in clips if clip.held_out]
        measured = measure(network, hearing, clips)
        print(f"{name}: {json.dumps(figures(measured, sure=network.settings.sure), indent=1)}")


if __name__ == "__main__":
    from jsonargparse import auto_cli

    auto_cli(print_table)
