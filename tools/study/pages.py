"""A blind study: which of two videos is preferred, in six respects, without naming the models.

One page for each rater, which runs from a file: no server, no network. Names are hidden; the key
stays with the one who asks.

::

    out/
      key.json              which video is of which model: not for raters
      raters/               to be sent, whole
        rater-01.html       a page a rater: own order, own sides
        clips/3f9a0c....mp4 the videos under names that say nothing
"""

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import NamedTuple, Self

import torch
from jinja2 import Environment, FileSystemLoader, StrictUndefined

import loopy.evaluation
from loopy.drafts import draft, writing
from loopy.errors import ConfigurationError, ManifestError, MediaError
from loopy.evaluation.table.results import FILE, Results
from loopy.randomness import generator
from loopy.typed_values import finite, read_record

DIMENSIONS = {
    "identity consistency": "In which one does the person stay the same person throughout?",
    "synthesis quality": "Which one has the better picture: sharp, clean, without faults?",
    "audio-emotion match": "In which one does the face fit the mood of the voice?",
    "motion diversity": "Which one moves in more varied ways?",
    "motion naturalness": "Which one moves more like a living person?",
    "lip-sync": "In which one do the lips fit the words?",
}
"""The paper's six, with the question a rater is asked."""

CHOICES = ("left", "same", "right")
HEAD = ("study", "rater", "trial", "left", "right", "dimension", "choice")
"""Of a file of votes: a row for each answer."""

PLAYABLE = (".mp4", ".webm", ".mov", ".mkv")


class StudyVideo(NamedTuple):
    """A video of the study.

    Attributes:
        item: What both of a pair show: the name of the video in its folder.
        model: Whose it is: the name of the folder.
    """

    item: str
    model: str


