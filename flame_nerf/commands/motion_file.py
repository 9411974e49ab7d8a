"""``flame-nerf motion``: motion files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from flame_nerf.commands.performer import Performer
from flame_nerf.runtime.errors import UserError


@dataclass
class MotionFile:
    """Make a motion file of a subject, a video, Live Link Face's CSV, LAM's JSON, a CSV of named columns, or another
    motion; or write one back as CSV or JSON.

    A motion is a performance without the person: expressions by name, turns of jaw, eyes and neck, and how the head
    moved. What the source does not say is taken for granted, and said.

    Examples:
      flame-nerf motion take.csv take.npz
      flame-nerf motion ada.mp4 ada.npz --start 2 --end 12
      flame-nerf motion subjects/ada ada.csv --fps 60
    """

    source: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="SOURCE")]
    """A subject's folder, a video (tracked first), or a .npz, .csv or .json file."""
    motion: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="MOTION")]
    """File to write: .npz, .csv (Live Link Face's columns where the names are ARKit's), or .json (LAM's)."""
    fps: float | None = None
    """Moments a second: of a table that does not say; anything else is resampled to it."""
    start: float | None = None
    """Second at which it begins."""
    end: float | None = None
    """Second at which it ends."""
    head_units: Literal["radians", "degrees", "quarter-turns"] | None = None
    """What the angles in a CSV are in. Unless given, their range tells."""

    def run(self) -> None:
        from flame_nerf.motion import save_motion
        from flame_nerf.motion.files.sources import FILES

        if self.motion.suffix.lower() not in FILES:
            raise UserError(f"{self.motion}: a motion's name ends in {', '.join(FILES)}")
        motion = Performer.of(self.source, self.head_units, fps=self.fps).motion
        motion = motion.cropped(self.start, self.end)
        lost = save_motion(motion, self.motion)
        for sentence in lost:
            print(f"left out: {sentence}")
        print(f"motion: {self.motion} ({motion.summary})")
