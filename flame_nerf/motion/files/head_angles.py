"""Live Link Face's head and eye angles, as rotations and back."""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

AngleUnits = Literal["radians", "degrees", "quarter-turns"]
UNITS: dict[str, float] = {"radians": 1.0, "degrees": np.pi / 180, "quarter-turns": np.pi / 2}
"""Radians in one of each. Files say nothing; radians are what the app writes, other programs write the rest."""
MOST_RADIANS = 1.7
"""A face farther from the camera than this, 97 degrees, is not tracked: larger numbers are degrees."""


def guessed_units(angles: Float[np.ndarray, "*N"]) -> AngleUnits:
    """Degrees where a number is too large for a tracked head's turn in radians, else radians.

    A take of degrees in which the head hardly moves looks like radians; and fractions of a quarter turn always do.
    """
    return "degrees" if angles.size and np.abs(angles).max() > MOST_RADIANS else "radians"


def turns(yaw_pitch_roll: Float[np.ndarray, "N 3"], units: AngleUnits) -> Rotation:
    """Rotations of the head frame (x to the person's left, y up, z out of the face).

    Positive yaw turns the face to the person's right, positive pitch down, and positive roll tips it to the person's
    right shoulder; roll is outermost, then yaw, then pitch.
    """
    yaw, pitch, roll = (np.asarray(yaw_pitch_roll, float) * UNITS[units]).T
    return Rotation.from_euler("xyz", np.stack([pitch, -yaw, -roll], axis=1))


def yaw_pitch_roll(rotations: Rotation) -> Float[np.ndarray, "N 3"]:
    """The angles of rotations, radians: what `turns` makes them of. Unique while the yaw is below a quarter turn."""
    pitch, yaw, roll = rotations.as_euler("xyz").T
    return np.stack([-yaw, pitch, -roll], axis=1)
