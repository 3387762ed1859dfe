"""One run of an ablation: fitted, exported and judged by child processes, where not done yet."""

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Event
from typing import Any

import torch
import yaml

from loopy.commands.ablate_recipes import RECORD, joined, note
from loopy.data.media.finished import content_hash, is_finished, mark_finished
from loopy.errors import ConfigurationError, LoopyError
from loopy.evaluation.ablation.judge import VERSION, JudgeOptions
from loopy.models.tensor_files import told
from loopy.training.checkpoints import last_checkpoint
from loopy.training.loss_plot import read_rows

LOG, TRUTH = "ablate.log", "truth"
POLL_S = 0.2


@dataclass(frozen=True)
class Plan:
    """A run to be made.

    Attributes:
        name: Variant and seed.
        folder: Where it is, or will be.
        words: Of `loopy fit`.
        steps: How long it is trained.
        recipes: It is trained by.
    """

    name: str
    folder: Path
    words: tuple[str, ...]
    steps: int
    recipes: tuple[Path, ...]

    @property
    def reached(self) -> int:
        """Steps in the table of its losses, for people to see."""
        rows = read_rows(self.folder / "losses.csv")
        return min(self.steps, max((step for step, _, _ in rows), default=0))

    @property
    def loss(self) -> float:
        """Of the validation behind the last step; NaN where there was none."""
        rows = reversed(read_rows(self.folder / "losses.csv"))
        last = (self.steps, "val/loss")
        return next((value for step, name, value in rows if (step, name) == last), torch.nan)


def plan_of(
    variant: str, seed: int, folder: Path, recipes: Sequence[Path], *, steps: int | None
) -> Plan:
    """The plan of a run; one that has begun stays as long as it was planned.

    Args:
        variant: Name of it.
        seed: Of its weights and noise.
        folder: Of the run.
        recipes: Later ones are laid over earlier ones.
        steps: In place of the recipes' own.

    Raises:
        ConfigurationError: It has begun, and was planned otherwise.
    """
    begun = _max_steps([folder / "config.yaml"])
    if None not in (begun, steps) and begun != steps:
        raise ConfigurationError(
            f"{folder} was planned for {begun} steps, not {steps}; give --steps {begun}, or "
            "another --out"
        )
    length = begun or steps or _max_steps(recipes)
    if not length or length < 1:
        raise ConfigurationError(
            f"{variant} has no end: its recipes name no max_steps; give --steps"
        )
    words = [word for path in recipes for word in ("--config", str(path))]
    words += ["--seed_everything", str(seed), "--model.init_args.seed", str(seed)]
    words += ["--trainer.max_steps", str(length), "--trainer.default_root_dir", str(folder)]
    words += _validates_last(recipes, length)
    return Plan(f"{variant}/seed_{seed}", folder, tuple(words), length, tuple(recipes))


def steps_done(folder: Path) -> int:
    """Steps of a run's last checkpoint; 0 where there is none.

    Raises:
        LoopyError: It cannot be read.
    """
    path = last_checkpoint(folder)
    if not path.exists():
        return 0
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)["global_step"]
    except Exception as error:  # a damaged pickle can fail in any way
        reason = told(error, path)
        raise LoopyError(f"{path} cannot be read ({reason}); delete it to train anew") from error


def train_start(recipe: Path, model: Path) -> None:
    """Trains the model that all variants start from, unless it is there.

    Args:
        recipe: Of its stage.
        model: The model folder to be.

    Raises:
        LoopyError: A child failed; the message has its last line and where its log is.
    """
    if (model / "model_index.json").is_file():  # the last file of a model that is written
        return
    folder = Path(yaml.safe_load(recipe.read_text())["trainer"]["default_root_dir"])
    folder.mkdir(parents=True, exist_ok=True)
    with _held(folder) as lock:
        _child("loopy", ["fit", "--config", str(recipe)], folder, lock)
        words = ["export", "--ckpt", str(last_checkpoint(folder)), "--out", str(model)]
        _child("loopy", words, folder, lock)


