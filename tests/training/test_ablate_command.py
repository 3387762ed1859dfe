"""`loopy ablate`: what is done stays, what fails keeps nothing back, and the table is written."""

import asyncio
import csv
import fcntl
import json
import math
import os
import signal
import time
from threading import Timer

import pytest
import torch
import yaml

from loopy.cli import main
from loopy.commands import ablate as command
from loopy.data.media.finished import content_hash, mark_finished
from loopy.evaluation.ablation.judge import VERSION
from loopy.evaluation.table.results import ColumnInfo, Results, SetFigure, VideoResult
from loopy.stopping import Stopped, stopped_by_signals
from loopy.training.loss_plot import append_rows

pytestmark = [pytest.mark.filterwarnings("ignore::DeprecationWarning")]

STEPS = 2
BROKEN = {"model": {"init_args": {"nonsense": 1}}}


def write_yaml(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(content))


@pytest.fixture
def recipes(tmp_path):
    """A recipe that never needs to be run, and a variant that cannot be."""
    write_yaml(tmp_path / "recipes/base.yaml", {"trainer": {"max_steps": STEPS}})
    write_yaml(tmp_path / "recipes/broken.yaml", BROKEN)
    return tmp_path / "recipes"


@pytest.fixture
def ablate(recipes, tmp_path):
    """The command: (options)."""

    def run(*options):
        return main(["ablate", "--recipes", str(recipes), "--out", str(tmp_path / "out"), *options])

    return run


@pytest.fixture
def table(tmp_path):
    """The rows of the table that was written, by variant and figure."""

    def read():
        with (tmp_path / "out/ablations.csv").open() as file:
            return {(row["variant"], row["figure"]): row for row in csv.DictReader(file)}

    return read


@pytest.fixture
def done(recipes, tmp_path):
    """Puts a run there that is trained, exported and judged: (variant, seed, figure)."""

    def put(variant, seed, figure, *, steps=STEPS):
        folder = tmp_path / "out" / variant / f"seed_{seed}"
        checkpoint = folder / "checkpoints" / "last.ckpt"
        checkpoint.parent.mkdir(parents=True)
        torch.save({"global_step": steps, "of": f"{variant} {seed}"}, checkpoint)
        write_yaml(folder / "config.yaml", {"trainer": {"max_steps": steps, "precision": None}})
        paths = [recipes / f"{name}.yaml" for name in ("base", variant)]
        record = command._record([path for path in paths if path.is_file()])
        (folder / "recipe.json").write_text(json.dumps(record))
        append_rows(folder / "losses.csv", [(1, "val/loss", 0.9), (2, "val/loss", 0.1 * figure)])
        videos = tuple(VideoResult(f"{i}", {"Up": figure + i}) for i in range(8))
        figures = {"Up": SetFigure(figure + 3.5, n=8)}
        Results(variant, "made up", 0, (ColumnInfo("Up", "higher"),), videos, figures).write(folder)
        record = {"checkpoint": content_hash(checkpoint, "checkpoint")}
        (folder / "model").mkdir()
        mark_finished(folder / "model", record)
        options = {"talks": 8, "seconds": 4.0, "clips": 8, "seed": 0, "version": VERSION}
        mark_finished(folder / "results.json", record | options)
        return folder

    return put


def test_what_is_done_is_not_done_again(ablate, done, table, capsys):
    folders = [done(name, 0, figure) for name, figure in [("full", 2.0), ("broken", 1.0)]]
    assert ablate("--variants", "broken,full", "--seeds", "0") == 0
    assert not any((folder / "ablate.log").exists() for folder in folders)
    rows = table()
    assert list(rows)[:2] == [("full", "Held-out loss"), ("broken", "Held-out loss")]
    assert float(rows["broken", "Up"]["difference"]) == pytest.approx(-1.0)
    assert rows["broken", "Up"]["verdict"] == "worse"
    assert float(rows["broken", "Held-out loss"]["value"]) == pytest.approx(0.1)  # the last one
    assert "2 runs of 2 steps each" in capsys.readouterr().out


