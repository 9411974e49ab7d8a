"""Warp kernels of the hash grid: one thread a level of a point, on CUDA or the CPU."""
# No `from __future__ import annotations` here: Warp reads the annotations of kernel arguments as objects.

from functools import lru_cache
from typing import Any, NamedTuple

import warp as wp

from flame_nerf.kernels.grid_layout import PRIME_Y, PRIME_Z

_Y = wp.constant(wp.uint32(PRIME_Y))
_Z = wp.constant(wp.uint32(PRIME_Z))
_ONE = wp.constant(wp.uint32(1))
_BELOW_ONE = wp.constant(wp.float32(1.0 - 2.0**-24))


class GridKernels(NamedTuple):
    """The kernels for one number of features."""

    values: Any
    """Warp's type of a row's F features."""
    row: Any
    """The same bits as arrays of rows hold them: two features a word, which is read and written at once."""
    encode: Any
    gradients: Any


@wp.func
def _to_cell(point: wp.vec3, scale: float, resolution: wp.uint32):
    """Cell and fractions; NaN and points outside go to the border, so that no index leaves the table."""
    cell = wp.vec3ui()
    fraction = wp.vec3()
    for axis in range(3):
        position = point[axis] * scale + 0.5
        if not (position >= 0.0):
            position = 0.0
        # The largest float below `resolution`: cells end at resolution − 1.
        position = wp.min(position, float(resolution) * _BELOW_ONE)
        cell[axis] = wp.uint32(position)
        fraction[axis] = position - float(cell[axis])
    return cell, fraction


@wp.func
def _side(fraction: float, upper: int):
    """Weight of the upper or lower vertex along one axis."""
    return wp.where(upper == 1, fraction, 1.0 - fraction)


@wp.func
def _row(cell: wp.vec3ui, dx: int, dy: int, dz: int, level: wp.vec4ui):
    """Row of a cell's corner in the table; `level` is (resolution, rows, first row, whether dense)."""
    x = cell[0] + wp.uint32(dx)
    y = cell[1] + wp.uint32(dy)
    z = cell[2] + wp.uint32(dz)
    if level[3] != wp.uint32(0):
        index = x + level[0] * (y + level[0] * z)
        # The half-cell shift puts the last vertex one past the end; like tiny-cuda-nn, it wraps.
        if index >= level[1]:
            index -= level[1]
        return int(index + level[2])
    return int(((x ^ (y * _Y) ^ (z * _Z)) & (level[1] - _ONE)) + level[2])


@lru_cache(maxsize=8)
def kernels_for(features: int) -> GridKernels:
    """The kernels for a number of features per level; Warp compiles them at their first launch.

    Threads of neighbouring points work on the same level, and all levels come one after the other: what is read of one
    level stays in the cache.
    """
    values = wp.types.vector(length=features, dtype=wp.float32)
    if features % 2:
        row = values

        @wp.func
        def unpack(packed: row):
            return packed

        @wp.func
        def pack(unpacked: values):
            return unpacked

    else:
        # Warp's float vectors are aligned like a float, and so are read one feature at a time.
        row = wp.types.vector(length=features // 2, dtype=wp.uint64)

        @wp.func
        def unpack(packed: row):
            return wp.cast(packed, values)

        @wp.func
        def pack(unpacked: values):
            return wp.cast(unpacked, row)

    @wp.kernel(module="unique", enable_backward=False)
    def encode(
        x: wp.array(dtype=wp.vec3),
        table: wp.array(dtype=row),
        scales: wp.array(dtype=float),
        levels: wp.array(dtype=wp.vec4ui),
        points: int,
        out: wp.array(dtype=row, ndim=2),
    ):
        thread = wp.tid()
        level = thread // points
        n = thread - level * points
        shape = levels[level]
        cell, fraction = _to_cell(x[n], scales[level], shape[0])
        value = values()
        for corner in range(8):
            dx = wp.static(corner & 1)
            dy = wp.static(corner >> 1 & 1)
            dz = wp.static(corner >> 2)
            weight = _side(fraction[0], dx) * _side(fraction[1], dy) * _side(fraction[2], dz)
            value += weight * unpack(table[_row(cell, dx, dy, dz, shape)])
        out[n, level] = pack(value)

    @wp.kernel(module="unique", enable_backward=False)
    def gradients(
        x: wp.array(dtype=wp.vec3),
        table: wp.array(dtype=row),
        scales: wp.array(dtype=float),
        levels: wp.array(dtype=wp.vec4ui),
        points: int,
        grad_out: wp.array(dtype=row, ndim=2),
        grad_table: wp.array(dtype=values),
        grad_x: wp.array(dtype=wp.vec3),
    ):
        thread = wp.tid()
        level = thread // points
        n = thread - level * points
        shape = levels[level]
        cell, fraction = _to_cell(x[n], scales[level], shape[0])
        upstream = unpack(grad_out[n, level])
        to_table = grad_table.shape[0] > 0
        to_points = grad_x.shape[0] > 0
        slope = wp.vec3()
        for corner in range(8):
            dx = wp.static(corner & 1)
            dy = wp.static(corner >> 1 & 1)
            dz = wp.static(corner >> 2)
            wx = _side(fraction[0], dx)
            wy = _side(fraction[1], dy)
            wz = _side(fraction[2], dz)
            index = _row(cell, dx, dy, dz, shape)
            if to_table:
                wp.atomic_add(grad_table, index, (wx * wy * wz) * upstream)
            if to_points:
                # What a unit of this corner's weight is worth to the loss, times the weight's derivatives.
                worth = wp.dot(upstream, unpack(table[index]))
                slope += worth * wp.vec3(
                    float(2 * dx - 1) * wy * wz, float(2 * dy - 1) * wx * wz, float(2 * dz - 1) * wx * wy
                )
        if to_points:
            wp.atomic_add(grad_x, n, scales[level] * slope)

    return GridKernels(values, row, encode, gradients)
