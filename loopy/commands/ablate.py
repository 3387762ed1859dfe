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
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from loopy.commands.parsing import parsed
from loopy.commands.recipes import find_recipe, read_recipe
from loopy.data.media.finished import content_hash, is_finished, mark_finished, tree_hash
from loopy.data.media.outputs import check_outputs
from loopy.drafts import existing_folder, folder_of_results
from loopy.errors import ConfigurationError, LoopyError
from loopy.evaluation.ablation import table
from loopy.evaluation.ablation.judge import VERSION
from loopy.evaluation.table.results import ColumnInfo, Results, SetFigure
from loopy.evaluation.toon.talks import SHORTEST_S
from loopy.models.tensor_files import told
from loopy.training.checkpoint_files import last_checkpoint
from loopy.training.loss_plot import read_rows
from loopy.typed_values import write_record

LOG, RECORD = "ablate.log", "recipe.json"
DECIDED = ("max_steps", "val_check_interval", "default_root_dir")
"""Options of the trainer that are this verb's own: a run goes on where a recipe changes them."""
LOSS = ColumnInfo("Held-out loss", "lower", "", "of the validation after the last step")


@dataclass(frozen=True)
class PlannedRun:
    """A variant to be trained with a seed.

    Attributes:
        variant: Its name.
        seed: Of weights and noise.
        folder: Where it is, or will be.
        recipes: Later ones are laid over earlier ones.
        steps: How long it is trained; of one that has begun, as long as it was planned.
        done: Steps of its last checkpoint; 0 where there is none.
    """

    variant: str
    seed: int
    folder: Path
    recipes: tuple[Path, ...]
    steps: int
    done: int

    @property
    def name(self) -> str:
        """Variant and seed."""
        return f"{self.variant}/seed_{self.seed}"

    @property
    def words(self) -> list[str]:
        """Of `loopy fit`; it validates after the last step, where its recipes would not."""
        words = [f"--config={path}" for path in self.recipes]
        words += [f"--seed_everything={self.seed}", f"--model.init_args.seed={self.seed}"]
        words += [f"--trainer.max_steps={self.steps}"]
        words += [f"--trainer.default_root_dir={self.folder}"]
        trainer = _trainer(self.recipes)
        every = trainer.get("val_check_interval")
        batches = self.steps * trainer.get("accumulate_grad_batches", 1)
        by_epochs = trainer.get("check_val_every_n_epoch", 1) is not None
        if not by_epochs and isinstance(every, int) and batches % every:
            words += [f"--trainer.val_check_interval={batches}"]
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
    base = find_recipe(f"{recipes}/base.yaml")
    laid = {name: [base] for name in names}
    for name in laid.keys() - {table.FULL}:
        laid[name].append(find_recipe(f"{recipes}/{name}.yaml"))
    read = {f"recipe {path.name}": path for paths in laid.values() for path in paths}
    check_outputs({"table": out / table.FILE}, read)
    runs = [
        _planned(name, int(word), out, tuple(laid[name]), steps) for word in words for name in names
    ]
    if finished:
        for run in [run for run in runs if run.done < run.steps]:
            print(
                f"loopy: {run.name} is left out: {run.done} of {run.steps} steps", file=sys.stderr
            )
        runs = [run for run in runs if run.done >= run.steps]
    if len({run.steps for run in runs}) > 1:
        counts = ", ".join(f"{run.name} {run.steps}" for run in runs)
        raise ConfigurationError(
            f"runs of different numbers of steps do not compare: {counts}; train the variants of "
            "one table equally long, or give another --out"
        )
    start = base.with_name("image.yaml")
    if start.is_file() and not finished:
        asyncio.run(_train_start(start, Path(read_recipe(base)["model"]["init_args"]["init_from"])))
    for run in [run for run in runs if run.done]:
        _check_recipe(run)
    folder_of_results(out)
    judged = {"talks": talks, "seconds": seconds, "clips": clips, "seed": seed}
    failed = asyncio.run(_make_all(runs, judged, out / "truth", jobs=jobs))
    results: dict[str, dict[int, Results]] = {}
    for run in [run for run in runs if run not in failed]:
        results.setdefault(run.variant, {})[run.seed] = _results(run)
    rows = table.tabulate(results)
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
    variant: str, seed: int, out: Path, recipes: tuple[Path, ...], steps: int | None
) -> PlannedRun:
    folder = out / variant / f"seed_{seed}"
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
    return PlannedRun(variant, seed, folder, recipes, length, _steps_done(folder))


def _results(run: PlannedRun) -> Results:
    """Its figures; the loss is of the validation after the last step, if there was one."""
    results, logged = Results.read(run.folder), read_rows(run.folder / "losses.csv")
    losses = [value for step, name, value in logged if (step, name) == (run.steps, "val/loss")]
    figures = {LOSS.name: SetFigure(losses[-1] if losses else math.nan)} | results.figures
    return replace(results, columns=(LOSS, *results.columns), figures=figures)


def _steps_done(folder: Path) -> int:
    path = last_checkpoint(folder)
    if not path.exists():
        return 0
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)["global_step"]
    except Exception as error:  # a damaged pickle can fail in any way
        reason = told(error, path)
        raise LoopyError(f"{path} cannot be read ({reason}); delete it to train anew") from error


