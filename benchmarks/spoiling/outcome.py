"""What is expected of a bad input, and whether a command did so."""

from __future__ import annotations

import contextlib
import io
import re
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SECONDS = 60.0
"""Time of the processor from which a command hangs; those that wait for something else are ended by `limits`."""


@dataclass(frozen=True)
class Kind:
    """One way of being bad."""

    make: Callable[[Any, Path], Path]
    """Makes it from the good material in a new folder; gives the path that the command is given."""
    refused: bool
    """Whether it is refused, with exit status 1, rather than worked with."""
    words: str = ""
    """Pattern that the answer holds."""
    large: bool = False
    """Takes seconds or gigabytes: not for the tests."""


def refused(words: str, make: Callable[[Any, Path], Path], large: bool = False) -> Kind:
    """A kind that is refused in such words."""
    return Kind(make, True, words, large)


def taken(words: str, make: Callable[[Any, Path], Path], large: bool = False) -> Kind:
    """A kind that is worked with, and what is said of it; empty: nothing need be said."""
    return Kind(make, False, words, large)


@dataclass(frozen=True)
class Answer:
    """What a command did."""

    status: int
    said: str
    """All that it printed."""
    seconds: float
    """Of the processor."""

    def faults(self, kind: Kind, given: Path, goes_on: int = 0) -> list[str]:
        """What is wrong with it; empty if it is as expected.

        Args:
            given: what the command was given, and names.
            goes_on: exit status of a command that works with what it is given.
        """
        found = []
        expected = 1 if kind.refused else goes_on
        if self.status != expected:
            found.append(f"exit status {self.status}, expected {expected}")
        if "Traceback" in self.said:
            found.append("a traceback")
        errors = [line for line in self.said.splitlines() if line.startswith("Error")]
        if kind.refused and not errors:
            found.append("no line with an error")
        if kind.refused and _shown(given.name) not in _shown(self.said):
            found.append("names no file")
        if not kind.refused and errors:
            found.append("an error where none is")
        if not re.search(kind.words, self.said):
            found.append(f"does not say {kind.words!r}")
        if self.seconds > SECONDS:
            found.append(f"took {self.seconds:.0f} s")
        told = [line for line in self.said.splitlines() if not line.startswith(("Warning", "Note"))]
        return [f"{one}: {' / '.join(told)[-800:]}" for one in found[:1]] + found[1:]


def _shown(name: str) -> str:
    """A name without what a terminal cannot show."""
    return re.sub(r"[^ -~]|\\(udc..|n)", "", name)


def answer_of(command: Callable[[], int]) -> Answer:
    """Call a command's function as its console script would."""
    said, begun = io.StringIO(), time.process_time()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            status = command()
        except Exception:  # noqa: BLE001 -- what gets out is a traceback to a user
            traceback.print_exc()
            status = 1
    return Answer(status, said.getvalue(), time.process_time() - begun)


def files_in(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of each file below a folder, links not followed."""
    return {
        str(path.relative_to(folder)): (path.lstat().st_size, path.lstat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if not path.is_dir()
    }
