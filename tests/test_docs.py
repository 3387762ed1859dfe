"""README and docs name only what exists: commands, options, files, functions, recipes."""

import ast
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import warnings
import wave
from contextlib import redirect_stdout
from functools import cache
from pathlib import Path
from pkgutil import resolve_name
from runpy import run_module, run_path

import pytest
import torch
import yaml

from loopy.cli import VERBS, main

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
TARGETS = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)


def blocks(language):
    """Fenced blocks of one language, each with the page it stands on."""
    for page in PAGES:
        found = re.findall(
            rf"^```{language}\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE
        )
        yield from ((page.name, block) for block in found)


COMMANDS = sorted(
    {
        line.partition("  #")[0].strip()
        for _, block in blocks("bash")
        for line in block.replace("\\\n", " ").splitlines()
        if line.strip() and not line.startswith("#")
    }
)


@cache
def loopy_help(*words, option="--help"):
    """What a command says; in this process, which has imported the libraries already."""
    said = io.StringIO()
    with redirect_stdout(said), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # between lightning and jsonargparse
        try:
            code = main([*words, option])
        except SystemExit as stopped:
            code = stopped.code
    assert code == 0, words
    return said.getvalue()


def check_install(words):
    for word in words:
        if extras := re.search(r"\[(.*)\]", word):
            assert set(extras[1].split(",")) <= set(PROJECT["optional-dependencies"])
        if word.startswith("loopy"):
            assert word.partition("[")[0] == PROJECT["name"]
        if word.endswith(".txt"):
            assert (ROOT / word).is_file()


def check_loopy(words):
    if words[0] == "--help":
        assert loopy_help()
        return
    verb, *rest = words
    assert verb in VERBS
    if any(word.startswith(("--data.", "--model.", "--options.estimator_")) for word in rest):
        # Options of the classes that the recipe names: the verb alone does not know them.
        assert loopy_help(*words, option="--print_config")
        return
    inner = rest[:1] if verb in ("data", "evaluate", "faces") else []  # verbs of their own
    for word, after in zip(rest, [*rest[1:], ""], strict=True):
        if word == "--config":
            assert (ROOT / after).is_file(), f"no recipe {after}"
        elif word.startswith("-"):
            known = loopy_help(verb, *inner)
            assert word.partition("=")[0] in known, f"{verb} has no option {word}"


@cache
def script_help(*words):
    """What a script, or a module of the package, says of its options; in this process too."""
    said, before = io.StringIO(), sys.argv
    run, name = (run_module, words[1]) if words[0] == "-m" else (run_path, str(ROOT / words[0]))
    sys.argv = [name, "--help"]
    for module in (name, f"{name}.__main__"):  # runpy warns of what is imported already
        sys.modules.pop(module, None)
    try:
        with redirect_stdout(said), pytest.raises(SystemExit) as stopped:
            run(name, run_name="__main__")
    finally:
        sys.argv = before
    assert not stopped.value.code
    return said.getvalue()


def check_script(words):
    said = script_help(*words[: 2 if words[0] == "-m" else 1])
    assert all(word in said for word in words[1:] if word.startswith("-") and word != "-m")


def check_launcher(words):
    """A script that hands its words on to `loopy fit`."""
    assert "loopy fit" in (ROOT / words[0]).read_text()
    subprocess.run(["bash", "-n", ROOT / words[0]], check=True)
    check_loopy(["fit", *words[1:]])


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_exist(command):
    first, *rest = shlex.split(command)
    match first:
        case "make":
            targets = [word for word in rest if "=" not in word]
            assert set(targets) <= set(TARGETS)
        case "loopy":
            check_loopy(rest)
        case "pip":
            check_install(rest)
        case "python":
            check_script(rest)
        case "bash" | "sbatch":
            check_launcher(rest)
        case "mkdir":
            assert rest[0] == "-p"
        case "cp":
            ours = [word for word in rest if word.startswith("loopy/")]
            assert ours
            assert all((ROOT / word).is_dir() for word in ours)
        case _:
            pytest.fail(f"no test knows the command {first!r}")


