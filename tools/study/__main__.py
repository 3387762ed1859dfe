"""Pages that ask people which of two videos is better, and what their votes say.

::

    python -m tools.study pages ours theirs --out study    # folders of evaluations, or of videos
    python -m tools.study votes study/*.csv --key study/key.json
"""

import argparse
import sys
from pathlib import Path

from loopy.data.media.outputs import check_outputs
from loopy.drafts import folder_of_results
from loopy.errors import ConfigurationError, LoopyError
from loopy.stopping import Stopped, stopped_by_signals
from tools.study.pages import make_study
from tools.study.votes import FILE, analyse


def main(words: list[str] | None = None) -> int:
    """Writes the pages of a study, or sums its votes up.

    Args:
        words: The command; what was typed if None.

    Returns:
        The exit code: 2 for an error of ours, which is one line.
    """
    parser = argparse.ArgumentParser(
        prog="python -m tools.study",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("what", choices=("pages", "votes"), help="Write pages, or read what they saved.")
    add("paths", nargs="+", type=Path, help="Folders of two models or more; or files of votes.")
    add("--key", type=Path, help="The key.json of the study, for votes.")
    add("--out", type=Path, help="A folder for the result; for pages a new one, needed.")
    add("--raters", type=int, default=10, help="How many pages.")
    add("--trials", type=int, help="Pairs that each rater sees; all if not given.")
    add("--seed", type=int, default=0, help="Of intervals, and of what raters see where and when.")
    options = parser.parse_args(words)
    try:
        with stopped_by_signals():
            _pages(options) if options.what == "pages" else _votes(options)
    except (LoopyError, OSError) as error:
        print(f"study: error: {error}", file=sys.stderr)
        return 2
    except Stopped as stop:
        return 128 + stop.number
    return 0


def _pages(options: argparse.Namespace) -> None:
    if options.out is None:
        raise ConfigurationError("a study needs a new folder; give --out too")
    key = make_study(
        options.paths,
        options.out,
        seed=options.seed,
        raters=options.raters,
        trials=options.trials,
    )
    items = len({clip.item for clip in key.clips.values()})
    print(
        f"{items} videos of each of {len(options.paths)}, for {options.raters} raters: "
        f"{options.out}\n"
        "Send raters/ to the raters, each opens one page and hands a file of votes in.\n"
        f"Keep key.json, then: python -m tools.study votes *.csv --key {options.out / 'key.json'}"
    )


def _votes(options: argparse.Namespace) -> None:
    if options.key is None:
        raise ConfigurationError("votes need the key of their study; give --key too")
    if options.out is not None:
        votes = {f"votes {number}": path for number, path in enumerate(options.paths, 1)}
        check_outputs({"result": options.out / FILE}, votes | {"key": options.key})
    found = analyse(options.paths, options.key, seed=options.seed)
    print(found)
    if options.out is not None:
        folder_of_results(options.out)
        print(f"\n{found.write(options.out)}")


if __name__ == "__main__":
    sys.exit(main())
