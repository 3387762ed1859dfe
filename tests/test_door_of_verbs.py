"""The door of the command line: whatever is typed, a verb ends in one line or does its work.

One table of words for each kind of option, one line for each verb. Nothing is half-written or left
hidden, and no input is altered.
"""

import hashlib
import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from loopy.cli import VERBS, main

ROOT = Path(__file__).parents[1]

PATHS = ["", ".", "/", "a\0b", "n" * 5000, "no/such", "\udcff\ud800", "text.txt", "folder", "null"]
PATHS += ["noise", "empty", "text.txt/inside", "nowhere://bucket/x", "link", "[1, 2]", "{}"]
NUMBERS = ["nan", "inf", "-inf", "-1", "0", "1e400", "0.5", "9" * 40, "x", "", "[1]", "{}", "1,2"]
WORDS = ["", "x", "meta", "cuda:99", "7", "[]", "null", "a b", "a\0b", "é\n"]

FEW = {"", "a\0b", "n" * 5000, "no/such", "folder", "nan", "-1", "x"}
"""For verbs that take a second a word; what `animate` hands on is in test_door.py, too."""

KINDS = {"path": PATHS, "number": NUMBERS, "word": WORDS}


class Typed(NamedTuple):
    """A verb with words that work, or that are right but for what is missing here.

    Attributes:
        verb: The words before the options.
        given: Options (numbers: by place) and what is right for them.
        more: Options that may be left out.
        kinds: What an option takes, where it is no path.
        slow: It meets the few words only.
    """

    verb: tuple[str, ...]
    given: dict[str, str]
    more: tuple[str, ...] = ()
    kinds: dict[str, str] = {}  # noqa: RUF012 (read only)
    slow: bool = False

    def words(self, **other: str) -> list[str]:
        """All words, some of them replaced."""
        options = self.given | other
        placed = [options[key] for key in sorted(options) if key.isdigit()]
        named = [f"{key}={value}" for key, value in options.items() if not key.isdigit()]
        return [*self.verb, *placed, *named]


def numbers(*names: str) -> dict[str, str]:
    return dict.fromkeys(names, "number")


ANIMATE = numbers("--seed", "--crf", "--longest_s", "--steps", "--audio_ratio", "--box")
ANIMATE |= numbers("--reference_ratio", "--guidance_start", "--guidance_stop", "--stacked")
ANIMATE |= {"--device": "word", "--dtype": "word", "--model": "path"}
RUN = {"--trainer.default_root_dir": "run", "--trainer.accelerator": "cpu"}
EVALUATE = numbers("--seeds", "--seed", "--draw.items", "--draw.longest_s", "--steps")
STORE = {"--device": "word", **numbers("--workers", "--max_errors", "--validation", "--test")}
ABLATE = numbers("--seeds", "--steps", "--talks", "--seconds", "--clips", "--seed", "--jobs")

DOORS = [
    Typed(
        ("animate",),
        {"0": "portrait.png", "1": "speech.wav", "--out": "out.npy", "--model": "tiny"},
        ("--sheet", *ANIMATE),
        ANIMATE,
        slow=True,
    ),
    Typed(("faces", "install"), {"--wheel": "portrait.png", "--models": "networks"}),
    Typed(
        ("faces", "show"),
        {"0": "portrait.png", "--out": "drawn.png"},
        ("--models", "--min_score"),
        numbers("--min_score"),
    ),
    Typed(
        ("predict", "--config", str(ROOT / "configs/predict.yaml")),
        {"--data.manifest": "jobs.csv", "--model.model": "tiny", **RUN},
        ("--ckpt_path", "--trainer.devices", "--trainer.precision", "--data.seed"),
        {"--trainer.accelerator": "word", "--trainer.devices": "number"}
        | {"--trainer.precision": "word", "--data.seed": "number"},
        slow=True,
    ),
    Typed(
        ("validate",),
        {"--config": str(ROOT / "configs/toon/vae.yaml"), "--ckpt_path": "noise", **RUN},
        kinds={"--trainer.accelerator": "word"},
        slow=True,
    ),
    Typed(("export",), {"--ckpt": "noise", "--out": "part"}, ("--dtype",), {"--dtype": "word"}),
    Typed(
        ("init", "--config", str(ROOT / "configs/sd15/model.yaml")),
        {"--sd15": "folder", "--wav2vec2": "folder", "--out": "made"},
        ("--vae", "--motion_module", "--dtype", "--seed"),
        {"--dtype": "word", "--seed": "number"},
        slow=True,
    ),
    Typed(
        ("preprocess",),
        {"0": "folder", "1": "store", "--parts": "tiny"},
        ("--shard", *STORE),
        {"--shard": "word", **STORE},
    ),
    Typed(("data", "check"), {"0": "folder"}),
    Typed(("data", "index"), {"0": "folder"}, ("--test",), numbers("--test")),
    Typed(
        ("data", "report"),
        {"0": "folder"},
        ("--out", "--clip_frames"),
        numbers("--clip_frames"),
    ),
    Typed(("data", "view"), {"0": "folder", "--parts": "tiny"}, ("--clip", "--video", "--sheet")),
    Typed(
        ("evaluate", "toon"),
        {"--model": "noise", "--seconds": "2"},
        ("--out", "--seed", "--workers", "--device"),
        {"--device": "word", **numbers("--seconds", "--seed", "--workers")},
    ),
    Typed(
        ("evaluate", "celebv-hq"),
        {"--data": "folder", "--out": "judged", "--model": "tiny"},
        ("--device", "--weights.inception", *EVALUATE),
        {"--device": "word", **EVALUATE},
    ),
    Typed(
        ("evaluate", "videos"),
        {"--made": "folder", "--out": "judged"},
        ("--real", "--name", "--landmarks", "--weights.syncnet"),
        {"--name": "word", "--landmarks": "word"},
    ),
    Typed(("evaluate",), {"--compare": "folder", "--out": "compared"}),
    Typed(
        ("estimate", "--config", str(ROOT / "configs/toon/vae.yaml")),
        {"--card": "24GB"},
        ("--gpus",),
        {"--card": "word", "--gpus": "number"},
        slow=True,
    ),
    Typed(
        ("ablate", "--finished"),
        {"--out": "runs", "--recipes": "folder"},
        ("--variants", *ABLATE),
        {"--variants": "word", **ABLATE},
    ),
]


