"""The votes of a blind study: which model wins, how surely, and whether the raters agree."""

import csv
import json
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from loopy.drafts import writing
from loopy.errors import ManifestError
from loopy.evaluation.table.compare import FEWEST
from loopy.evaluation.table.statistics import RESAMPLES, Figure
from loopy.evaluation.table.text import aligned, count, interval, short
from loopy.randomness import generator
from loopy.typed_values import finite
from tools.study.pages import CHOICES, DIMENSIONS, HEAD, StudyKey

FILE = "study.json"
Question = tuple[str, str, str]
"""Two models, in the order of their names, and in which respect."""

SCORES = (1.0, 0.5, 0.0)
"""What an answer counts for a model: it is better, no difference, the other is."""


@dataclass(frozen=True)
class Preference:
    """Two models in one respect.

    Attributes:
        first: One of them.
        second: The other.
        dimension: The respect.
        votes: How many answers.
        raters: Of how many people.
        items: On how many videos.
        wins: Share of answers for the first, half of "no difference" counted; with its interval
            over raters and items.
        alpha: Krippendorff's, with its interval over items; NaN where no item has two
            answers, or all answers are the same.
    """

    first: str
    second: str
    dimension: str
    votes: int
    raters: int
    items: int
    wins: Figure
    alpha: Figure

    @property
    def winner(self) -> str:
        """Which is preferred beyond noise; "" for none, or with too few raters or items."""
        if min(self.raters, self.items) < FEWEST:
            return ""
        if self.wins.low > 0.5:
            return self.first
        return self.second if self.wins.high < 0.5 else ""


@dataclass(frozen=True)
class Study:
    """What a study found.

    Attributes:
        study: Its name.
        raters: Those who have answered.
        preferences: Each pair of models in each respect that has answers.
    """

    study: str
    raters: tuple[str, ...]
    preferences: tuple[Preference, ...]

    def as_json(self) -> dict[str, Any]:
        """Everything, with None for what is not known."""
        rows = [asdict(row) | {"winner": row.winner} for row in self.preferences]
        return finite(asdict(self) | {"preferences": rows})

    def write(self, folder: Path) -> Path:
        """Writes study.json, whole or not at all.

        Raises:
            OutputError: It cannot be written there.
        """
        with writing(folder / FILE) as hidden:
            hidden.write_text(json.dumps(self.as_json(), indent=1) + "\n", encoding="utf-8")
        return folder / FILE

    def __str__(self) -> str:
        """The table, with a legend."""
        head = ["first", "second", "in", "votes", "raters", "items", "first wins", "95 %"]
        rows = [
            [
                *map(str, (row.first, row.second, row.dimension, row.votes, row.raters, row.items)),
                *(short(row.wins.value), interval(row.wins.low, row.wins.high), row.winner or "-"),
                *(short(row.alpha.value), interval(row.alpha.low, row.alpha.high)),
            ]
            for row in self.preferences
        ]
        return "\n".join(
            [
                f"study {self.study}: {count(self.raters, 'rater')}",
                "",
                *aligned([*head, "preferred", "alpha", "95 %"], rows),
                "",
                'first wins: share of answers, "no difference" as half; raters and items redrawn.',
                "alpha: Krippendorff's, nominal; 1 is agreement, 0 is luck; items redrawn.",
                f"None is preferred before {FEWEST} raters and {FEWEST} items.",
                f"Each row errs once in 20: by luck alone about {len(rows) / 20:.1f} of "
                f"{len(rows)} would name a model.",
            ]
        )


def analyse(files: Sequence[Path], key: Path, *, seed: int = 0) -> Study:
    """Decodes the votes of a study and sums them up.

    Args:
        files: What the pages saved.
        key: The key.json of the study.
        seed: Of the draws.

    Raises:
        ManifestError: A file is missing, malformed or of another study, an answer was given twice,
            or there is none.
    """
    secret = StudyKey.read(key)
    answers: dict[Question, dict[tuple[str, str], float]] = defaultdict(dict)
    for path in files:
        for place, row in _rows(path):
            question, item, score = _decoded(row, place, secret)
            rater = row["rater"]
            if (rater, item) in answers[question]:
                raise ManifestError(
                    f"{place}: {rater} has answered this before; give each file of votes once"
                )
            answers[question][rater, item] = score
    if not answers:
        raise ManifestError("there are no votes; give the files that the raters saved")
    order = sorted(answers, key=lambda asked: (asked[:2], list(DIMENSIONS).index(asked[2])))
    raters = {rater for votes in answers.values() for rater, _ in votes}
    rows = tuple(_preference(question, answers[question], seed) for question in order)
    return Study(secret.study, tuple(sorted(raters)), rows)


