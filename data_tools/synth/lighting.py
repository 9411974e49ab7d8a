"""Soft light from all sides, with the shadows that head and hair cast on themselves.

The light is a dome of K directions. A vertex gathers what reaches it: the sum over the dome of radiance times cosine
times visibility. Visibility is cast anew for every posed mesh, so folds, nostrils and the open mouth darken by
themselves; being a number per vertex in fixed directions, it has no noise that a camera could tell from texture.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float

from data_tools.ray_casting import MeshRays
from data_tools.synth.noise import ramp

DIRECTIONS = 64
"""Directions of the dome."""
KEY = np.array([0.45, 0.55, 0.80])
"""Where the window is: in front, above, on the subject's left."""
KEY_SHARPNESS = 9.0
"""Concentration of the window's light: half of it within about 22 degrees."""
LIFT = 0.0006
"""How far above the surface a shadow ray starts, metres."""

_KEY_COLOUR = np.array([1.0, 0.96, 0.90])
_SKY_COLOUR, _FLOOR_COLOUR = np.array([0.55, 0.58, 0.63]), np.array([0.34, 0.30, 0.27])
EXPOSURE = 1.2
"""Irradiance of an unshadowed surface that faces the key light, over pi: what a white wall there would reflect."""


def dome() -> Float[np.ndarray, "K 3"]:
    """Evenly spread unit vectors (a Fibonacci lattice)."""
    row = np.arange(DIRECTIONS) + 0.5
    height = 1 - 2 * row / DIRECTIONS
    around = np.pi * (1 + 5**0.5) * row
    flat = np.sqrt(1 - height**2)
    return np.stack([flat * np.cos(around), height, flat * np.sin(around)], axis=1)


def radiance(directions: Float[np.ndarray, "K 3"]) -> Float[np.ndarray, "K 3"]:
    """Linear RGB light that comes from each direction of the room (y up, z from the head to the camera)."""
    return EXPOSURE * _radiance(directions) / _irradiance(KEY / np.linalg.norm(KEY))


def _radiance(directions: np.ndarray) -> np.ndarray:
    key = KEY / np.linalg.norm(KEY)
    window = 3.2 * np.exp(KEY_SHARPNESS * (directions @ key - 1))[:, None] * _KEY_COLOUR
    up = ramp(directions[:, 1], -0.6, 0.8)[:, None]
    return window + _FLOOR_COLOUR * (1 - up) + _SKY_COLOUR * up


def _irradiance(normal: np.ndarray) -> float:
    directions = dome()
    cosine = np.maximum(directions @ normal, 0)
    return float((_radiance(directions) * cosine[:, None]).sum(0).mean() * 4 / DIRECTIONS)


def visibility(
    mesh: MeshRays, points: Float[np.ndarray, "N 3"], normals: Float[np.ndarray, "N 3"]
) -> Bool[np.ndarray, "N K"]:
    """Which directions of the dome each surface point sees; False where they lie behind it.

    Args:
        mesh: everything that casts shadows.
    """
    directions = dome()
    facing = normals @ directions.T > 0
    row, column = np.nonzero(facing)
    start = (points + LIFT * normals).astype(np.float32)
    facing[row, column] = ~mesh.occluded(start[row], directions.astype(np.float32)[column])
    return facing


def gather(
    visible: Bool[np.ndarray, "N K"], normals: Float[np.ndarray, "N 3"], light: Float[np.ndarray, "K 3"]
) -> Float[np.ndarray, "N 3"]:
    """Irradiance over pi at each point: (4 / K) sum of light times cosine over the directions it sees."""
    cosine = np.maximum(normals @ dome().T, 0) * visible
    return cosine @ light * (4 / DIRECTIONS)
