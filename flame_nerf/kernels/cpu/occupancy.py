"""The occupancy grid's look-up, learning and copying; compiled, for the CPU."""

from __future__ import annotations

import numba
import numpy as np

from flame_nerf.kernels.cpu.dense import KERNEL

COMPILED_WITH = "5d5f37ff9d90"
"""Checksum of the files imported from; see `flame_nerf.kernels.cpu`."""


@numba.njit(inline="always", **KERNEL)
def axis_cell(along, low, per_metre, resolution):
    """Cell of a coordinate along one axis; see `kernels.cells`."""
    return min(max(int((along - low) * per_metre), 0), resolution - 1)


@numba.njit(**KERNEL)
def cells(points, low, per_metre, resolution, out):
    """Cell of each point [N, 3]; see `kernels.cells`."""
    for i in range(len(points)):
        cell = 0
        for axis in range(3):
            cell = cell * resolution + axis_cell(points[i, axis], low[axis], per_metre[axis], resolution)
        out[i] = cell


@numba.njit(**KERNEL)
def learn(cells, sigma, memory, highest):
    """Let what is known of the cells fade to `memory` of it, once a cell, and rise to the densities met."""
    known = np.empty(len(cells), np.float32)
    for i in range(len(cells)):
        known[i] = highest[cells[i]]
    for i in range(len(cells)):
        highest[cells[i]] = known[i] * memory if known[i] < np.inf else np.float32(0)
    for i in range(len(cells)):
        highest[cells[i]] = max(highest[cells[i]], sigma[i])


@numba.njit(**KERNEL)
def copy_cells(cells, source, target):
    """Bring some cells of a copy up to date."""
    for i in range(len(cells)):
        target[cells[i]] = source[cells[i]]
