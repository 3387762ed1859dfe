"""`python -m loopy` and the script `loopy`."""


def main() -> None:
    """Runs the command line; it is imported here, so that importing this file loads nothing."""
    from loopy.cli import main as run

    run()


if __name__ == "__main__":
    main()
