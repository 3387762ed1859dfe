"""`loopy evaluate --compare`, `--study`, `--votes`: what comes after evaluations."""

from collections.abc import Sequence
from pathlib import Path

from jsonargparse import ArgumentParser, Namespace

from loopy.commands.parsing import read_words
from loopy.data.media.outputs import check_outputs
from loopy.drafts import folder_of_results
from loopy.errors import ConfigurationError
from loopy.evaluation.study.pages import make_study
from loopy.evaluation.study.votes import FILE, analyse
from loopy.evaluation.table.compare import compare

WAYS = ("--compare", "--study", "--votes")


def run(words: Sequence[str]) -> None:
    """Compares two evaluations, writes the pages of a blind study, or sums its votes up.

    Args:
        words: `evaluate`, then the options.

    Raises:
        LoopyError: Options that make no sense, folders that do not fit, malformed votes.
    """
    parser = ArgumentParser(
        prog="loopy evaluate --compare", description=__doc__, exit_on_error=False
    )
    add = parser.add_argument
    add("--compare", nargs="*", type=Path, help="Folders of two evaluations of one test set.")
    add("--study", nargs="*", type=Path, help="Folders of two or more, to be shown blindly.")
    add("--votes", nargs="*", type=Path, help="Files that the pages of a study saved.")
    add("--key", type=Path, help="The key.json of the study, for --votes.")
    add("--out", type=Path, help="A folder for the result; for --study a new one, needed.")
    add("--raters", type=int, default=10, help="Pages of a study.")
    add("--trials", type=int, help="Pairs that each rater of a study sees; all if not given.")
    add("--seed", type=int, default=0, help="Of intervals, and of what raters see where and when.")
    options = Namespace(**read_words(parser, words[1:]))
    ways = [way for way in WAYS if options[way.removeprefix("--")] is not None]
    if len(ways) != 1:
        raise ConfigurationError(f"{' and '.join(ways)}; give one of {', '.join(WAYS)}")
    if ways == ["--compare"] and len(options.compare) != 2:
        raise ConfigurationError(f"--compare of {len(options.compare)} folders; give two")
    if ways == ["--study"]:
        _study(options.study, options.out, options.seed, options.raters, options.trials)
        return
    if ways == ["--votes"] and options.key is None:
        raise ConfigurationError("votes need the key of their study; give --key too")
    if ways == ["--votes"] and options.out is not None:
        votes = {f"votes {number}": path for number, path in enumerate(options.votes, 1)}
        check_outputs({"result": options.out / FILE}, votes | {"key": options.key})
    found = (
        compare(*options.compare, seed=options.seed)
        if ways == ["--compare"]
        else analyse(options.votes, options.key, seed=options.seed)
    )
    print(found)
    if options.out is not None:
        folder_of_results(options.out)
        print(f"\n{found.write(options.out)}")


def _study(
    folders: Sequence[Path], out: Path | None, seed: int, raters: int, trials: int | None
) -> None:
    """Writes the pages of a study, and says what to do with them.

    Raises:
        ConfigurationError: No folder to write to.
    """
    if out is None:
        raise ConfigurationError("a study needs a new folder; give --out too")
    key = make_study(folders, out, seed=seed, raters=raters, trials=trials)
    items = len({clip.item for clip in key.clips.values()})
    print(
        f"{items} videos of each of {len(folders)}, for {raters} raters: {out}\n"
        f"Send raters/ to the raters, each opens one page and hands a file of votes in.\n"
        f"Keep key.json, then: loopy evaluate --votes *.csv --key {out / 'key.json'}"
    )
