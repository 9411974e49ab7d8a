"""What an export is asked to do, what it answers, and how it fails."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from flame_nerf.runtime.errors import OneLine

ExportFormat = Literal["insta", "vhap"]


class ExportError(OneLine, RuntimeError):
    """A subject that cannot be exported. The text names it, what is in the way and what to do."""


@dataclass(frozen=True)
class ExportConfig:
    """Options of an export."""

    flame: Path | None = None
    """FLAME file that posed the subject (vhap), if the subject does not name one that can be read."""
    workers: int = 2
    """Threads that write pictures side by side."""
    overwrite: bool = False
    """Replace an export that is already in the folder."""


@dataclass(frozen=True)
class ExportSummary:
    """How an export went."""

    folder: Path
    """Where the other tool finds its data."""
    pictures: int
    """Pictures written."""
    notes: tuple[str, ...] = ()
    """What the person should know before using it."""