def wins(scores: Float[Tensor, "raters items"], *, seed: int = 0) -> Figure:
    """Mean score, and its interval when raters and items are redrawn, each by itself.

    The two-way ("pigeonhole") bootstrap: neither answers of one person nor answers about one
    video are independent (Owen 2007, arXiv 0712.1111); it is a little too wide.

    Args:
        scores: NaN where there is no answer.
        seed: Of the draws.
    """
    given = scores.isfinite()
    value = float(scores[given].mean())
    if given.sum() < 2:
        return Figure(value, math.nan, math.nan)
    raters, items = (
        torch.nn.functional.one_hot(_draws(size, seed, name), size).sum(1).to(scores.dtype)
        for size, name in zip(scores.shape, ("raters", "items"), strict=True)
    )
    total, answers = (
        torch.einsum("kr,ri,ki->k", raters, table, items)
        for table in (scores.nan_to_num(0), given.to(scores.dtype))
    )
    return _figure(value, total / answers)


def alpha(counts: Float[Tensor, "*r items choices"]) -> Float[Tensor, "*r"]:
    """Krippendorff's alpha for names: 1 - observed disagreement over that expected by luck.

    Krippendorff, "Computing Krippendorff's alpha-reliability" (2011), nominal data with gaps. Items
    with less than two answers count for nothing; NaN where all answers are the same.

    Args:
        counts: How many raters gave each choice.
    """
    answers = counts.sum(-1, keepdim=True)
    pairable = torch.where(answers > 1, counts, 0)
    size = pairable.sum(-1)
    differing = size.square() - pairable.square().sum(-1)
    total = size.sum(-1)
    observed = (differing / (size - 1).clamp(min=1)).sum(-1) / total
    values = pairable.sum(-2)
    expected = (total.square() - values.square().sum(-1)) / (total * (total - 1))
    return 1 - observed / expected


def agreement(counts: Float[Tensor, "items choices"], *, seed: int = 0) -> Figure:
    """Krippendorff's alpha with its interval when items are redrawn.

    Draws in which all answers are the same, which have no alpha, are left out of the interval.

    Args:
        counts: How many raters gave each choice.
        seed: Of the draws.
    """
    value = float(alpha(counts))
    if len(counts) < 2:
        return Figure(value, math.nan, math.nan)
    return _figure(value, alpha(counts[_draws(len(counts), seed, "agreement")]))


def _preference(question: Question, votes: dict[tuple[str, str], float], seed: int) -> Preference:
    raters, items = (sorted(set(names)) for names in zip(*votes, strict=True))
    table = [[votes.get((rater, item), math.nan) for item in items] for rater in raters]
    scores = torch.tensor(table, dtype=torch.float64)
    counts = torch.stack([(scores == score).sum(0) for score in SCORES], -1).double()
    sizes = (len(votes), len(raters), len(items))
    return Preference(*question, *sizes, wins(scores, seed=seed), agreement(counts, seed=seed))


def _rows(path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """The rows of a file, each with where it stands.

    Raises:
        ManifestError: It cannot be read, or has other columns.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.reader(file, strict=True)
            head = tuple(next(rows, ()))
            if head != HEAD:
                raise ManifestError(
                    f"{path}: its columns are {', '.join(head or ['none'])}, not "
                    f"{', '.join(HEAD)}; give the file as the page saved it"
                )
            for row in filter(None, rows):
                place = f"{path}, line {rows.line_num}"
                if len(row) != len(HEAD):
                    raise ManifestError(
                        f"{place} has not {len(HEAD)} cells; give the file as the page saved it"
                    )
                yield place, dict(zip(HEAD, row, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ManifestError(f"{path} cannot be read ({error}); give a file of votes") from error


def _decoded(row: dict[str, str], place: str, key: StudyKey) -> tuple[Question, str, float]:
    """What a row says: about which models, of which video, and the score of the first one.

    Raises:
        ManifestError: It makes no sense.
    """
    if row["study"] != key.study:
        raise ManifestError(
            f"{place} is of study {row['study']!r}, the key of {key.study!r}; give its own key"
        )
    known = {"rater": key.raters, "dimension": DIMENSIONS, "choice": CHOICES}
    for name, allowed in {**known, "left": key.clips, "right": key.clips}.items():
        if row[name] not in allowed:
            raise ManifestError(f"{place}: unknown {name} {row[name]!r}; the file was changed")
    left, right = key.clips[row["left"]], key.clips[row["right"]]
    if left.item != right.item or left.model == right.model:
        raise ManifestError(f"{place}: no pair of the study; the file was changed")
    score = SCORES[CHOICES.index(row["choice"])]
    first, second = sorted((left.model, right.model))
    score = score if first == left.model else 1 - score
    return (first, second, row["dimension"]), left.item, score


def _draws(size: int, seed: int, name: str) -> Tensor:
    """Places drawn with replacement, a row a draw."""
    dice = generator(seed, "study", name)
    return torch.randint(size, (RESAMPLES, size), generator=dice)


def _figure(value: float, spread: Float[Tensor, " draws"]) -> Figure:
    low, high = spread.nanquantile(spread.new_tensor([0.025, 0.975])).tolist()
    return Figure(value, low, high)
