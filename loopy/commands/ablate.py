"""`loopy ablate`: variants of one recipe trained with several seeds, judged alike, in one table."""

import asyncio
import fcntl
import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from loopy.commands.parsing import parsed
from loopy.commands.recipes import find_recipe, read_recipe
from loopy.data.media.finished import content_hash, is_finished, mark_finished, tree_hash
from loopy.data.media.outputs import check_outputs
from loopy.drafts import folder_of_results, writing
from loopy.errors import ConfigurationError, LoopyError
from loopy.evaluation.ablation import table
from loopy.evaluation.ablation.judge import VERSION, JudgeOptions
from loopy.evaluation.table.results import Results
from loopy.evaluation.toon.talks import SHORTEST_S
from loopy.models.tensor_files import told
from loopy.training.checkpoints import last_checkpoint
from loopy.training.loss_plot import read_rows

BASE, START, TRUTH = "base.yaml", "image.yaml", "truth"
LOG, RECORD = "ablate.log", "recipe.json"
EVERY_S = 2.0
FREE = {
    "seed_everything": None,
    "model": {"init_args": {"seed": None}},
    "trainer": {"max_steps": None, "default_root_dir": None, "val_check_interval": None},
}
"""What `loopy ablate` decides itself."""


@dataclass(frozen=True)
class PlannedRun:
    """A variant to be trained with a seed.

    Attributes:
        variant: Its name.
        seed: Of weights and noise.
        folder: Where it is, or will be.
        recipes: Later ones are laid over earlier ones.
        steps: How long it is trained; of one that has begun, as long as it was planned.
    """

    variant: str
    seed: int
    folder: Path
    recipes: tuple[Path, ...]
    steps: int

    @property
    def name(self) -> str:
        """Variant and seed."""
        return f"{self.variant}/seed_{self.seed}"

    @property
    def words(self) -> list[str]:
        """Of `loopy fit`; it validates after the last step, where its recipes would not."""
        words = [word for path in self.recipes for word in ("--config", str(path))]
        words += ["--seed_everything", str(self.seed), "--model.init_args.seed", str(self.seed)]
        words += ["--trainer.max_steps", str(self.steps)]
        words += ["--trainer.default_root_dir", str(self.folder)]
        trainer = _trainer(self.recipes)
        every = trainer.get("val_check_interval")
        batches = self.steps * trainer.get("accumulate_grad_batches", 1)
        by_epochs = trainer.get("check_val_every_n_epoch", 1) is not None
        if not by_epochs and isinstance(every, int) and batches % every:
            words += ["--trainer.val_check_interval", str(batches)]
        return words


def ablate(
    *,
    variants: str = "full,single_layer,no_tsm,no_a2l",
    seeds: str = "0,1",
    steps: int | None = None,
    out: Path = Path("runs/ablations"),
    recipes: str = "configs/ablations",
    talks: int = 8,
    seconds: float = 4.0,
    clips: int = 8,
    seed: int = 0,
    jobs: int = 2,
    finished: bool = False,
) -> int:
    """Trains and judges a set of variants, and prints and writes their table.

    Each run has its folder, out/VARIANT/seed_N. Started again, all that is done stays, and what is
    not goes on where it stopped; a run that fails keeps no other one back.

    Args:
        variants: Names of recipes, with commas: each is laid over base.yaml, "full" is base.yaml
            alone.
        seeds: Of weights and noise, with commas. Data are the same for all.
        steps: Of each run, in place of the recipes' own number.
        out: The folder of all runs, and of ablations.csv.
        recipes: The folder of the recipes. Where it has an image.yaml, the model that base.yaml
            starts from is trained by it first, unless it is there.
        talks: How many held-out talks are filmed; a verdict needs 6.
        seconds: Length of each.
        clips: How many held-out clips whose sound and past are exchanged.
        seed: Of talks, clips and intervals.
        jobs: Runs side by side, each of one thread.
        finished: Train nothing: judge the runs that are trained, and print their table.

    Returns:
        The exit code: 1 if a run failed.

    Raises:
        LoopyError: No such recipe, runs that do not compare, or no run at all.
    """
    if min(talks, jobs) < 1 or clips < 2 or seconds < SHORTEST_S:
        raise ConfigurationError(
            f"talks {talks}, jobs {jobs}, clips {clips}, seconds {seconds:g}; give at least "
            f"1 talk, 1 job, 2 clips and {SHORTEST_S:g} s"
        )
    names, words = _listed(variants), _listed(seeds)
    if not all(word.isdecimal() for word in words):
        raise ConfigurationError(f"{seeds!r} are no seeds; give numbers, as in 0,1")
    base = find_recipe(f"{recipes}/{BASE}")
    overlays = {
        name: [] if name == table.FULL else [find_recipe(f"{recipes}/{name}.yaml")]
        for name in names
    }
    read = {f"recipe {path.name}": path for path in [base, *chain(*overlays.values())]}
    check_outputs({"table": out / table.FILE}, read)
    runs = [
        _planned(name, number, out / name / f"seed_{number}", (base, *overlays[name]), steps)
        for number in map(int, words)
        for name in names
    ]
    if finished:
        done = {run.name: _steps_done(run.folder) for run in runs}
        for run in runs:
            if done[run.name] < run.steps:
                reached = f"{done[run.name]} of {run.steps} steps"
                print(f"loopy: {run.name} is left out: {reached}", file=sys.stderr)
        runs = [run for run in runs if done[run.name] >= run.steps]
    table.check_steps({run.name: run.steps for run in runs})
    start = base.with_name(START)
    if start.is_file() and not finished:
        asyncio.run(_train_start(start, Path(read_recipe(base)["model"]["init_args"]["init_from"])))
    for run in runs:
        _check_recipe(run)
    folder_of_results(out)
    options = JudgeOptions(talks, seconds, clips, seed)
    failed = asyncio.run(_make_all(runs, options, out / TRUTH, jobs=jobs))
    rows = table.tabulate(
        [
            table.JudgedRun(run.variant, run.seed, run.steps, _loss(run), Results.read(run.folder))
            for run in runs
            if run not in failed
        ]
    )
    print(f"{len(runs) - len(failed)} runs of {runs[0].steps} steps each\n\n{table.as_text(rows)}")
    print(f"\n{table.write_table(rows, out)}")
    if failed:
        left_out = ", ".join(run.name for run in failed)
        print(f"loopy: failed, and not in the table: {left_out}", file=sys.stderr)
    return int(bool(failed))


