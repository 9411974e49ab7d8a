"""Directions kept within the cone in which training cameras saw a point; compiled, for the CPU."""

from __future__ import annotations

import math

import numba
import numpy as np

from flame_nerf.kernels.cpu.dense import KERNEL

COMPILED_WITH = "5d5f37ff9d90"
"""Checksum of the files imported from; see `flame_nerf.kernels.cpu`."""

_TINY = 1e-12


@numba.njit(**KERNEL)
def nearest(begin, end, points, directions, eye, cosine, sine, out):
    """Unit directions [N, 3] at points[begin:end], those farther from the cone's axis than its border moved to it.

    Args:
        points: [N, 3]. directions: [N, 3], of unit length. eye: [3], where axes begin.
        cosine, sine: of the cone's half angle. out: [N, 3], written.
    """
    for i in range(begin, end):
        ax, ay, az = points[i, 0] - eye[0], points[i, 1] - eye[1], points[i, 2] - eye[2]
        dx, dy, dz = directions[i, 0], directions[i, 1], directions[i, 2]
        length = max(math.sqrt(ax * ax + ay * ay + az * az), np.float32(_TINY))
        ax, ay, az = ax / length, ay / length, az / length
        along = dx * ax + dy * ay + dz * az
        if not along < cosine:
            out[i, 0], out[i, 1], out[i, 2] = dx, dy, dz
            continue
        cx, cy, cz = dx - along * ax, dy - along * ay, dz - along * az
        share = sine / max(math.sqrt(cx * cx + cy * cy + cz * cz), np.float32(_TINY))
        out[i, 0] = cosine * ax + share * cx
        out[i, 1] = cosine * ay + share * cy
        out[i, 2] = cosine * az + share * cz
