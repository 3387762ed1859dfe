"""The votes of a blind study: who wins, how surely, and whether the raters agree."""

import csv
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from loopy.drafts import writing
from loopy.errors import ManifestError
from loopy.evaluation.study.pages import CHOICES, DIMENSIONS, HEAD, Key
from loopy.evaluation.table.compare import FEWEST
from loopy.evaluation.table.results import finite
from loopy.evaluation.table.statistics import RESAMPLES, Figure
from loopy.evaluation.table.text import aligned, count, interval, short
from loopy.randomness import generator

FILE = "study.json"
SCORES = (1.0, 0.5, 0.0)
"""What an answer counts for a model: it is better, no difference, the other is."""


class Vote(NamedTuple):
    """An answer, with the models' names.

    Attributes:
        rater: Whose it is.
        item: Of which video.
        pair: Both models, in the order of their names.
        dimension: In which respect.
        score: 1 where the first of the pair is better, 0 where the second is, else 0.5.
    """

    rater: str
    item: str
    pair: tuple[str, str]
    dimension: str
    score: float


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
        """Who is preferred beyond noise; "" for nobody, or where too few were asked too little."""
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
        raters: Who has answered.
        preferences: Each pair of models in each respect that has answers.
    """

    study: str
    raters: tuple[str, ...]
    preferences: tuple[Preference, ...]

    def as_json(self) -> dict[str, Any]:
        """Everything, with None for what is not known."""
        rows = [
            asdict(row)
            | {"wins": row.wins._asdict(), "alpha": row.alpha._asdict(), "winner": row.winner}
            for row in self.preferences
        ]
        return finite({"study": self.study, "raters": self.raters, "preferences": rows})

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
                *(row.first, row.second, row.dimension),
                *map(str, (row.votes, row.raters, row.items)),
                short(row.wins.value),
                interval(row.wins.low, row.wins.high),
                row.winner or "-",
                short(row.alpha.value),
                interval(row.alpha.low, row.alpha.high),
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
                f"Nobody is preferred before {FEWEST} raters and {FEWEST} items.",
                f"Each row errs once in 20: by luck alone about {len(rows) / 20:.1f} of "
                f"{len(rows)} would name somebody.",
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
    secret = Key.read(key)
    votes: dict[tuple[str, str, tuple[str, str], str], Vote] = {}
    for path in files:
        for place, vote in _read(path, secret):
            if vote[:4] in votes:
                raise ManifestError(
                    f"{place}: {vote.rater} has answered this before; give each file of votes once"
                )
            votes[vote[:4]] = vote
    if not votes:
        raise ManifestError("there are no votes; give the files that the raters saved")
    models = sorted({clip.model for clip in secret.clips.values()})
    rows = []
    for pair in combinations(models, 2):
        for dimension in DIMENSIONS:
            chosen = [v for v in votes.values() if v.pair == pair and v.dimension == dimension]
            if chosen:
                rows.append(_preference(chosen, seed))
    return Study(secret.study, tuple(sorted({v.rater for v in votes.values()})), tuple(rows))


def wins(scores: Float[Tensor, "raters items"], *, seed: int = 0) -> Figure:
    """Mean score, and its interval when raters and items are redrawn, each by itself.

    The two-way ("pigeonhole") bootstrap: neither answers of one person nor answers about one
    video are independent (Owen 2007, arXiv 0712.1111); it is a little too wide. One rater or one
    item alone is kept as it is.

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


def _preference(votes: Sequence[Vote], seed: int) -> Preference:
    raters = sorted({vote.rater for vote in votes})
    items = sorted({vote.item for vote in votes})
    scores = torch.full((len(raters), len(items)), math.nan, dtype=torch.float64)
    for vote in votes:
        scores[raters.index(vote.rater), items.index(vote.item)] = vote.score
    counts = torch.stack([(scores == score).sum(0) for score in SCORES], -1).double()
    return Preference(
        *votes[0].pair,
        votes[0].dimension,
        len(votes),
        len(raters),
        len(items),
        wins(scores, seed=seed),
        agreement(counts, seed=seed),
    )


def _read(path: Path, key: Key) -> Iterator[tuple[str, Vote]]:
    """The votes of a file, each with where it stands.

    Raises:
        ManifestError: It cannot be read, or a row makes no sense.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file, strict=True)
            if tuple(rows.fieldnames or ()) != HEAD:
                raise ManifestError(
                    f"{path}: its columns are {', '.join(rows.fieldnames or ['none'])}, not "
                    f"{', '.join(HEAD)}; give the file as the page saved it"
                )
            for row in rows:
                place = f"{path}, line {rows.line_num}"
                yield place, _decode(row, place, key)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ManifestError(f"{path} cannot be read ({error}); give a file of votes") from error


def _decode(row: dict[str, str | None], place: str, key: Key) -> Vote:
    """A row with the models' names.

    Raises:
        ManifestError: It makes no sense.
    """
    if None in row or None in row.values():
        raise ManifestError(
            f"{place} has not {len(HEAD)} cells; give the file as the page saved it"
        )
    words = {name: cell or "" for name, cell in row.items()}
    if words["study"] != key.study:
        raise ManifestError(
            f"{place} is of study {words['study']!r}, the key of {key.study!r}; give its own key"
        )
    known = {"rater": key.raters, "dimension": tuple(DIMENSIONS), "choice": CHOICES}
    for name, allowed in {**known, "left": key.clips, "right": key.clips}.items():
        if words[name] not in allowed:
            raise ManifestError(f"{place}: unknown {name} {words[name]!r}; the file was changed")
    left, right = key.clips[words["left"]], key.clips[words["right"]]
    if left.item != right.item or left.model == right.model:
        raise ManifestError(f"{place}: no pair of the study; the file was changed")
    score = SCORES[CHOICES.index(words["choice"])]
    first, second = sorted((left.model, right.model))
    return Vote(
        words["rater"],
        left.item,
        (first, second),
        words["dimension"],
        score if first == left.model else 1 - score,
    )


def _draws(size: int, seed: int, name: str) -> Tensor:
    """Places drawn with replacement, a row a draw."""
    dice = generator(seed, "study", name)
    return torch.randint(size, (RESAMPLES, size), generator=dice)


def _figure(value: float, spread: Float[Tensor, " draws"]) -> Figure:
    low, high = spread.nanquantile(spread.new_tensor([0.025, 0.975])).tolist()
    return Figure(value, low, high)
