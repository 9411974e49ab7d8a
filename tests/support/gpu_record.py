"""What a pretended GPU is waited for and given to do, and where in the code."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Any


class DeviceFault(RuntimeError):
    """What a GPU would have refused."""


class Record:
    """What was seen.

    Attributes:
        waits: how often the host waited, by operator and place.
        launches: pieces of work, by operator; Warp's kernels by "warp".
        places: the same by file and function of this package.
        bytes: read and written by PyTorch's operators.
        inside: pieces of work in replayed graphs, each of which counts as one launch.
    """

    def __init__(self) -> None:
        self.waits: Counter[str] = Counter()
        self.launches: Counter[str] = Counter()
        self.places: Counter[str] = Counter()
        self.bytes = self.inside = 0
        self.by_place = False

    def clear(self) -> None:
        """Begin anew."""
        self.__init__()


RECORD = Record()


def place() -> str:
    """File and function of this package, or else of Nerfstudio, that runs."""
    frame: Any = sys._getframe(1)  # noqa: SLF001
    other = "backward"
    while frame is not None:
        name = frame.f_code.co_filename
        if "/flame_nerf/" in name and not frame.f_code.co_name.startswith("<"):
            return f"{Path(name).name}:{frame.f_code.co_name}"
        if "/nerfstudio/" in name and other == "backward":
            other = f"{Path(name).name}:{frame.f_code.co_name}"
        frame = frame.f_back
    return other


def wait(what: str) -> None:
    """Note that a GPU would be waited for."""
    RECORD.waits[f"{what} {place()}"] += 1


def launched(name: str) -> None:
    """Note a piece of work."""
    RECORD.launches[name] += 1
    if RECORD.by_place:
        RECORD.places[place()] += 1
