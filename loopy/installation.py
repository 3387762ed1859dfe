"""Two faults of an environment that would otherwise surface far from their cause."""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version

from loopy.errors import DependencyError

# Names under which the other `loopy` (inducer's loop transformer) is or was distributed.
_NAMESAKES = ("loo.py", "loopy")


def check_no_namesake() -> None:
    """Refuses an environment in which another project owns the import name `loopy`.

    Both would install into one folder and overwrite each other's files. Two look-ups by name
    take under a millisecond; `packages_distributions()` would read every file list.

    Raises:
        DependencyError: the other project is installed.
    """
    for name in _NAMESAKES:
        try:
            found = version(name)
        except PackageNotFoundError:
            continue
        raise DependencyError(
            f"the distribution {name!r} ({found}) also installs a package called 'loopy' and "
            f"overwrites files of loopy-portrait: run `pip uninstall {name} loopy-portrait`, then "
            f"`pip install loopy-portrait`, and keep the two in separate environments"
        )


def check_torchaudio() -> None:
    """Imports torchaudio, and names the cure when its build does not fit torch's.

    transformers imports torchaudio wherever it is installed, so a torchaudio that cannot load
    breaks every import of diffusers with an error that names neither. To be called before
    diffusers is first imported. An absent torchaudio breaks nothing and is no fault here.

    Raises:
        DependencyError: torchaudio is installed and does not load.
    """
    try:
        import_module("torchaudio")
    except ModuleNotFoundError:
        return
    except (ImportError, OSError, RuntimeError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise DependencyError(
            f"torchaudio {version('torchaudio')} was built for another torch than the installed "
            f"{version('torch')} and does not load ({reason}): install a pair built together, "
            f"for example `pip install torch==2.11.0 torchaudio==2.11.0`"
        ) from error
