"""Where the time goes: seconds by named part."""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter


@dataclass
class Stopwatch:
    """Sums the wall time spent in named parts.

    Args:
        seconds: Part -> seconds so far.
    """

    seconds: dict[str, float] = field(default_factory=dict[str, float])

    @contextmanager
    def __call__(self, part: str) -> Generator[None]:
        """Count the time of a ``with`` block to a part."""
        start = perf_counter()
        try:
            yield
        finally:
            self.seconds[part] = self.seconds.get(part, 0.0) + perf_counter() - start

    def __str__(self) -> str:
        """Name each part and its seconds in one line."""
        return ", ".join(f"{part} {seconds:.1f} s" for part, seconds in self.seconds.items())
