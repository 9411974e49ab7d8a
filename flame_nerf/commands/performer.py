"""Whoever drives an avatar: a subject, a motion file, or the person in a video."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flame_nerf.commands.tracked import track_into_cache

if TYPE_CHECKING:
    from flame_nerf.motion import Motion
    from flame_nerf.motion.files.head_angles import AngleUnits
    from flame_nerf.subject import Subject


@dataclass
class Performer:
    """Whoever drives an avatar."""

    motion: Motion
    subject: Subject | None
    """Whose pictures there are; None: a file that has none."""
    sound: Path | None
    """File whose sound belongs to it."""

    @classmethod
    def of(
        cls, source: Path, head_units: AngleUnits | None, pictures: bool = False, fps: float | None = None
    ) -> Performer:
        """What `source` holds; a video is tracked first. Says what was taken for granted."""
        from flame_nerf.motion import load_motion
        from flame_nerf.motion.files.sources import VIDEOS, find_sound
        from flame_nerf.subject import load_subject

        video = source if source.suffix.lower() in VIDEOS else None
        folder = track_into_cache(video) if video is not None else source
        motion = load_motion(folder, fps, head_units)
        for sentence in motion.provenance.assumed:
            print(f"assumed: {sentence}")
        subject = load_subject(folder) if pictures and folder.is_dir() else None
        return cls(motion, subject, video or find_sound(motion, folder))