def carry_out(plan: Plan, options: JudgeOptions, shared: Path, stop: Event) -> None:
    """Fits, exports and judges a run, each unless it is done.

    Args:
        plan: Which run.
        options: What it is judged on.
        shared: The folder of the true videos.
        stop: Once it is set, the child at work is asked to end, and no other one is begun.

    Raises:
        LoopyError: A child failed; the message has its last line and where its log is.
    """
    plan.folder.mkdir(parents=True, exist_ok=True)
    with _held(plan.folder) as lock:
        begun = steps_done(plan.folder)
        if not begun or not (plan.folder / f"{RECORD}.json").is_file():
            note(plan.folder, plan.recipes)
        if begun < plan.steps:
            _child("loopy", ["fit", *plan.words], plan.folder, lock, stop)
        if (done := steps_done(plan.folder)) != plan.steps:
            raise ConfigurationError(f"{plan.folder} has {done} steps, {plan.steps} were planned")
        checkpoint = last_checkpoint(plan.folder)
        record: dict[str, Any] = {"checkpoint": content_hash(checkpoint, "checkpoint")}
        model = plan.folder / "model"
        if not is_finished(model, record):
            words = ["export", "--ckpt", str(checkpoint), "--out", str(model)]
            _child("loopy", words, plan.folder, lock, stop)
            mark_finished(model, record)
        record |= asdict(options) | {"version": VERSION}
        if not is_finished(plan.folder / "results.json", record):
            words = ["--model", str(model), "--out", str(plan.folder), "--shared", str(shared)]
            words += ["--name", plan.name]
            for name, value in asdict(options).items():
                words += [f"--options.{name}", str(value)]
            _child("loopy.evaluation.ablation.judge", words, plan.folder, lock, stop)
            mark_finished(plan.folder / "results.json", record)


@contextmanager
def _held(folder: Path) -> Iterator[int]:
    """Keeps others out of a run. Its children inherit the lock: one that outlives us keeps it.

    Raises:
        ConfigurationError: Another process is at it.
    """
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigurationError(
                f"another loopy ablate, or a child that one left, is at {folder}; wait for it"
            ) from error
        yield file.fileno()


def _child(
    module: str, words: Sequence[str], folder: Path, lock: int, stop: Event | None = None
) -> None:
    """Runs a module with one thread, its words in the log of the run.

    An exception here, or ``stop``, asks it to end, and waits: a training saves before.

    Raises:
        LoopyError: It failed.
    """
    stop = stop or Event()
    log = folder / LOG
    with log.open("a", encoding="utf-8") as file:
        file.write(f"$ python -m {module} {' '.join(words)}\n")
        file.flush()
        with subprocess.Popen(
            [sys.executable, "-m", module, *words],
            stdout=file,
            stderr=subprocess.STDOUT,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            pass_fds=(lock,),
        ) as done:
            try:
                while done.poll() is None and not stop.wait(POLL_S):
                    pass
            finally:
                if done.poll() is None:
                    done.terminate()
    if done.returncode:
        said = log.read_text(encoding="utf-8", errors="replace").splitlines()
        last = next((line.strip() for line in reversed(said) if line.strip()), "")
        what = words[0] if module == "loopy" else "judging"
        raise LoopyError(
            f"{folder}: {what} failed with code {done.returncode}: "
            f"{last.removeprefix('loopy: error: ')}; its log: {log}"
        )


def _validates_last(recipes: Sequence[Path], steps: int) -> list[str]:
    """Words that make a run validate behind its last step, where its recipes would not."""
    trainer = joined(recipes).get("trainer") or {}
    every = trainer.get("val_check_interval")
    batches = steps * trainer.get("accumulate_grad_batches", 1)
    by_epochs = trainer.get("check_val_every_n_epoch", 1) is not None
    if by_epochs or not isinstance(every, int) or batches % every == 0:
        return []
    return ["--trainer.val_check_interval", str(batches)]


def _max_steps(recipes: Sequence[Path]) -> int | None:
    """Of the last recipe that names it."""
    found = None
    for path in recipes:
        if path.is_file():
            found = (yaml.safe_load(path.read_text()).get("trainer") or {}).get("max_steps", found)
    return found