def test_a_run_that_fails_is_one_line_and_the_others_are_in_the_table(
    ablate, done, table, tmp_path, monkeypatch, capsys
):
    real = command._child

    async def child(module, words, place, lock):
        await real("http.server", ["nonsense"], place, lock)  # fails at once

    monkeypatch.setattr(command, "_child", child)
    done("full", 0, 2.0)
    assert ablate("--variants", "full,broken", "--seeds", "0") == 1
    told = capsys.readouterr()
    (line,) = (each for each in told.err.splitlines() if each.startswith("loopy: error: "))
    log = tmp_path / "out/broken/seed_0/ablate.log"
    assert "broken/seed_0: judging failed with code 2: " in line
    assert line.endswith(f"its log: {log}")
    assert log.read_text().startswith("$ python -m http.server nonsense\n")
    assert "failed, and not in the table: broken/seed_0" in told.err
    assert {variant for variant, _ in table()} == {"full"}


def test_runs_that_are_not_trained_are_left_out_if_asked(ablate, done, tmp_path, capsys):
    done("full", 0, 2.0)
    assert ablate("--variants", "full,broken", "--seeds", "0,1", "--finished") == 0
    assert "broken/seed_1 is left out: 0 of 2 steps" in capsys.readouterr().err
    assert not (tmp_path / "out/broken").exists()


def test_runs_of_other_lengths_are_refused_before_anything_is_trained(
    ablate, done, tmp_path, capsys
):
    done("full", 0, 2.0)
    assert ablate("--variants", "full", "--seeds", "0", "--steps", "3") == 2
    assert "was planned for 2 steps, not 3; give --steps 2" in capsys.readouterr().err
    done("broken", 0, 1.0, steps=5)
    assert ablate("--variants", "full,broken", "--seeds", "0,1") == 2
    assert "full/seed_0 2, broken/seed_0 5" in capsys.readouterr().err
    assert not (tmp_path / "out/full/seed_1").exists()


def test_runs_by_other_recipes_are_refused(ablate, done, recipes, capsys):
    """However they are written; where none were noted, too."""
    folder = done("full", 0, 2.0)
    words = ("--variants", "full", "--seeds", "0")
    base = recipes / "base.yaml"
    base.write_text("# said otherwise\n" + base.read_text())
    assert ablate(*words) == 0
    write_yaml(base, {"trainer": {"max_steps": STEPS}, "data": {"class_path": "a"}})
    assert ablate(*words) == 2
    told = capsys.readouterr().err
    assert told.count(f"{folder} was trained by other recipes, from another model") == 1
    write_yaml(base, {"trainer": {"max_steps": STEPS, "val_check_interval": 7}})  # ours to decide
    assert ablate(*words) == 0
    write_yaml(base, {"trainer": {"max_steps": STEPS}})
    (folder / "recipe.json").unlink()
    assert ablate(*words) == 2


def test_runs_from_other_weights_are_refused(ablate, done, recipes, tmp_path, capsys):
    start = {"model": {"init_args": {"init_from": str(tmp_path / "start")}}}
    write_yaml(recipes / "base.yaml", {"trainer": {"max_steps": STEPS}} | start)
    (tmp_path / "start").mkdir()
    (tmp_path / "start/weights").write_text("one")
    folder = done("full", 0, 2.0)
    for content, code in (("one", 0), ("other", 2)):
        (tmp_path / "start/weights").write_text(content)
        assert ablate("--variants", "full", "--seeds", "0") == code
    assert "from another model" in capsys.readouterr().err
    (folder / "recipe.json").write_text(json.dumps({"recipe": {}, "model": {}}))  # of before
    assert ablate("--variants", "full", "--seeds", "0") == 2
    assert "by an older loopy" in capsys.readouterr().err


def test_a_run_validates_behind_its_last_step(tmp_path):
    """Or its held-out loss would be of another step."""
    recipe = tmp_path / "base.yaml"
    trainer = {"val_check_interval": 500, "check_val_every_n_epoch": None}
    for every_n, steps, words in (
        (None, 1000, ()),
        (None, 700, ("--trainer.val_check_interval=700",)),
        (1, 700, ()),  # by epochs, a larger number than their batches is refused
    ):
        write_yaml(recipe, {"trainer": trainer | {"check_val_every_n_epoch": every_n}})
        plan = command._planned("full", 0, tmp_path, (recipe,), steps)
        assert tuple(plan.words[5:]) == words
    plan.folder.mkdir(parents=True)
    Results("full", "made up", 0, (), (), {}).write(plan.folder)
    append_rows(plan.folder / "losses.csv", [(500, "val/loss", 0.5), (700, "loss", 0.4)])
    assert math.isnan(command._results(plan).figures["Held-out loss"].value)
    append_rows(plan.folder / "losses.csv", [(700, "val/loss", 0.3)])
    assert command._results(plan).figures["Held-out loss"].value == pytest.approx(0.3)