@dataclass(frozen=True)
class StudyKey:
    """What the raters do not know.

    Attributes:
        study: A name of this study, which every vote repeats.
        seed: Of sides and orders.
        clips: Hidden name to video.
        raters: Names of the raters.
    """

    study: str
    seed: int
    clips: dict[str, StudyVideo]
    raters: tuple[str, ...]

    def write(self, path: Path) -> None:
        """Writes it as JSON, whole or not at all.

        Raises:
            OutputError: It cannot be written there.
        """
        with writing(path) as hidden:
            hidden.write_text(json.dumps(finite(asdict(self)), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Self:
        """The key of a study.

        Raises:
            ManifestError: It is missing, or no key.
        """
        try:
            return read_record(cls, path)
        except (OSError, ValueError) as error:
            raise ManifestError(
                f"{path} is not the key of a study ({error}); give the key.json that "
                "python -m tools.study pages wrote"
            ) from error


class Trial(NamedTuple):
    """Two videos of one item by their hidden names, one on each side."""

    left: str
    right: str


def make_study(
    folders: Sequence[Path],
    out: Path,
    *,
    seed: int = 0,
    raters: int = 10,
    trials: int | None = None,
) -> StudyKey:
    """Writes pages that ask which of two videos is better; every two folders meet in every item.

    Args:
        folders: Two or more, each the --out of an evaluation, or a folder of videos. The videos
            whose names all of them have are shown.
        out: A new or empty folder; see the head of this file.
        seed: Of hidden names, sides and orders; a rater's page is a function of it.
        raters: How many pages.
        trials: Pairs a rater sees, drawn for each; all of them if None.

    Raises:
        ConfigurationError: Less than two folders, folders of one name, no video in common, or
            senseless numbers.
        MediaError: A folder holds no videos.
        OutputError: The folder is not empty, or cannot be written.
    """
    if raters < 1 or (trials is not None and trials < 1):
        raise ConfigurationError(f"{raters} raters and {trials} trials; give at least 1 of each")
    models = [folder.resolve().name for folder in folders]
    if len(set(models)) < max(2, len(models)):
        raise ConfigurationError(
            f"a study of {', '.join(models) or 'nothing'}; give two or more folders of their own "
            "names"
        )
    found = {model: videos_of(folder) for model, folder in zip(models, folders, strict=True)}
    items = sorted(set.intersection(*map(set, found.values())))
    if not items:
        raise ConfigurationError(f"{', '.join(models)} have no video of one name; nothing to show")
    study = _digest(seed, *models, *items)
    videos = [StudyVideo(item, model) for item in items for model in models]
    hidden = sorted((_digest(study, *video), video) for video in videos)
    digits = max(2, len(str(raters)))
    key = StudyKey(
        study, seed, dict(hidden), tuple(f"rater-{i:0{digits}d}" for i in range(1, raters + 1))
    )
    template = _templates().get_template("study.html")
    with draft(out, folder=True) as folder:
        (folder / "raters/clips").mkdir(parents=True)
        files = {}
        for name, video in key.clips.items():
            source = found[video.model][video.item]
            files[name] = f"clips/{name}{source.suffix.lower()}"
            shutil.copyfile(source, folder / "raters" / files[name])
        for rater in key.raters:
            shown = trials_of(key, rater)[:trials]
            data = {
                "study": study,
                "rater": rater,
                "head": HEAD,
                "choices": CHOICES,
                "dimensions": DIMENSIONS,
                "trials": [trial._asdict() for trial in shown],
                "files": {name: files[name] for trial in shown for name in trial},
            }
            page = template.render(rater=rater, data=data)
            (folder / "raters" / f"{rater}.html").write_text(page, encoding="utf-8")
        key.write(folder / "key.json")
    return key


def trials_of(key: StudyKey, rater: str) -> list[Trial]:
    """All pairs in the order of a rater, sides by chance: a function of the seed and the rater."""
    by_item: dict[str, list[str]] = {}
    for name, video in key.clips.items():
        by_item.setdefault(video.item, []).append(name)
    pairs = [pair for _, names in sorted(by_item.items()) for pair in combinations(names, 2)]
    dice = generator(key.seed, "study", key.study, rater)
    turned = torch.rand(len(pairs), generator=dice) < 0.5
    order = torch.randperm(len(pairs), generator=dice).tolist()
    return [Trial(*(pairs[i][::-1] if turned[i] else pairs[i])) for i in order]


def videos_of(folder: Path) -> dict[str, Path]:
    """The videos of a folder by name: those of an evaluation's results, or its video files.

    Raises:
        MediaError: There are none, or one that the results name is gone.
    """
    if (folder / FILE).is_file():
        judged = Results.read(folder).videos
        videos = {each.name: folder / each.video for each in judged if each.video}
        if odd := [path for path in videos.values() if path.suffix.lower() not in PLAYABLE]:
            raise MediaError(
                f"{odd[0]} is no video that a page can show ({', '.join(PLAYABLE)}); "
                "judge videos of these kinds"
            )
    else:
        files = sorted(folder.iterdir()) if folder.is_dir() else []
        videos = {path.stem: path for path in files if path.suffix.lower() in PLAYABLE}
    if not videos:
        raise MediaError(f"{folder} holds no videos; give the --out of an evaluation with videos")
    if gone := [path for path in videos.values() if not path.is_file()]:
        raise MediaError(f"{gone[0]} is gone; judge the videos again")
    return videos


def _templates() -> Environment:
    """Ours, and the style of the pages of evaluations."""
    folders = [Path(__file__).parent, *(Path(each) / "pages" for each in loopy.evaluation.__path__)]
    templates = Environment(
        loader=FileSystemLoader(folders), autoescape=True, undefined=StrictUndefined
    )
    templates.policies["json.dumps_kwargs"] = {"sort_keys": False}
    return templates


def _digest(*words: int | str) -> str:
    """Sixteen letters that reveal nothing."""
    return hashlib.sha256(repr(words).encode()).hexdigest()[:16]
