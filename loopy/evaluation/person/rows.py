"""The table of a person's model: figures of each sentence, with thresholds, ceilings and floors."""

from collections.abc import Callable, Sequence

import torch
from PIL import Image
from torch import Tensor

from loopy.data.media.video import contact_sheet
from loopy.evaluation.person.films import LOOKED_AT, MeasuredSentence, Reading
from loopy.evaluation.table.statistics import (
    Statistic,
    bootstrap,
    mean,
    median,
    ratio_of_medians,
    ratio_of_sums,
)
from loopy.evaluation.table.text import aligned
from loopy.evaluation.toon.thresholds import RowResult, Threshold, cells
from loopy.evaluation.toon.tracks import best_lag, correlation, variance
from loopy.metrics.beat import smoothed
from loopy.metrics.drift import palette_distance

SECOND = 25
SOURCES = ("made", "truth", "vae", "still", "mismatched")
Values = Callable[[Sequence[MeasuredSentence], str], Tensor | None]
"""Values of each sentence (n k) of films of a source; None where there are none."""

LEGEND = """\
made is the model. Ceilings: truth (true frames), vae (these through the autoencoder). Floors: still
(the first frame), mismatched (true frames of another sentence). All are read by MediaPipe's
networks. In brackets: 95 % interval, sentences redrawn. ~ where an end of it says otherwise."""


def per_sentence(figure: Callable[[Reading, Reading], float], *, ceiling: str = "") -> Values:
    """A figure of each film beside the true one; in a second column that of a ceiling's film."""

    def values(sentences: Sequence[MeasuredSentence], source: str) -> Tensor | None:
        rows = [
            [figure(s.films[name], s.films["truth"]) for name in (source, ceiling) if name]
            for s in sentences
            if source in s.films
        ]
        found = torch.tensor(rows)
        return None if not rows or found.isnan().any() else found

    return values


def follows_track(name: str) -> Callable[[Reading, Reading], float]:
    """Correlation of a track with the true one; 0 where either does not move."""
    return lambda film, truth: float(
        correlation(getattr(truth, name), getattr(film, name)).nan_to_num(0.0)
    )


def opening_lag(film: Reading, truth: Reading) -> float:
    """Frames between both openings where they match best; 6 where nowhere."""
    frames = best_lag(truth.opening, film.opening)
    return abs(frames) if frames == frames else 6.0


def others_opening(sentences: Sequence[MeasuredSentence], source: str) -> Tensor | None:
    """Correlation of the opening with the true ones of all other sentences, mean."""
    means = list[float]()
    for own, sentence in enumerate(sentences):
        if source not in sentence.films:
            return None
        film = sentence.films[source].opening
        others = [s.films["truth"].opening for i, s in enumerate(sentences) if i != own]
        r = [float(correlation(*_as_long(film, other)).nan_to_num(0.0)) for other in others]
        means.append(sum(r) / max(len(r), 1))
    return torch.tensor(means)[:, None]


def head_motion(film: Reading, _: Reading) -> float:
    """Variance of place and pose, smoothed over 5 frames, radians and eye distances alike."""
    return float(variance(smoothed(film.head)).sum())


def likeness(*, last: int = 0) -> Callable[[Reading, Reading], float]:
    """Mean cosine with the portrait; NaN without a network."""
    return lambda film, _: float(film.likeness[-last:].mean())


def colour_change(film: Reading, _: Reading) -> float:
    """Colours of the last second against those of the first: delta-E."""
    first, last = film.colours[:SECOND].flatten(0, 1), film.colours[-SECOND:].flatten(0, 1)
    return float(palette_distance(first, last))


def third(film: Reading, truth: Reading) -> float:
    """Correlation of the opening in the last third."""
    start = len(film.opening) * 2 // 3
    return float(correlation(truth.opening[start:], film.opening[start:]).nan_to_num(0.0))


LIPS, LIFE, OWN = Threshold(low=0.5), Threshold(low=0.5, high=1.5), Threshold(low=0.95)
ROWS: Sequence[tuple[str, Values, Statistic, Threshold | None]] = (
    ("opening: r with truth", per_sentence(follows_track("opening")), median, Threshold(low=0.7)),
    ("opening: frames of lag", per_sentence(opening_lag), median, Threshold(high=1)),
    ("opening: r with others", others_opening, median, Threshold(high=0.2)),
    ("width: share of ceiling", per_sentence(follows_track("width"), ceiling="vae"),
     ratio_of_medians, LIPS),
    ("rounding: share of ceiling", per_sentence(follows_track("rounding"), ceiling="vae"),
     ratio_of_medians, LIPS),
    ("head motion: share of truth", per_sentence(head_motion, ceiling="truth"), ratio_of_sums,
     LIFE),
    ("identity: cosine", per_sentence(likeness()), mean, None),
    ("identity: share of ceiling", per_sentence(likeness(), ceiling="truth"), ratio_of_sums, OWN),
    ("frames with a face", per_sentence(lambda film, _: film.found), mean, None),
)  # fmt: skip
IN_A_ROW = (
    ("in a row: opening r, last third", per_sentence(third), median, Threshold(low=0.7)),
    ("in a row: identity, last second",
     per_sentence(likeness(last=SECOND // LOOKED_AT), ceiling="truth"),
     ratio_of_sums, OWN),
    ("in a row: drift, delta-E", per_sentence(colour_change), median, Threshold(high=3)),
)  # fmt: skip


def person_results(
    sentences: Sequence[MeasuredSentence], rows: Sequence[MeasuredSentence], *, seed: int = 0
) -> list[RowResult]:
    """Every row of the table; those of `IN_A_ROW` of sentences that were made as one."""
    results = list[RowResult]()
    for of, measured in ((ROWS, sentences), (IN_A_ROW, rows)):
        for name, values, statistic, threshold in of:
            found = {source: values(measured, source) for source in SOURCES}
            known = {source: each for source, each in found.items() if each is not None}
            figures = {s: bootstrap(statistic, each, seed=seed) for s, each in known.items()}
            listed = {source: [each.tolist()] for source, each in known.items()}
            results.append(RowResult(name, threshold, figures, listed))
    return results


def table(results: Sequence[RowResult]) -> str:
    """The table with its legend."""
    head = ["what", "made", "95 %", "threshold", "reached", *SOURCES[1:]]
    return "\n".join([*aligned(head, [cells(row, SOURCES) for row in results]), "", LEGEND])


def person_sheet(sentences: Sequence[MeasuredSentence], count: int = 6) -> Image.Image:
    """True frames over made ones, the worst sentences first."""
    worst = sorted(
        sentences, key=lambda s: follows_track("opening")(s.films["made"], s.films["truth"])
    )
    rows = [s.films[source].shown for s in worst[:count] for source in ("truth", "made")]
    return contact_sheet(torch.cat(rows), columns=len(rows[0]))


def _as_long(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    frames = min(len(a), len(b))
    return a[:frames], b[:frames]
