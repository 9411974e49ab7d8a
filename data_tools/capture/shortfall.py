"""One thing that footage lacks, and how much that weighs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

GRAVE, WEAK = 0.75, 0.4
"""Gravity from which footage should be filmed again, and from which what falls short will show."""
Stage = Literal["set up", "perform"]


@dataclass(frozen=True)
class Shortfall:
    """One thing that footage lacks."""

    topic: str
    gravity: float
    """0 a trifle, 1 ruins the avatar."""
    found: str
    """What was measured."""
    cost: str
    """What it will do to the avatar."""
    shot: str
    """What to film, or to change before filming; empty where nothing can be filmed."""
    stage: Stage
    frames: tuple[int, ...] = ()
    """Rows of the subject's frames it shows in; empty: all of them."""
