"""Progress bars: one a stage, with the time left."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class StageBars:
    """Bars on standard error while stages run; on a terminal they move, elsewhere each leaves one line when done."""

    def __init__(self, silent: bool = False) -> None:
        self._console = Console(file=sys.stderr, quiet=silent)
        self._bars = Progress(
            TextColumn("{task.description:<22}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self.seconds: dict[str, float] = {}
        """Wall time of each stage that ran."""

    def __enter__(self) -> StageBars:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    @contextmanager
    def stage(self, title: str, total: int | None) -> Iterator[Callable[[int], None]]:
        """Show a bar while the block runs; gives the function that moves it on by a number of steps."""
        task = self._bars.add_task(title, total=total)
        started = time.perf_counter()
        yield lambda count=1: self._bars.advance(task, count)
        seconds = time.perf_counter() - started
        self.seconds[title] = self.seconds.get(title, 0.0) + seconds
        # Estimated lengths may be off by a frame: a finished stage shows as finished.
        finished = self._bars.tasks[[one.id for one in self._bars.tasks].index(task)].completed
        self._bars.update(task, total=finished or total, completed=finished or total)
        if not self._console.is_terminal:
            self._console.print(f"{title}: {seconds:.1f} s", highlight=False)

    def say(self, text: str) -> None:
        """Print a line above the bars."""
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def reused(self, title: str) -> None:
        """Say that a stage was finished by an earlier run."""
        self._console.print(f"{title}: finished by an earlier run, reused", highlight=False)
