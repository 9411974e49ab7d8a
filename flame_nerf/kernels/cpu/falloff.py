"""What densities are expected to be off the mesh; compiled, for the CPU."""

from __future__ import annotations

import numba
import numpy as np

from flame_nerf.kernels.cpu.dense import KERNEL, exp

COMPILED_WITH = "5d5f37ff9d90"
"""Checksum of the files imported from; see `flame_nerf.kernels.cpu`."""


@numba.njit(**KERNEL)
def factors(points, face, distance, planes, by_face, out):
    """exp(logarithm - slope distance) of the nearest face, distance 0 behind its plane.

    Args:
        points: [N, 3]. face: [N]. distance: [N] from it. planes: [F, 4] unit normals and heights.
        by_face: [F, 2] logarithms and slopes. out: [N], written.
    """
    for i in range(len(points)):
        plane = planes[face[i]]
        height = points[i, 0] * plane[0] + points[i, 1] * plane[1] + points[i, 2] * plane[2]
        off = distance[i] if height >= plane[3] else np.float32(0)
        out[i] = by_face[face[i], 0] - by_face[face[i], 1] * off
    for i in range(len(points)):
        out[i] = exp(out[i])
