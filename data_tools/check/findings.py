"""One thing that a check has to say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Level = Literal["error", "warning", "note"]
"""error: training breaks or learns nothing right; warning: the result will suffer; note: good to know."""
NAMED = 6
"""Frames that are named before the rest are only counted."""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, weak, or good to know."""

    level: Level
    topic: str
    """What it is about, in a word or two."""
    text: str
    """What was found, and what to do."""


def some(names: Sequence[object]) -> str:
    """The first few names, and how many more there are."""
    shown = ", ".join(str(name) for name in names[:NAMED])
    return shown if len(names) <= NAMED else f"{shown} and {len(names) - NAMED} more"