def test_a_run_that_another_holds_is_left_alone(ablate, done, capsys):
    held, _ = done("full", 0, 2.0), done("full", 1, 2.0)
    with (held / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert ablate("--variants", "full") == 1
    assert "another loopy ablate, or a child that one left, is at" in capsys.readouterr().err


def test_a_cut_off_checkpoint_is_named(ablate, done, capsys):
    folder = done("full", 0, 2.0)
    checkpoint = folder / "checkpoints" / "last.ckpt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:100])
    assert ablate("--variants", "full", "--seeds", "0") == 2
    assert f"{checkpoint} cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--variants", "full,nobody"], "nobody.yaml"),
        (["--variants", ","], "names nothing"),
        (["--seeds", "0,one"], "'0,one' are no seeds"),
        (["--seconds", "1"], "and 2 s"),
        (["--talks", "many"], "see loopy ablate --help"),
    ],
)
def test_options_that_make_no_sense_are_one_line(ablate, capsys, options, words):
    assert ablate(*options) == 2
    told = capsys.readouterr().err
    assert words in told
    assert told.count("\n") == 1


@pytest.mark.slow
@pytest.mark.weights
def test_two_variants_from_recipes_to_the_table(
    clip_recipe, make_store, make_pipeline, table, tmp_path, capsys
):
    """Trained, judged and written by one command; a second one finds all of it done."""
    make_pipeline().save_pretrained(tmp_path / "parts")
    store = make_store(tmp_path / "store", [str(number) for number in range(8)])
    recipe = clip_recipe(store, tmp_path / "parts")
    last = {"class_path": "loopy.training.checkpoints.LastCheckpoint", "init_args": {"every": 1}}
    recipe["trainer"]["callbacks"].append(last)
    recipe["trainer"] |= {"max_steps": 9, "limit_val_batches": 0}
    write_yaml(tmp_path / "recipes/base.yaml", recipe)
    deaf = {"network": {"init_args": {"audio_to_latents": None}}}
    write_yaml(tmp_path / "recipes/no_a2l.yaml", {"model": {"init_args": deaf}})
    words = ["ablate", "--recipes", str(tmp_path / "recipes"), "--out", str(tmp_path / "out")]
    words += ["--variants", "full,no_a2l", "--seeds", "0", "--steps", str(STEPS)]
    words += ["--talks", "1", "--seconds", "2", "--clips", "2"]
    assert main(words) == 0, capsys.readouterr().err
    rows = table()
    assert rows["full", "Voice, in A2L (growth)"]["value"]
    assert not rows["no_a2l", "Voice, in A2L (growth)"]["value"]
    assert rows["no_a2l", "Voice, mismatched (growth)"]["value"]
    logs = [(tmp_path / f"out/{name}/seed_0/ablate.log") for name in ("full", "no_a2l")]
    before = [log.read_text() for log in logs]
    assert main(words) == 0
    assert [log.read_text() for log in logs] == before


def test_a_signal_to_the_command_alone_ends_its_children_too(tmp_path, monkeypatch):
    """As `kill` and a cluster send it; a terminal sends it to all."""

    async def endless(run, judged, truth):
        with (tmp_path / "lock").open("w") as lock:
            await command._child("http.server", ["0"], tmp_path, lock.fileno())

    monkeypatch.setattr(command, "_make", endless)
    runs = [command.PlannedRun("full", seed, tmp_path, (), 1, 0) for seed in range(3)]
    start = time.monotonic()
    Timer(1, os.kill, (os.getpid(), signal.SIGTERM)).start()
    with pytest.raises(Stopped), stopped_by_signals():
        asyncio.run(command._make_all(runs, {}, tmp_path, jobs=2))
    assert time.monotonic() - start < 30
    assert (tmp_path / "ablate.log").read_text().count("$ python -m http.server 0") == 2
