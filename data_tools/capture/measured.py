"""Everything that is measured of a subject's footage, in one pass over its pictures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from data_tools.capture.expressions import Done, expressions_done
from data_tools.capture.looks import Look, flicker_of, looks_of
from data_tools.capture.poses import face_heights, head_angles
from flame_nerf.motion.files.sources import picture_numbers
from flame_nerf.subject import Subject

YAW_EDGES = (-90.0, -50.0, -30.0, -10.0, 10.0, 30.0, 50.0, 90.0)
PITCH_EDGES = (-90.0, -25.0, -8.0, 8.0, 25.0, 90.0)
"""Borders of the cells in which turns and nods of the head are counted, degrees; beyond the ends counts as the end."""


@dataclass(frozen=True)
class Measured:
    """What a subject's frames show."""

    subject: Subject
    yaw: Float[np.ndarray, " N"]
    """Of each frame, degrees, positive to the subject's left, and"""
    pitch: Float[np.ndarray, " N"]
    """positive upwards."""
    face_px: float
    """Median height of the face from brow line to chin, pixels of the stored pictures; NaN if unknown."""
    seconds: float
    """Length of the footage."""
    done: tuple[Done, ...]
    """What the face did, as far as it can be measured on this head."""
    looks: tuple[Look, ...]
    flicker: float
    doubtful: Bool[np.ndarray, " N"]
    """Frames in which tracking found the face hidden or itself wrong: what they seem to show does not count."""

    @property
    def clear(self) -> Int[np.ndarray, " K"]:
        """Rows of the frames that count; all of them where none is clear."""
        return np.flatnonzero(~self.doubtful) if not self.doubtful.all() else np.arange(len(self.doubtful))

    @property
    def noun(self) -> str:
        """What to call what is seen: a face, or the head of something without lips of its own."""
        return "face" if self.subject.track.region_faces("lips").any() else "head"

    def cells(self) -> Int[np.ndarray, "N 2"]:
        """Column (yaw) and row (pitch) of each frame among the cells."""
        pairs = ((self.yaw, YAW_EDGES), (self.pitch, PITCH_EDGES))
        return np.stack([np.clip(np.digitize(values, edges) - 1, 0, len(edges) - 2) for values, edges in pairs], axis=1)

    def time_of(self, row: int) -> float:
        """When in the footage a frame was filmed, seconds: pictures that are left out took their time, too."""
        timestep, numbers = self.subject.frames[row].timestep, picture_numbers(self.subject)
        return float(timestep if numbers is None else numbers[timestep]) / self.subject.fps

    def row_of(self, timestep: int) -> int:
        """First frame that shows a timestep."""
        return next(row for row, frame in enumerate(self.subject.frames) if frame.timestep == timestep)


def measure(subject: Subject, on_picture: Callable[[], None] = lambda: None) -> Measured:
    """Measure a loaded subject: its track, and its pictures as far as they can be read.

    Args:
        on_picture: called for each picture that is opened, at most `looks.LOOKED_AT` times.
    """
    timesteps = np.unique([frame.timestep for frame in subject.frames])
    doubtful = doubtful_frames(subject)
    clear = np.unique([frame.timestep for frame, bad in zip(subject.frames, doubtful, strict=True) if not bad])
    angles, heights = head_angles(subject), face_heights(subject)
    return Measured(
        subject=subject,
        yaw=angles[:, 0],
        pitch=angles[:, 1],
        face_px=float(np.nanmedian(heights)) if np.isfinite(heights).any() else float("nan"),
        seconds=len(timesteps) / subject.fps,
        done=expressions_done(subject.track, clear if len(clear) else timesteps),
        looks=looks_of(subject, on_picture),
        flicker=flicker_of(subject),
        doubtful=doubtful,
    )


def doubtful_frames(subject: Subject) -> Bool[np.ndarray, " N"]:
    """Frames of which tracking says that it is probably wrong there, or that something covers a part of the face.

    Nothing is doubtful of a subject that was not tracked here.
    """
    tracking = subject.extra.get("tracking")
    summary = tracking.get("summary") if isinstance(tracking, dict) else None
    lists = [summary.get(name) for name in ("off_course", "covered")] if isinstance(summary, dict) else []
    # Tracking names its pictures by the numbers that it gives here.
    named = {f"{number:05d}" for numbers in lists if isinstance(numbers, list | tuple) for number in numbers
             if isinstance(number, int)}  # fmt: skip
    return np.array([frame.file_path.stem in named for frame in subject.frames], dtype=bool)
