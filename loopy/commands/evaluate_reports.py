"""`loopy evaluate --compare`: what comes after evaluations."""

from collections.abc import Sequence
from pathlib import Path

from jsonargparse import ArgumentParser, Namespace

from loopy.commands.parsing import read_words
from loopy.drafts import folder_of_results
from loopy.errors import ConfigurationError
from loopy.evaluation.table.compare import compare

MOVED = {"--study": "pages", "--votes": "votes"}
"""Older words, and what `tools.study` calls them."""
WAYS = ("--compare", *MOVED)


def run(words: Sequence[str]) -> None:
    """Compares two evaluations.

    Args:
        words: `evaluate`, then the options.

    Raises:
        LoopyError: Options that make no sense, or folders that do not fit.
    """
    if moved := [word for word in words if word in MOVED]:
        raise ConfigurationError(
            f"studies are now in the repository: python -m tools.study {MOVED[moved[0]]} --help"
        )
    parser = ArgumentParser(
        prog="loopy evaluate --compare",
        description="Compares two evaluations.",
        exit_on_error=False,
    )
    add = parser.add_argument
    add("--compare", nargs="*", type=Path, help="Folders of two evaluations of one test set.")
    add("--out", type=Path, help="A folder for comparison.json.")
    add("--seed", type=int, default=0, help="Of intervals.")
    options = Namespace(**read_words(parser, words[1:]))
    if len(options.compare) != 2:
        raise ConfigurationError(f"--compare of {len(options.compare)} folders; give two")
    found = compare(*options.compare, seed=options.seed)
    print(found)
    if options.out is not None:
        folder_of_results(options.out)
        print(f"\n{found.write(options.out)}")