async def _make_all(
    runs: Sequence[PlannedRun], judged: dict[str, Any], truth: Path, *, jobs: int
) -> list[PlannedRun]:
    """Makes all, a few at a time; gives those that failed."""
    slots, failed = asyncio.Semaphore(jobs), list[PlannedRun]()
    with tqdm(total=len(runs), desc="ablate", unit="run") as bar:

        async def attempt(run: PlannedRun) -> None:
            async with slots:
                try:
                    await _make(run, judged, truth)
                except (LoopyError, OSError) as error:  # the other runs go on
                    bar.write(f"loopy: error: {error}", file=sys.stderr)
                    failed.append(run)
            bar.update()

        await asyncio.gather(*map(attempt, runs))
    return failed


async def _make(run: PlannedRun, judged: dict[str, Any], truth: Path) -> None:
    """Fits, exports and judges a run by child processes, each unless it is done.

    Raises:
        LoopyError: A child failed; the message has its last line and where its log is.
    """
    with _locked(run.folder) as lock:
        done = _steps_done(run.folder)  # another process may have trained it since it was planned
        if done:
            _check_recipe(run)
        else:
            write_record(run.folder / RECORD, _record(run.recipes))
        if done < run.steps:
            await _child("loopy", ["fit", *run.words], run.folder, lock)
        if (done := _steps_done(run.folder)) != run.steps:
            raise ConfigurationError(f"{run.folder} has {done} steps, {run.steps} were planned")
        checkpoint, model = last_checkpoint(run.folder), run.folder / "model"
        record: dict[str, Any] = {"checkpoint": content_hash(checkpoint, "checkpoint")}
        if not is_finished(model, record):
            words = ["export", f"--ckpt={checkpoint}", f"--out={model}"]
            await _child("loopy", words, run.folder, lock)
            mark_finished(model, record)
        record |= judged | {"version": VERSION}
        if not is_finished(run.folder / "results.json", record):
            given = {"model": model, "out": run.folder, "shared": truth, "name": run.name, **judged}
            words = [f"--{name}={value}" for name, value in given.items()]
            await _child("loopy.evaluation.ablation.judge", words, run.folder, lock)
            mark_finished(run.folder / "results.json", record)


async def _train_start(recipe: Path, model: Path) -> None:
    """Trains the model that all variants start from, unless it is there."""
    if (model / "model_index.json").is_file():  # the last file of a model that is written
        return
    place = Path(read_recipe(recipe)["trainer"]["default_root_dir"])
    with _locked(place) as lock:
        await _child("loopy", ["fit", f"--config={recipe}"], place, lock)
        words = ["export", f"--ckpt={last_checkpoint(place)}", f"--out={model}"]
        await _child("loopy", words, place, lock)


@contextmanager
def _locked(place: Path) -> Iterator[int]:
    """Keeps others out of a run. Its children inherit the lock: one that outlives us keeps it."""
    with (existing_folder(place) / ".lock").open("w") as file:
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
    path = place / LOG
    with path.open("a", encoding="utf-8") as log:
        print("$ python -m", module, *words, file=log, flush=True)
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
        last = path.read_text(encoding="utf-8", errors="replace").strip().rpartition("\n")[2]
        what = words[0] if module == "loopy" else "judging"
        raise LoopyError(
            f"{place}: {what} failed with code {code}: "
            f"{last.strip().removeprefix('loopy: error: ')}; its log: {path}"
        )


def _check_recipe(run: PlannedRun) -> None:
    """Makes sure that a run that has begun was trained by its recipes, from the same model."""
    path = run.folder / RECORD
    if not path.is_file():
        raise ConfigurationError(
            f"{run.folder} has no {path.name} and was not begun by loopy ablate; give another --out"
        )
    found = json.loads(path.read_text())
    if found != _record(run.recipes):
        raise ConfigurationError(
            f"{run.folder} was trained by other recipes, from another model, or by an older loopy; "
            "delete it, or give another --out"
        )


def _record(paths: Sequence[Path]) -> dict[str, Any]:
    """By what a run is trained: recipes, and the hash of each model that it starts from.

    What this verb itself decides (`DECIDED`, and the seed) is left out.
    """
    recipes, hashes = [read_recipe(path) for path in paths], dict[str, str]()
    for recipe in recipes:
        trainer = recipe.get("trainer") or {}
        recipe["trainer"] = {name: each for name, each in trainer.items() if name not in DECIDED}
        recipe.pop("seed_everything", None)
        start = (recipe.get("model") or {}).get("init_args", {}).get("init_from") or []
        models = map(Path, start if isinstance(start, list) else [start])
        hashes |= {str(model): tree_hash(model) for model in models if model.exists()}
    return json.loads(json.dumps({"recipes": recipes, "model": hashes}, default=str))


def _trainer(paths: Sequence[Path]) -> dict[str, Any]:
    """Options of the trainer, those of later recipes over those of earlier ones."""
    found: dict[str, Any] = {}
    for path in paths:
        found |= (read_recipe(path) if path.is_file() else {}).get("trainer") or {}
    return found


def _listed(text: str) -> list[str]:
    """What stands between commas, each once."""
    found = list(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))
    if not found:
        raise ConfigurationError(f"{text!r} names nothing; give words with commas between them")
    return found