@pytest.fixture
def room(desk):
    (desk / "folder").mkdir()
    (desk / "text.txt").write_text("neither\nthis,nor that\n")
    (desk / "noise").write_bytes(np.random.default_rng(0).bytes(4096))
    (desk / "empty").touch()
    (desk / "link").symlink_to(desk / "nowhere")
    (desk / "jobs.csv").write_text("portrait,sound,out\nportrait.png,speech.wav,row.npy\n")
    return desk


def contents(folder: Path) -> dict[str, str]:
    """Each file and what is in it."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


def fault(words: list[str], capsys) -> str:
    """What is not as it should be in how a verb ends; empty where all is well."""
    capsys.readouterr()
    try:
        code = main(words)
    except SystemExit as usage:  # of argparse, which has named the option
        return "" if usage.code == 2 else f"exits with {usage.code}"
    except Exception as error:  # the fault that is looked for
        return f"{type(error).__name__}: {error!s:.100}"
    told = [
        line for line in capsys.readouterr().err.splitlines() if line.startswith("loopy: error")
    ]
    if code == 0:
        return ""
    return "" if len(told) == 1 else f"ends with {code} and says {told}"


def door_name(door: Typed) -> str:
    option = "" if len(door.verb) > 1 else next(iter(door.given))
    return f"{door.verb[0]} {' '.join(door.verb[1:2])}{option}".replace(str(ROOT), "")


@pytest.mark.parametrize("door", DOORS, ids=door_name)
def test_every_option_of_every_verb(room, door, capsys):
    before = contents(room)
    faults = {}
    for option in (*door.given, *door.more):
        table = KINDS[door.kinds.get(option, "path")]
        for word in [word for word in table if word in FEW or not door.slow]:
            what = fault(door.words(**{option: word}), capsys)
            after = contents(room)
            lost = [name for name, digest in before.items() if after.pop(name, None) != digest]
            what = what or (f"altered {lost}" if lost else "")
            what = what or " ".join(name for name in after if Path(name).name.startswith("."))
            if what:
                faults[f"{option} {word!r:.20}"] = what
            for name in {Path(name).parts[0] for name in after} - {
                Path(n).parts[0] for n in before
            }:
                path = room / name
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert faults == {}


INPUTS = ["portrait.png", "./speech.wav", "tiny", "tiny/model_index.json", "jobs.csv"]


@pytest.mark.parametrize(
    "words",
    [
        ["animate", "portrait.png", "speech.wav", "--model=tiny", "--out={}"],
        ["animate", "portrait.png", "speech.wav", "--model=tiny", "--out=o.npy", "--sheet={}"],
    ],
)
@pytest.mark.parametrize("taken", INPUTS[:4])
def test_no_output_takes_the_place_of_an_input(room, words, taken, capsys):
    before = contents(room)
    assert main([word.format(taken) for word in words]) == 2
    assert "loopy: error" in capsys.readouterr().err
    assert contents(room) == before


def test_every_verb_is_on_this_page():
    """`fit` takes what `validate` takes."""
    assert {door.verb[0] for door in DOORS} | {"fit"} == set(VERBS)