def run(words: Sequence[str]) -> int:
    """Runs the verb with the words behind it; the exit code is 1 if a run failed."""
    return ablate(**parsed(ablate, words[1:], verb="ablate"))


def _planned(
    variant: str, seed: int, folder: Path, recipes: tuple[Path, ...], steps: int | None
) -> PlannedRun:
    begun = _trainer([folder / "config.yaml"]).get("max_steps")
    if None not in (begun, steps) and begun != steps:
        raise ConfigurationError(
            f"{folder} was planned for {begun} steps, not {steps}; give --steps {begun}, or "
            "another --out"
        )
    length = begun or steps or _trainer(recipes).get("max_steps")
    if not length or length < 1:
        raise ConfigurationError(
            f"{variant} has no end: its recipes name no max_steps; give --steps"
        )
    return PlannedRun(variant, seed, folder, recipes, length)


def _loss(run: PlannedRun) -> float:
    """Of the validation after the last step; NaN where there was none."""
    rows = reversed(read_rows(run.folder / "losses.csv"))
    last = (run.steps, "val/loss")
    return next((value for step, name, value in rows if (step, name) == last), math.nan)


def _steps_done(folder: Path) -> int:
    """Steps of a run's last checkpoint; 0 where there is none."""
    path = last_checkpoint(folder)
    if not path.exists():
        return 0
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)["global_step"]
    except Exception as error:  # a damaged pickle can fail in any way
        reason = told(error, path)
        raise LoopyError(f"{path} cannot be read ({reason}); delete it to train anew") from error


async def _make_all(
    runs: Sequence[PlannedRun], options: JudgeOptions, truth: Path, *, jobs: int
) -> list[PlannedRun]:
    """Makes all, a few at a time; gives those that failed."""
    slots = asyncio.Semaphore(jobs)

    async def succeeds(run: PlannedRun) -> bool:
        async with slots:
            try:
                await _make(run, options, truth)
            except LoopyError as error:
                tqdm.write(f"loopy: error: {error}", file=sys.stderr)
                return False
            return True

    with tqdm(total=sum(run.steps for run in runs), desc="ablate", unit="step") as bar:
        tasks = [asyncio.create_task(succeeds(run)) for run in runs]
        left = set(tasks)
        while left:
            _, left = await asyncio.wait(left, timeout=EVERY_S)
            logged = [read_rows(run.folder / "losses.csv") for run in runs]
            bar.n = sum(rows[-1][0] for rows in logged if rows)
            bar.set_postfix_str(f"{len(runs) - len(left)} of {len(runs)} runs done")
    return [run for run, task in zip(runs, tasks, strict=True) if not task.result()]