def python_sessions():
    """The python blocks of a page are one session, as a reader would type them."""
    for page in PAGES:
        found = [block for name, block in blocks("python") if name == page.name]
        if found:
            marks = pytest.mark.weights if any("toon" in block for block in found) else ()
            yield pytest.param("\n".join(found), id=page.stem, marks=marks)


@pytest.mark.filterwarnings(  # between diffusers' solvers and numpy
    "ignore:__array__ implementation:DeprecationWarning"
)
@pytest.mark.parametrize("session", [*python_sessions()])
def test_python_of_the_pages_runs(session, tmp_path, monkeypatch):
    examples = tmp_path / "examples"
    examples.mkdir()
    shutil.copy(ROOT / "examples/portrait.png", examples)
    with wave.open(str(ROOT / "examples/speech.wav")) as whole:
        parameters, start = whole.getparams(), whole.readframes(whole.getframerate())
    with wave.open(str(examples / "speech.wav"), "w") as first_second:
        first_second.setparams(parameters)
        first_second.writeframes(start)
    monkeypatch.chdir(tmp_path)
    exec(compile(session, "page", "exec"), {})


@pytest.mark.slow
@pytest.mark.weights
def test_raw_videos_become_a_store_and_a_training_as_the_page_says(tmp_path):
    """Its commands, typed one after another in a fresh clone; those of Ray are for a cluster."""
    pytest.importorskip("espeakng_loader")
    page = (ROOT / "docs/data.md").read_text()
    section = page[page.index("## Raw videos to a store") : page.index("## A training sample")]
    found = re.findall(r"^```bash\n(.*?)^```", section, re.DOTALL | re.MULTILINE)
    for name in ("configs", "examples", "loopy"):
        (tmp_path / name).symlink_to(ROOT / name)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euxc", "\n".join(block for block in found if "--engine ray" not in block)],
        cwd=tmp_path,
        env=os.environ | {"PATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert "3 videos, 3 shots" in done.stdout
    for name in ("store_report/histograms.png", "shot.png", "shot.mp4"):
        assert (tmp_path / name).stat().st_size
    assert torch.load(tmp_path / "runs/mine/checkpoints/last.ckpt")["global_step"] == 2


TABLE = (ROOT / "docs/paper-to-code.md").read_text()


@pytest.mark.parametrize("name", re.findall(r"`(loopy\.[\w.]+)`", TABLE))
def test_paper_to_code_names_exist(name):
    assert resolve_name(name).__doc__


@pytest.mark.parametrize("file", sorted(set(re.findall(r"`(tests/[\w/.]+)`", TABLE))))
def test_paper_to_code_tests_exist(file):
    body = ast.parse((ROOT / file).read_text()).body
    assert any(isinstance(node, ast.FunctionDef) and node.name.startswith("test_") for node in body)


@pytest.mark.parametrize(
    "recipe", sorted(ROOT.glob("configs/**/*.yaml")), ids=lambda path: path.stem
)
def test_recipes_are_yaml(recipe):
    assert isinstance(yaml.safe_load(recipe.read_text()), dict)


def test_links_between_pages_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_page_is_in_the_menu():
    menu = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]
    listed = {file for entry in menu for file in entry.values()}
    assert listed == {page.name for page in PAGES[1:]}


def test_the_site_builds_strictly(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-q", "-d", str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_nothing_cites_what_is_not_here():
    """Notes that were never part of the repository: the paper, or a file of it, says more."""
    notes = re.compile(r"\b(spec|ecosystem\.md|DESIGN\.md) \d")
    kinds = (".py", ".md", ".yaml", ".toml", ".ipynb", ".html")
    files = [ROOT / name for name in ("README.md", "CHANGELOG.md", "pyproject.toml")]
    for folder in ("loopy", "docs", "tests", "configs", "examples"):
        files += [path for path in (ROOT / folder).rglob("*") if path.suffix in kinds]
    citing = {
        f"{path.relative_to(ROOT)}: {found.group()}"
        for path in files
        if path != Path(__file__).resolve() and (found := notes.search(path.read_text()))
    }
    assert not citing
