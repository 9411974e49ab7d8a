"""Smooth random functions of space: the same seed, the same function."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy.ndimage import map_coordinates

_PERIOD = 32


class Noise:
    """Value noise: random numbers on a lattice, blended smoothly between its points; repeats every 32 cells."""

    def __init__(self, random: np.random.Generator) -> None:
        self._table = random.uniform(-1.0, 1.0, (_PERIOD,) * 3)
        self._offset = random.uniform(0, _PERIOD, 3)

    def __call__(self, points: Float[np.ndarray, "*N 3"], cell: float, octaves: int = 1) -> Float[np.ndarray, "*N"]:
        """Values in -1..1.

        Args:
            points: metres, or whatever unit `cell` is in.
            cell: size of the coarsest detail; each further octave is half as large and half as strong.
        """
        total, strength = np.zeros(points.shape[:-1]), 0.0
        for octave in range(octaves):
            at = points * (2**octave / cell) + self._offset * (octave + 1)
            whole = np.floor(at)
            part = at - whole
            at = whole + part * part * (3 - 2 * part)
            value = map_coordinates(self._table, at.reshape(-1, 3).T, order=1, mode="grid-wrap")
            total += value.reshape(total.shape) / 2**octave
            strength += 1 / 2**octave
        return total / strength


def ramp(value: Float[np.ndarray, "*N"], low: float, high: float) -> Float[np.ndarray, "*N"]:
    """0 up to `low`, 1 from `high` on, a smooth step between; falling if `low` > `high`."""
    part = np.clip((value - low) / (high - low), 0.0, 1.0)
    return part * part * (3 - 2 * part)
