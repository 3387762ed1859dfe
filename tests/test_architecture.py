"""The promises that docs/architecture.md and the README make about the shape of the package."""

import ast
import statistics
import sys
from collections import Counter, defaultdict
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

import pytest

from tools import tree as tree_tool

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/architecture.md"
FILES = sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("loopy/**/*.py"))


@cache
def tree(file):
    return ast.parse((ROOT / file).read_text())


def rows(heading):
    """Cells of the table below a heading of docs/architecture.md, without its head."""
    section = PAGE.read_text().split(f"## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def names(cell):
    """The `quoted` words of a cell."""
    return cell.split("`")[1::2]


def imported(file):
    """Dotted modules a file imports, at its top and inside functions; not for types alone."""
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno} imports relatively"
            # `from loopy import segments` names the module loopy.segments
            package = node.module == "loopy"
            yield from (f"loopy.{alias.name}" if package else node.module for alias in node.names)


def third_parties(file):
    tops = {module.partition(".")[0] for module in imported(file)}
    return tops - {"loopy", "__future__"} - sys.stdlib_module_names


def defined(file):
    """Public names at the top of a file; constants apart, which no one imports by accident."""
    kinds = (ast.FunctionDef, ast.ClassDef)
    return {n.name for n in tree(file).body if isinstance(n, kinds) and n.name[0] != "_"}


FLOORS = {place: int(floor) for floor, places, _ in rows("Floors") for place in names(places)}
HOMES = {library: names(homes) for cell, homes, _ in rows("Homes") for library in names(cell)}


def place_of(module):
    """Where a module belongs: a folder of the package, or a file directly in it."""
    return module.split(".")[1] if "." in module else "__init__"


def place_of_file(file):
    return place_of(file.removesuffix(".py").replace("/", "."))


def test_every_file_has_a_floor():
    assert {place_of_file(file) for file in FILES} == set(FLOORS)


@pytest.mark.parametrize("file", FILES)
def test_imports_point_down(file):
    here = place_of_file(file)
    if here in ("__init__", "__main__"):  # they hand out what is above
        return
    for module in imported(file):
        there = place_of(module)
        if module.partition(".")[0] == "loopy" and there != here:
            assert FLOORS[there] < FLOORS[here] or FLOORS[there] == 0 == FLOORS[here], (
                f"{file} (floor {FLOORS[here]}) imports {module} (floor {FLOORS[there]})"
            )


@pytest.mark.parametrize("file", FILES)
def test_third_parties_stay_at_home(file):
    for library in third_parties(file):
        assert any(fnmatch(file, f"loopy/{home}") for home in HOMES.get(library, ())), (
            f"{file} imports {library}; its homes in docs/architecture.md: {HOMES.get(library)}"
        )


@pytest.mark.parametrize(("library", "home"), [(k, v) for k, vs in HOMES.items() for v in vs])
def test_homes_are_lived_in(library, home):
    living = [file for file in FILES if fnmatch(file, f"loopy/{home}")]
    assert any(library in third_parties(file) for file in living)


@pytest.mark.parametrize("place", ["nn", "models", "diffusion", "pipeline"])
def test_the_model_never_knows_the_synthetic_talker(place):
    for file in (file for file in FILES if place_of_file(file) == place):
        assert not any(module.startswith("loopy.synthetic") for module in imported(file)), file


def test_files_are_short():
    lines = {file: len((ROOT / file).read_text().splitlines()) for file in FILES}
    assert not {file: n for file, n in lines.items() if n > 400}
    assert statistics.median(lines.values()) < 150


def test_no_file_is_named_after_nothing():
    assert not {Path(file).stem for file in FILES} & {"utils", "util", "common", "helpers", "base"}


@pytest.mark.parametrize("file", FILES)
def test_no_assert_in_the_package(file):
    assert not [node.lineno for node in ast.walk(tree(file)) if isinstance(node, ast.Assert)]


def test_each_mutant_is_of_code_that_is_there():
    """`make mutants` takes long; that its table fits the code is seen here."""
    calls = (n for n in ast.walk(tree("tests/mutants.py")) if isinstance(n, ast.Call))
    mutants = [n.args for n in calls if getattr(n.func, "id", "") == "Mutant"]
    assert len(mutants) > 50
    for file, right, _, tests in (map(ast.literal_eval, each) for each in mutants):
        assert (ROOT / "loopy" / file).read_text().count(right) == 1, (file, right)
        assert (ROOT / "tests" / tests.partition("::")[0]).exists(), tests


def test_the_page_shows_the_tree():
    assert tree_tool.tree() in PAGE.read_text(), "run: python -m tools.tree"


def test_no_folder_is_crowded():
    counts = Counter(str(Path(file).parent) for file in FILES if not file.endswith("__init__.py"))
    assert not {folder: n for folder, n in counts.items() if n > 24}


def test_no_public_name_is_defined_twice():
    homes = defaultdict(list)
    for file in FILES:
        for name in defined(file):
            homes[name].append(file)
    twice = {name for name, files in homes.items() if len(files) > 1}
    assert twice <= {"main", "run"}
