"""Writes the tree of docs/architecture.md: each file with the first line of its docstring.

python -m tools.tree
"""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/architecture.md"
START, END = "```text\nloopy/\n", "```"


def first_line(path: Path) -> str:
    """What a file says of itself."""
    text = ast.get_docstring(ast.parse(path.read_text())) or ""
    return text.partition("\n")[0].rstrip(".")


def lines(folder: Path, depth: int = 1) -> list[str]:
    """The tree below a folder: its files, then its folders."""
    found = [path for path in sorted(folder.glob("*.py")) if path.name != "__init__.py"]
    names = [f"{'  ' * depth}{path.name:<22}{first_line(path)}" for path in found]
    for below in sorted(path for path in folder.iterdir() if (path / "__init__.py").exists()):
        title = f"{below.name}/"
        names += [f"{'  ' * depth}{title:<22}{first_line(below / '__init__.py')}"]
        names += lines(below, depth + 1)
    return names


def tree() -> str:
    """The block as the page shows it."""
    return START + "\n".join(lines(ROOT / "loopy")) + "\n" + END


def main() -> None:
    """Replace the tree of the page."""
    before, after = PAGE.read_text().split(START)
    PAGE.write_text(before + tree() + after.split(END, 1)[1])


if __name__ == "__main__":
    main()
