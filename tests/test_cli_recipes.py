"""Recipes that are none, trainers that cannot be, folders that cannot be made: one line each."""

import re
import time
from pathlib import Path
from pkgutil import resolve_name

import pytest
import torch
import yaml

from loopy.cli import main
from loopy.commands.recipes import MOVED, read_recipe
from loopy.errors import ConfigurationError
from tests.test_configs import RECIPES
from tests.training.test_hostile_checkpoints import recipe

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def bomb(deep):
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, deep)]
    return "\n".join(lines).encode()


def merges(deep):
    """The same by merge keys, whose values are one mapping in the end."""
    lines = ["a0: &a0 {b: 1}"]
    lines += [f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}]}}" for n in range(1, deep)]
    return "\n".join(lines).encode()


@pytest.mark.parametrize("verb", ["fit", "init"])
@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("# Köln".encode("latin-1"), "no YAML"),
        (b"\x00\x01", "no YAML"),
        (b"a: [", "no YAML"),
        (b"[" * 50_000, "no YAML"),
        (b"a: &a [*a]", "no YAML"),
        (b"", "no mapping"),
        (b"- 1", "no mapping"),
        (bomb(9), "by its aliases"),
        (merges(9), "by its aliases"),
    ],
)
def test_a_file_that_is_no_recipe(tmp_path, capsys, verb, content, words):
    path = tmp_path / "recipe.yaml"
    path.write_bytes(content)
    begun = time.monotonic()
    assert main([verb, "--config", str(path)]) == 2
    assert time.monotonic() - begun < 20
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"loopy: error: {path}")
    assert words in line


def test_a_small_use_of_aliases_is_a_recipe(tmp_path):
    (tmp_path / "a.yaml").write_bytes(bomb(3))
    assert len(read_recipe(tmp_path / "a.yaml")["a2"]) == 10
    with pytest.raises(ConfigurationError, match="no YAML"):
        read_recipe(tmp_path)


@pytest.mark.parametrize("name", RECIPES)
def test_ours_are_recipes(name):
    assert read_recipe(name)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"devices": 0}, "devices"),
        ({"accelerator": "abacus"}, "abacus"),
        ({"accelerator": "cuda"}, "CUDA"),
        ({"strategy": "no_such"}, "no_such"),
        ({"strategy": "fsdp"}, "fsdp"),
        ({"precision": "3-true"}, "3-true"),
        ({"max_steps": -7}, "max_steps"),
    ],
)
def test_a_trainer_that_cannot_be(tmp_path, capsys, changes, words):
    if torch.cuda.is_available():
        pytest.skip("of a machine without CUDA")
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(recipe(tmp_path / "run", **changes)))
    try:
        code = main(["fit", "--config", str(tmp_path / "a.yaml")])
    except SystemExit as error:  # what the parser knows to be wrong
        code = error.code
    said = capsys.readouterr().err
    assert code == 2
    assert words.lower() in said.lower()


@pytest.mark.parametrize("content", ["model: null", "{}"])
def test_a_recipe_without_a_model(tmp_path, capsys, content):
    (tmp_path / "a.yaml").write_text(f"seed_everything: 0\n{content}")
    try:
        code = main(["fit", "--config", str(tmp_path / "a.yaml")])
    except SystemExit as error:
        code = error.code
    assert code == 2
    assert "model" in capsys.readouterr().err


def test_a_folder_of_a_run_that_cannot_be_made(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    root = tmp_path / "file" / "run"
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(recipe(root)))
    assert main(["fit", "--config", str(tmp_path / "a.yaml")]) == 2
    assert f"{root} cannot be written (Not a directory)" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists")
def test_a_model_folder_that_cannot_be_made(tmp_path, capsys):
    root = tmp_path / "run"
    last = {"class_path": "loopy.training.checkpoints.LastCheckpoint"}
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(recipe(root, callbacks=[last])))
    assert main(["fit", "--config", str(tmp_path / "a.yaml")]) == 0
    (tmp_path / "file").write_text("")
    checkpoint = str(root / "checkpoints/last.ckpt")
    capsys.readouterr()
    for out in ("file", "file/deep"):
        assert main(["export", "--ckpt", checkpoint, "--out", str(tmp_path / out)]) == 2
        assert "cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["fit", "estimate"])
def test_settings_of_an_older_version_are_refused_with_the_cure(tmp_path, capsys, verb):
    said = yaml.safe_load(Path("configs/toon/clip.yaml").read_text())
    settings = said["model"]["init_args"]["settings"]
    settings["rollout"] = {"steps": settings.pop("sampling")["steps"], "residual": 0.45}
    (tmp_path / "old.yaml").write_text(yaml.safe_dump(said))
    assert main([verb, "--config", str(tmp_path / "old.yaml")]) == 2
    answer = capsys.readouterr().err
    assert "settings.rollout of an older version; put steps" in answer
    assert answer.count("\n") == 1


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("--nothing=1", "unrecognized arguments: --nothing=1"),
        ("--model.init_args.nothing=1", "Option 'nothing' is not accepted"),
        ("--model.init_args.drops.audio=x", "Got value: x"),
        ("--model.init_args.min_snr_gamma=x", "min_snr_gamma"),
        ("--trainer.max_steps=x", "trainer.max_steps"),
        ("--model.class_path=Nowhere", "Nowhere"),
        ("--trainer.max_steps", "expected one argument"),
    ],
)
@pytest.mark.parametrize("verb", ["fit", "estimate"])
def test_what_a_recipe_does_not_take_is_one_line(capsys, verb, word, told):
    assert main([verb, "--config", "configs/toon/clip.yaml", word]) == 2
    answer = capsys.readouterr().err
    assert told in answer
    assert answer.count("\n") == 1


@pytest.mark.parametrize(("old", "new"), MOVED.items())
def test_a_class_of_an_older_recipe_is_named_with_its_place_today(old, new, tmp_path):
    path = tmp_path / "old.yaml"
    callback = {"class_path": f"loopy.training.{old}"}
    path.write_text(yaml.safe_dump({"trainer": {"callbacks": [callback]}}))
    with pytest.raises(ConfigurationError, match=f"{old} is loopy.training.{re.escape(new)} now"):
        read_recipe(path)
    assert resolve_name(f"loopy.training.{new.split()[0]}")


def test_an_option_of_an_older_recipe(tmp_path):
    path = tmp_path / "old.yaml"
    path.write_text(yaml.safe_dump({"model": {"init_args": {"own_past": 0.6}}}))
    with pytest.raises(ConfigurationError, match="own_past is self_generated_history now"):
        read_recipe(path)
