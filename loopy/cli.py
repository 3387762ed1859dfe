"""The command line: one table from verb to function; what a verb needs is imported when it runs."""

import logging
import os
import select
import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from io import TextIOWrapper
from typing import NamedTuple, TextIO

from loopy.errors import LoopyError
from loopy.memory import keep_freed_memory
from loopy.stopping import Stopped, stopped_by_signals

CUT_OFF = 128 + 13
"""Exit code of those that write to a pipe that is closed: 128 + SIGPIPE."""


class Verb(NamedTuple):
    """Something `loopy` can do.

    Attributes:
        sentence: What it does, for the help.
        example: A command that works.
        module: Of `loopy.commands`, named as the verb if ""; its `run` is given the words of the
            command, the verb first.
    """

    sentence: str
    example: str
    module: str = ""


VERBS: dict[str, Verb] = {
    "animate": Verb(
        "Makes a portrait speak: a picture and a sound become a video.",
        "loopy animate portrait.png speech.wav -o out.mp4",
    ),
    "faces": Verb(
        "Installs what finds faces in pictures, and shows what it finds.",
        "loopy faces install",
    ),
    "init": Verb(
        "Makes an untrained model of real size out of Stable Diffusion and wav2vec2.",
        "loopy init --config configs/sd15/model.yaml --sd15 sd15 --wav2vec2 wav2vec2 --out model",
    ),
    "fit": Verb(
        "Trains a part of the model by a recipe, or continues where it stopped.",
        "loopy fit --config configs/toon/vae.yaml",
        "lightning",
    ),
    "validate": Verb(
        "Measures a trained part on its held-out data.",
        "loopy validate --config configs/toon/vae.yaml",
        "lightning",
    ),
    "predict": Verb(
        "Makes a video for every row of a list of jobs.",
        "loopy predict --config configs/predict.yaml --data.manifest jobs.csv",
        "lightning",
    ),
    "preprocess": Verb(
        "Turns talking videos into a shot store to train on.",
        "loopy preprocess videos/ store/ --parts runs/toon/parts",
    ),
    "data": Verb(
        "Shows what is in a shot store: report, view, check, index.",
        "loopy data report store/",
    ),
    "evaluate": Verb(
        "Measures how well a model speaks, on faces and voices that no training saw.",
        "loopy evaluate toon",
    ),
    "ablate": Verb(
        "Trains variants of one recipe with several seeds, and prints how they differ.",
        "loopy ablate --variants full,no_tsm --seeds 0,1",
    ),
    "estimate": Verb(
        "Tells memory and computation of a recipe before it runs, and what of it fits a card.",
        "loopy estimate --config configs/toon/clip.yaml --card 24GB",
    ),
    "export": Verb(
        "Turns a training checkpoint into a folder that inference reads, with averaged weights.",
        "loopy export --ckpt runs/toon/vae/checkpoints/last.ckpt --out runs/toon/parts",
    ),
}


def main(words: Sequence[str] | None = None) -> int:
    """Runs a verb; an error of ours is one line.

    Args:
        words: The command without `loopy`; what was typed if None.

    Returns:
        The exit code: 0, 2 for an error of ours, 128 + the signal that stopped it (also where
        nobody reads the output any more, SIGPIPE), or what the verb says.
    """
    try:
        code = _run(words)
        sys.stdout.flush()
    except BrokenPipeError:
        if not _is_cut_off(sys.stdout):  # it was another pipe
            raise
        return CUT_OFF
    return code


def _run(words: Sequence[str] | None) -> int:
    words = sys.argv[1:] if words is None else words
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a name the console cannot spell is no failure
            stream.reconfigure(errors="backslashreplace")
    # diffusers imports it where it is installed, and it complains about kernels nobody asked for
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    if not words or words[0] in ("-h", "--help"):
        print(help_text())
        return 0
    if words[0] == "--version":
        print(import_module("loopy").__version__)
        return 0
    keep_freed_memory()
    if "OMP_WAIT_POLICY" not in os.environ:  # torch's threads leave the core while they wait
        os.environ.setdefault("GOMP_SPINCOUNT", "0")
    try:
        if any("\0" in word for word in words):
            raise LoopyError("a word has a NUL character, which no name can have")
        if words[0] not in VERBS:
            raise LoopyError(f"no verb {words[0]!r}; the verbs are {', '.join(VERBS)}")
        module = VERBS[words[0]].module or words[0]
        with stopped_by_signals(), warnings.catch_warnings():
            warnings.showwarning = _warn
            code = import_module(f"loopy.commands.{module}").run(words)
    except LoopyError as error:
        print(f"loopy: error: {error}", file=sys.stderr)
        return 2
    except OSError as error:  # of the disk, where no verb foresaw it
        place = f"{error.filename!s:.200}: " if error.filename else ""
        reason = f"{place}{error.strerror or error}; check the name, permissions and free space"
        print(f"loopy: error: {reason}", file=sys.stderr)
        return 2
    except Stopped as stop:
        code, reason = 128 + stop.number, str(stop)
    else:
        return code or 0
    print(f"loopy: {reason}", file=sys.stderr)  # after the progress bar is gone with its frames
    return code


def _is_cut_off(stream: TextIO) -> bool:
    """Whether nobody reads a stream any more; what it holds is dropped, else exit complains."""
    if not hasattr(select, "poll"):  # Windows
        return False
    pipe = select.poll()
    pipe.register(stream.fileno(), 0)  # errors are told in any case
    if not any(event & select.POLLERR for _, event in pipe.poll(0)):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    return True


def _warn(message: Warning | str, *_: object, **__: object) -> None:
    """A warning in one line, in the form of `warnings.showwarning`."""
    print(f"loopy: warning: {' '.join(str(message).split())}", file=sys.stderr)


def help_text() -> str:
    """Every verb with its sentence and its example."""
    verbs = "\n".join(
        f"  {name}\n      {verb.sentence}\n      {verb.example}" for name, verb in VERBS.items()
    )
    return (
        "loopy: a portrait and a voice become a talking video.\n\n"
        f"usage: loopy VERB ... (`loopy VERB --help` lists its options)\n\n{verbs}"
    )
