"""What training did not see, in words."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float

TOLERANCE_DEG = 1.0
"""Degrees beyond what was filmed that are not worth a word."""
TOLERANCE = 0.03
"""The same for a coefficient or a turn in radians."""
STEEP_DEG = 70.0
"""Pitch from which on left and right mean nothing."""
LEVEL_DEG = 0.5
"""Degrees from the middle that are no side."""
AROUND_DEG = 200.0
"""Range of yaw from which on cameras stood around the head: no side is beyond it."""
HAS_PART = 0.25
"""Share of a distance from which on one of its parts is named for it."""
MOUTH_OPENS = ("jawOpen", "jaw.x")
"""Entries that are better known by what they do."""
TURNS = {"x": ("down", "up"), "y": ("to the left", "to the right"), "z": ("tipped right", "tipped left")}
"""A joint's positive and negative turn about each of its axes."""


class FilmedRange:
    """How far the training frames went: in yaw, in pitch, and in each number of the face."""

    def __init__(
        self,
        names: Sequence[str],
        conditions: Float[np.ndarray, "N C"],
        yaw_deg: Float[np.ndarray, " N"],
        pitch_deg: Float[np.ndarray, " N"],
        moves: Float[np.ndarray, "C S 3"] | None,
    ):
        """
        Args:
            names: of a condition's entries.
            conditions: of the training frames.
            yaw_deg, pitch_deg: of their cameras about the head, to the person's left and up.
            moves: how far each entry moves spots of the face; None: all alike.
        """
        self._names = tuple(names)
        self._low, self._high = conditions.min(axis=0), conditions.max(axis=0)
        self._yaw = float(yaw_deg.min()), float(yaw_deg.max())
        self._pitch = float(pitch_deg.min()), float(pitch_deg.max())
        reach = np.ones(conditions.shape[1]) if moves is None else np.linalg.norm(moves, axis=2).max(axis=1)
        self._reach = np.maximum(reach, 1e-9)

    def view_words(self, yaw_deg: float, pitch_deg: float, nearest_deg: float) -> str:
        """What of a view was not filmed, `nearest_deg` away from the nearest that was."""
        words, beyond = [], 0.0
        around = self._yaw[1] - self._yaw[0] > AROUND_DEG
        for angle, filmed, where, counts in (
            (yaw_deg, self._yaw, _side, not around and abs(pitch_deg) < STEEP_DEG),
            (pitch_deg, self._pitch, _height, True),
        ):
            end = min(max(angle, filmed[0]), filmed[1])
            if counts and abs(angle - end) > TOLERANCE_DEG:
                words.append(_beyond_angle(angle, end, where))
                beyond += abs(angle - end)
        # Turned and raised at once, a view may be far from all others within the range of each.
        if beyond < HAS_PART * nearest_deg:
            return f"seen from a side that was not filmed, {nearest_deg:.0f}° from the nearest"
        return "; ".join(words)

    def face_words(self, condition: Float[np.ndarray, " C"], like: Float[np.ndarray, " C"]) -> str:
        """What of a face was not filmed, where `like` is the nearest that was."""
        end = np.clip(condition, self._low, self._high)
        beyond = np.abs(condition - end)
        worth = self._reach * np.where(beyond > TOLERANCE, beyond, 0.0)
        apart = self._reach * np.abs(condition - like)
        if worth.max() > HAS_PART * apart.max():
            # Two sides of one expression go beyond together.
            worst = [int(entry) for entry in np.argsort(-worth)[:2] if worth[entry] > 0.5 * worth.max()]
            return ", ".join(self._beyond(entry, float(condition[entry]), float(end[entry])) for entry in worst)
        both = " and ".join(plain_name(self._names[int(entry)]) for entry in np.argsort(-apart)[:2])
        return f"no such mix of expressions was filmed: mostly {both}"

    def _beyond(self, entry: int, value: float, end: float) -> str:
        name = self._names[entry]
        joint, _, axis = name.rpartition(".")
        if axis not in TURNS:
            # An expression whose own name has a point, as Blender's sides have.
            joint = ""
        shown, most = (f"{abs(np.degrees(v)):.0f}°" if joint else f"{v:.2f}" for v in (value, end))
        if name in MOUTH_OPENS and value > end:
            return f"mouth wider open than filmed ({shown}, at most {most})"
        if joint:
            shown += f" {TURNS[axis][value < 0]}"
            most += f" {TURNS[axis][end < 0]}" if value * end < 0 else ""
        what = plain_name(joint or name)
        return f"{what} {shown} ({'never filmed' if abs(end) < TOLERANCE else f'filmed up to {most}'})"


def plain_name(name: str) -> str:
    """A name in words: `mouthSmileLeft` is mouth smile left."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])|[_.]", " ", name).lower()


def _beyond_angle(angle_deg: float, end_deg: float, where: Callable[[float], str]) -> str:
    same_side = angle_deg * end_deg > 0 and abs(end_deg) >= LEVEL_DEG
    filmed = f"{abs(end_deg):.0f}°" if same_side else where(end_deg)
    return f"seen from {where(angle_deg)} (filmed up to {filmed})"


def _side(yaw_deg: float) -> str:
    if abs(yaw_deg) < LEVEL_DEG:
        return "straight ahead"
    return f"{abs(yaw_deg):.0f}° to the person's {'left' if yaw_deg > 0 else 'right'}"


def _height(pitch_deg: float) -> str:
    if abs(pitch_deg) < LEVEL_DEG:
        return "eye level"
    return f"{abs(pitch_deg):.0f}° {'above' if pitch_deg > 0 else 'below'}"
