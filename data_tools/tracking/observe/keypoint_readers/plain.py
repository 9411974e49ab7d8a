"""The plain JSON of flame-nerf-data, which anything can write.

    {"units": "pixels",                     or "normalised" (0..1 of the picture); optional
     "size": [1920, 1080],                  of the pictures that pixels refer to; optional
     "frames": {"0": {"nose_tip": [812.5, 400.0, 0.98], "left_ear_tip": [700, 120]}, "1": {...}}}

Points are x (right), y (down) from the picture's upper left corner and, optionally, how sure they are, 0..1. With a
list of names under "keypoints", a frame may be a list of points in that order; "frames" may be a list of objects with
"frame" (a number, or a picture's name) and "points".
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from data_tools.tracking.config import TrackingError
from data_tools.tracking.observe.keypoint_readers.record import SUREST, KeypointFile, frames_of, number_of, whole


def read_plain(path: Path, document: Mapping[str, Any], asked: str | None) -> KeypointFile:
    """Understand the document.

    Args:
        asked: an individual to follow; the format has one only, without a name.

    Raises:
        TrackingError: a field of another kind; names the frame and the point.
    """
    if asked not in (None, SUREST):
        raise TrackingError(f"{path}: holds one animal without a name, none called {asked!r}. Leave out --individual.")
    units, size, listed = document.get("units"), document.get("size"), document.get("keypoints")
    if units not in (None, "pixels", "normalised", "normalized"):
        raise TrackingError(f'{path}: "units" is {units!r}, expected "pixels" or "normalised".')
    if listed is not None and not isinstance(listed, list):
        raise TrackingError(f'{path}: "keypoints" is {listed!r:.60}, expected a list of names.')
    by_frame = [(frame, _named(path, frame, points, listed)) for frame, points in _entries(path, document["frames"])]
    names = tuple(dict.fromkeys([*map(str, listed or ()), *(name for _, points in by_frame for name in points)]))
    column = {name: at for at, name in enumerate(names)}
    values = np.full((len(by_frame), len(names), 3), np.nan)
    for row, (frame, points) in enumerate(by_frame):
        for name, point in points.items():
            where = f"{path}: frame {frame}, {name}"
            if point is None:
                continue
            if not isinstance(point, list) or len(point) not in (2, 3):
                raise TrackingError(f"{where}: is {point!r:.60}, expected [x, y] or [x, y, likelihood].")
            values[row, column[name]] = [number_of(value, where) for value in [*point, 1.0][:3]]
    frames = frames_of([frame for frame, _ in by_frame], path)
    units = "normalised" if units == "normalized" else units
    return KeypointFile(path, names, frames, whole(values), units=units, size=_size(path, size))


def _entries(path: Path, frames: Any) -> list[tuple[Any, Any]]:
    """Label and points of each frame."""
    if isinstance(frames, dict):
        return list(frames.items())
    if not isinstance(frames, list) or not all(isinstance(entry, dict) for entry in frames):
        raise TrackingError(f'{path}: "frames" must be an object of frames by number, or a list of objects.')
    known = ["frame" in entry for entry in frames]
    if any(known) and not all(known):
        raise TrackingError(
            f'{path}: "frames": entry {known.index(True)} says its "frame", entry {known.index(False)} does not. Say '
            "it in all."
        )
    return [(entry.get("frame", row), entry.get("points", entry.get("keypoints"))) for row, entry in enumerate(frames)]


def _named(path: Path, frame: Any, points: Any, listed: list[Any] | None) -> dict[str, Any]:
    """A frame's points by name."""
    if isinstance(points, list):
        if listed is None or len(listed) != len(points):
            raise TrackingError(
                f'{path}: frame {frame} is a list of {len(points)} points, but "keypoints" names '
                f"{'none' if listed is None else len(listed)}. Name each point, in order."
            )
        return dict(zip(map(str, listed), points, strict=True))
    if not isinstance(points, dict):
        raise TrackingError(f"{path}: frame {frame} is {points!r:.60}, expected its points by name.")
    return points


def _size(path: Path, size: Any) -> tuple[float, float] | None:
    if size is None:
        return None
    sides = [number_of(side, f"{path}: size") for side in size] if isinstance(size, list) and len(size) == 2 else []
    if not sides or not all(math.isfinite(side) and side > 0 for side in sides):
        raise TrackingError(f'{path}: "size" is {size!r:.60}, expected [width, height].')
    return sides[0], sides[1]
