"""`python -m loopy` and the script `loopy`."""

import sys


def main() -> int:
    """Runs the command line; it is imported here, so that importing this file loads nothing."""
    from loopy.cli import main as run

    return run()


if __name__ == "__main__":
    sys.exit(main())
