"""`loopy ablate`: variants of one recipe trained with several seeds, judged alike, in one table."""

import sys
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import chain
from pathlib import Path
from threading import Event

import yaml
from jsonargparse import ArgumentError, ArgumentParser
from tqdm import tqdm

from loopy.commands.ablate_recipes import check
from loopy.commands.ablate_runs import TRUTH, Plan, carry_out, plan_of, steps_done, train_start
from loopy.commands.evaluate_sets import folder
from loopy.commands.recipes import find_recipe
from loopy.data.media.outputs import check_outputs
from loopy.errors import ConfigurationError, LoopyError
from loopy.evaluation.ablation.judge import JudgeOptions
from loopy.evaluation.ablation.runs import FULL, Run, check_steps, tabulate
from loopy.evaluation.ablation.table import terminal, write
from loopy.evaluation.table.results import Results
from loopy.evaluation.toon.talks import SHORTEST_S

BASE, START = "base.yaml", "image.yaml"
FLAGS = {"finished": "Train nothing: judge the runs that are trained, and print their table."}
EVERY_S = 2.0


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
        out: The folder of all runs, and of ablations.md, ablations.csv and ablations.json.
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
    names, numbers = _words(variants), [_number(word) for word in _words(seeds)]
    base = find_recipe(f"{recipes}/{BASE}")
    overlays = {
        name: [] if name == FULL else [find_recipe(f"{recipes}/{name}.yaml")] for name in names
    }
    read = {f"recipe {path.name}": path for path in [base, *chain(*overlays.values())]}
    check_outputs({"table": out / "ablations.json"}, read)
    plans = {
        (name, number): plan_of(
            name, number, out / name / f"seed_{number}", [base, *overlays[name]], steps=steps
        )
        for number in numbers
        for name in names
    }
    if finished:
        plans = {key: plan for key, plan in plans.items() if _is_trained(plan)}
    check_steps({plan.name: plan.steps for plan in plans.values()})
    if not finished:
        _start(base)
    for plan in plans.values():
        if steps_done(plan.folder):
            check(plan.folder, plan.recipes)
    folder(out)
    options = JudgeOptions(talks, seconds, clips, seed)
    failed = _all(list(plans.values()), options, out / TRUTH, jobs=jobs)
    runs = [
        Run(name, number, plan.steps, plan.loss, Results.read(plan.folder))
        for (name, number), plan in plans.items()
        if plan.name not in failed
    ]
    table = tabulate(runs)
    write(table, out)
    print(terminal(table))
    print(f"\nablations.md, ablations.csv, ablations.json: {out}")
    if failed:
        print(f"loopy: failed, and not in the table: {', '.join(failed)}", file=sys.stderr)
    return int(bool(failed))


def run(words: Sequence[str]) -> int:
    """Runs the verb with the words behind it.

    Raises:
        ConfigurationError: Words that make no sense.
    """
    parser = ArgumentParser(prog="loopy ablate", description=__doc__, exit_on_error=False)
    for flag, sentence in FLAGS.items():
        parser.add_argument(f"--{flag}", action="store_true", help=sentence)
    parser.add_function_arguments(ablate, skip=set(FLAGS))
    try:
        options = parser.parse_args(list(words[1:]))
    except ArgumentError as error:
        reason = " ".join(str(error).split())
        raise ConfigurationError(f"{reason}; see loopy ablate --help") from error
    return ablate(**options.as_dict())


def _all(plans: Sequence[Plan], options: JudgeOptions, shared: Path, *, jobs: int) -> list[str]:
    """Carries all out, a few at a time; gives the names of runs that failed."""
    failed, stop = list[str](), Event()
    bar = tqdm(total=sum(plan.steps for plan in plans), desc="ablate", unit="step")
    with bar, ThreadPoolExecutor(jobs) as pool:
        waiting: dict[Future[None], str] = {
            pool.submit(carry_out, plan, options, shared, stop): plan.name for plan in plans
        }
        try:
            while waiting:
                done, _ = wait(waiting, timeout=EVERY_S, return_when=FIRST_COMPLETED)
                for future in done:
                    name = waiting.pop(future)
                    try:
                        future.result()
                    except LoopyError as error:
                        failed.append(name)
                        tqdm.write(f"loopy: error: {error}", file=sys.stderr)
                bar.n = sum(plan.reached for plan in plans)
                bar.set_postfix_str(f"{len(plans) - len(waiting)} of {len(plans)} runs done")
        except BaseException:
            stop.set()  # who only waited would wait for the end of every training
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return failed


def _start(base: Path) -> None:
    """Trains the model that all variants start from, where there is a recipe for it."""
    recipe = base.with_name(START)
    if recipe.is_file():
        train_start(
            recipe, Path(yaml.safe_load(base.read_text())["model"]["init_args"]["init_from"])
        )


def _is_trained(plan: Plan) -> bool:
    done = steps_done(plan.folder)
    if done < plan.steps:
        print(f"loopy: {plan.name} is left out: {done} of {plan.steps} steps", file=sys.stderr)
    return done >= plan.steps


def _words(told: str) -> list[str]:
    """What stands between commas, each once.

    Raises:
        ConfigurationError: Nothing does.
    """
    words = list(dict.fromkeys(word.strip() for word in told.split(",") if word.strip()))
    if not words:
        raise ConfigurationError(f"{told!r} names nothing; give words with commas between them")
    return words


def _number(word: str) -> int:
    """A seed.

    Raises:
        ConfigurationError: It is none.
    """
    if not word.isdecimal():
        raise ConfigurationError(f"{word!r} is no seed; give numbers, for example --seeds 0,1")
    return int(word)