async def _make(run: PlannedRun, options: JudgeOptions, truth: Path) -> None:
    """Fits, exports and judges a run by child processes, each unless it is done.

    Raises:
        LoopyError: A child failed; the message has its last line and where its log is.
    """
    with _locked(run.folder) as lock:
        begun = _steps_done(run.folder)
        if not begun:
            with writing(run.folder / RECORD) as hidden:
                hidden.write_text(json.dumps(_record(run.recipes), indent=2))
        if begun < run.steps:
            await _child("loopy", ["fit", *run.words], run.folder, lock)
        if (done := _steps_done(run.folder)) != run.steps:
            raise ConfigurationError(f"{run.folder} has {done} steps, {run.steps} were planned")
        checkpoint, model = last_checkpoint(run.folder), run.folder / "model"
        record: dict[str, Any] = {"checkpoint": content_hash(checkpoint, "checkpoint")}
        if not is_finished(model, record):
            words = ["export", "--ckpt", str(checkpoint), "--out", str(model)]
            await _child("loopy", words, run.folder, lock)
            mark_finished(model, record)
        record |= asdict(options) | {"version": VERSION}
        if not is_finished(run.folder / "results.json", record):
            words = ["--model", str(model), "--out", str(run.folder), "--shared", str(truth)]
            words += ["--name", run.name]
            for name, value in asdict(options).items():
                words += [f"--options.{name}", str(value)]
            await _child("loopy.evaluation.ablation.judge", words, run.folder, lock)
            mark_finished(run.folder / "results.json", record)


async def _train_start(recipe: Path, model: Path) -> None:
    """Trains the model that all variants start from, unless it is there."""
    if (model / "model_index.json").is_file():  # the last file of a model that is written
        return
    place = Path(read_recipe(recipe)["trainer"]["default_root_dir"])
    with _locked(place) as lock:
        await _child("loopy", ["fit", "--config", str(recipe)], place, lock)
        words = ["export", "--ckpt", str(last_checkpoint(place)), "--out", str(model)]
        await _child("loopy", words, place, lock)


@contextmanager
def _locked(place: Path) -> Iterator[int]:
    """Keeps others out of a run. Its children inherit the lock: one that outlives us keeps it."""
    place.mkdir(parents=True, exist_ok=True)
    with (place / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigurationError(
                f"another loopy ablate, or a child that one left, is at {place}; wait for it"
            ) from error
        yield file.fileno()


async def _child(module: str, words: Sequence[str], place: Path, lock: int) -> None:
    """Runs a module with one thread, its output in the log of the run.

    Cancelled, it asks the child to end, and waits: a training saves before.

    Raises:
        LoopyError: It failed.
    """
    with (place / LOG).open("a", encoding="utf-8") as log:
        log.write(f"$ python -m {module} {' '.join(words)}\n")
        log.flush()
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", module, *words),
            stdout=log,
            stderr=subprocess.STDOUT,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            pass_fds=(lock,),
        )
        try:
            code = await child.wait()
        except asyncio.CancelledError:
            child.terminate()
            await child.wait()
            raise
    if code:
        output = (place / LOG).read_text(encoding="utf-8", errors="replace").split("\n")
        last = next((line.strip() for line in reversed(output) if line.strip()), "")
        what = words[0] if module == "loopy" else "judging"
        raise LoopyError(
            f"{place}: {what} failed with code {code}: {last.removeprefix('loopy: error: ')}; "
            f"its log: {place / LOG}"
        )


def _check_recipe(run: PlannedRun) -> None:
    """Makes sure that a run that has begun was trained by its recipes, from the same model."""
    if not _steps_done(run.folder):
        return
    path = run.folder / RECORD
    if not path.is_file():
        raise ConfigurationError(
            f"{run.folder} has no {path.name} and was not begun by loopy ablate; give another --out"
        )
    found = json.loads(path.read_text())
    for name, now in _record(run.recipes).items():
        if name in found and _over(found[name], FREE) != _over(now, FREE):
            raise ConfigurationError(
                f"{run.folder} was trained by another {name}; delete it, or give another --out"
            )


def _record(recipes: Sequence[Path]) -> dict[str, Any]:
    """By what a run is trained: options, and the hash of each model that it starts from."""
    recipe = _joined(recipes)
    start = (recipe.get("model") or {}).get("init_args", {}).get("init_from") or []
    models = [Path(each) for each in (start if isinstance(start, list) else [start])]
    hashes = {str(model): tree_hash(model) for model in models if model.exists()}
    return json.loads(json.dumps({"recipe": recipe, "model": hashes}, default=str))


def _joined(recipes: Sequence[Path]) -> dict[str, Any]:
    """Recipes with later ones laid over earlier ones, as `loopy fit` does."""
    found: Any = {}
    for path in recipes:
        found = _over(found, read_recipe(path) if path.is_file() else {})
    return found


def _trainer(recipes: Sequence[Path]) -> dict[str, Any]:
    return _joined(recipes).get("trainer") or {}


def _over(below: Any, above: Any) -> Any:
    """Options one by one; another class brings its own."""
    if not (isinstance(below, dict) and isinstance(above, dict)):
        return above
    if above.get("class_path", below.get("class_path")) != below.get("class_path"):
        return above
    return below | {key: _over(below.get(key), value) for key, value in above.items()}


def _listed(text: str) -> list[str]:
    """What stands between commas, each once."""
    found = list(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))
    if not found:
        raise ConfigurationError(f"{text!r} names nothing; give words with commas between them")
    return found
