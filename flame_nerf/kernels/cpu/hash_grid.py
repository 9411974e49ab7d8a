"""Compiled CPU kernels of the hash grid. Import this module only where they are used: it imports numba.

Each kernel works level by level, so that a level's rows (512 KB at 2^16) stay in a core's cache, and in blocks of
points: indices and weights of a block first, which vectorises over points, then the gather. Between two steps of a
training the optimizer drives the table out of the cache: rows that many points will ask for are read once in their
order before they are asked for in none, which halves the time of a pass.
"""

from __future__ import annotations

import numba
import numpy as np

from flame_nerf.kernels.grid_layout import PRIME_Y, PRIME_Z

COMPILED_WITH = "bbe316c5fc64"
"""Checksum of the files imported from; see `flame_nerf.kernels.cpu`."""

_BLOCK = 256
_FLOATS_PER_LINE = 16
_Y = np.uint32(PRIME_Y)
_Z = np.uint32(PRIME_Z)
_ONE = np.uint32(1)
# "contract" lets multiply-adds fuse; no flag that would drop the NaN handling of the clamp.
_JIT = {"nogil": True, "cache": True, "fastmath": {"contract"}}


@numba.njit(inline="always", **_JIT)
def _to_cell(coordinate, scale, resolution):
    """Cell and fraction along one axis; NaN and points outside go to the border, so no index leaves the table."""
    position = coordinate * scale + np.float32(0.5)
    position = position if position >= np.float32(0.0) else np.float32(0.0)
    # The largest float below `resolution`: cells end at resolution − 1.
    limit = np.float32(resolution) * np.float32(1.0 - 2.0**-24)
    position = position if position < limit else limit
    cell = np.int32(position)
    return np.uint32(cell), position - np.float32(cell)


@numba.njit(inline="always", **_JIT)
def _wrap(index, size):
    return index if index < size else np.uint32(index - size)


@numba.njit(inline="always", **_JIT)
def _fractions(x, start, n, scale, resolution, cells, fractions):
    for axis in range(3):
        for i in range(n):
            cells[axis, i], fractions[axis, i] = _to_cell(x[axis, start + i], scale, resolution)


@numba.njit(inline="always", **_JIT)
def _rows(n, resolution, size, offset, dense, cells, rows):
    """Table rows of the 8 corners of `n` cells; corner c is at (c & 1, c >> 1 & 1, c >> 2)."""
    if dense:
        square = np.uint32(resolution * resolution)
        for i in range(n):
            a = np.uint32(cells[0, i] + cells[1, i] * resolution + cells[2, i] * square)
            b = np.uint32(a + resolution)
            c = np.uint32(a + square)
            d = np.uint32(b + square)
            rows[0, i] = _wrap(a, size) + offset
            rows[1, i] = _wrap(np.uint32(a + _ONE), size) + offset
            rows[2, i] = _wrap(b, size) + offset
            rows[3, i] = _wrap(np.uint32(b + _ONE), size) + offset
            rows[4, i] = _wrap(c, size) + offset
            rows[5, i] = _wrap(np.uint32(c + _ONE), size) + offset
            rows[6, i] = _wrap(d, size) + offset
            rows[7, i] = _wrap(np.uint32(d + _ONE), size) + offset
    else:
        mask = np.uint32(size - _ONE)
        for i in range(n):
            x0 = cells[0, i]
            x1 = np.uint32(x0 + _ONE)
            y0 = np.uint32(cells[1, i] * _Y)
            y1 = np.uint32(y0 + _Y)
            z0 = np.uint32(cells[2, i] * _Z)
            z1 = np.uint32(z0 + _Z)
            a = np.uint32(y0 ^ z0)
            b = np.uint32(y1 ^ z0)
            c = np.uint32(y0 ^ z1)
            d = np.uint32(y1 ^ z1)
            rows[0, i] = ((x0 ^ a) & mask) + offset
            rows[1, i] = ((x1 ^ a) & mask) + offset
            rows[2, i] = ((x0 ^ b) & mask) + offset
            rows[3, i] = ((x1 ^ b) & mask) + offset
            rows[4, i] = ((x0 ^ c) & mask) + offset
            rows[5, i] = ((x1 ^ c) & mask) + offset
            rows[6, i] = ((x0 ^ d) & mask) + offset
            rows[7, i] = ((x1 ^ d) & mask) + offset


@numba.njit(inline="always", **_JIT)
def _weights(n, fractions, weights):
    one = np.float32(1.0)
    for i in range(n):
        x1 = fractions[0, i]
        y1 = fractions[1, i]
        z1 = fractions[2, i]
        x0 = one - x1
        a = (one - y1) * (one - z1)
        b = y1 * (one - z1)
        c = (one - y1) * z1
        d = y1 * z1
        weights[0, i] = x0 * a
        weights[1, i] = x1 * a
        weights[2, i] = x0 * b
        weights[3, i] = x1 * b
        weights[4, i] = x0 * c
        weights[5, i] = x1 * c
        weights[6, i] = x0 * d
        weights[7, i] = x1 * d


@numba.njit(inline="always", **_JIT)
def _slopes(start, n, scale, fractions, values, grad_x):
    """Add the derivatives of trilinear interpolation between `values` at the corners."""
    one = np.float32(1.0)
    for i in range(n):
        x1 = fractions[0, i]
        y1 = fractions[1, i]
        z1 = fractions[2, i]
        x0 = one - x1
        y0 = one - y1
        z0 = one - z1
        along_x = y0 * (z0 * (values[1, i] - values[0, i]) + z1 * (values[5, i] - values[4, i]))
        along_x += y1 * (z0 * (values[3, i] - values[2, i]) + z1 * (values[7, i] - values[6, i]))
        along_y = x0 * (z0 * (values[2, i] - values[0, i]) + z1 * (values[6, i] - values[4, i]))
        along_y += x1 * (z0 * (values[3, i] - values[1, i]) + z1 * (values[7, i] - values[5, i]))
        along_z = x0 * (y0 * (values[4, i] - values[0, i]) + y1 * (values[6, i] - values[2, i]))
        along_z += x1 * (y0 * (values[5, i] - values[1, i]) + y1 * (values[7, i] - values[3, i]))
        grad_x[0, start + i] += scale * along_x
        grad_x[1, start + i] += scale * along_y
        grad_x[2, start + i] += scale * along_z


@numba.njit(inline="always", **_JIT)
def _read_through(table, first, size, n_points):
    """Bring a level's rows into the cache, in their order, where its points will meet most cache lines anyway.

    Returns:
        a sum that nobody needs, but without which the reading would be optimised away.
    """
    rows_per_line = max(1, _FLOATS_PER_LINE // table.shape[1])
    total = np.float32(0.0)
    if np.int64(size) <= 8 * n_points * rows_per_line:
        for row in range(np.int64(first), np.int64(first) + np.int64(size), rows_per_line):
            total += table[row, 0]
    return total


@numba.njit(**_JIT)
def encode(x, table, scales, resolutions, sizes, offsets, dense, out, share, shares):
    """out[l·F+f, n] = Σ_corners weight · table[row, f], for every `shares`-th level from `share` on.

    Args:
        x: [3, N] float32. table: [rows, F] float32. out: [L·F, N] float32, overwritten.

    Returns:
        nothing of use (see `_read_through`).
    """
    n_points, n_features = x.shape[1], table.shape[1]
    cells = np.empty((3, _BLOCK), np.uint32)
    fractions = np.empty((3, _BLOCK), np.float32)
    rows = np.empty((8, _BLOCK), np.uint32)
    weights = np.empty((8, _BLOCK), np.float32)
    read = np.float32(0.0)
    for level in range(share, len(scales), shares):
        read += _read_through(table, offsets[level], sizes[level], n_points)
        for start in range(0, n_points, _BLOCK):
            n = min(_BLOCK, n_points - start)
            _fractions(x, start, n, scales[level], resolutions[level], cells, fractions)
            _rows(n, resolutions[level], sizes[level], offsets[level], dense[level], cells, rows)
            _weights(n, fractions, weights)
            if n_features == 2:
                # The usual case, written out so that a row is read once.
                for i in range(n):
                    first = np.float32(0.0)
                    second = np.float32(0.0)
                    for corner in range(8):
                        row = np.uint64(rows[corner, i])
                        first += weights[corner, i] * table[row, 0]
                        second += weights[corner, i] * table[row, 1]
                    out[2 * level, start + i] = first
                    out[2 * level + 1, start + i] = second
            else:
                for i in range(n):
                    for feature in range(n_features):
                        value = np.float32(0.0)
                        for corner in range(8):
                            value += weights[corner, i] * table[np.uint64(rows[corner, i]), feature]
                        out[n_features * level + feature, start + i] = value
    return read


@numba.njit(inline="always", **_JIT)
def _spread(start, n, n_features, level, grad_out, rows, weights, grad_table):
    if n_features == 2:
        for i in range(n):
            first = grad_out[2 * level, start + i]
            second = grad_out[2 * level + 1, start + i]
            for corner in range(8):
                row = np.uint64(rows[corner, i])
                grad_table[row, 0] += weights[corner, i] * first
                grad_table[row, 1] += weights[corner, i] * second
    else:
        for i in range(n):
            for corner in range(8):
                row = np.uint64(rows[corner, i])
                for feature in range(n_features):
                    grad_table[row, feature] += weights[corner, i] * grad_out[n_features * level + feature, start + i]


@numba.njit(inline="always", **_JIT)
def _corner_values(start, n, n_features, level, grad_out, rows, table, values):
    """What a unit of each corner's weight is worth to the loss."""
    if n_features == 2:
        for i in range(n):
            first = grad_out[2 * level, start + i]
            second = grad_out[2 * level + 1, start + i]
            for corner in range(8):
                row = np.uint64(rows[corner, i])
                values[corner, i] = first * table[row, 0] + second * table[row, 1]
    else:
        for i in range(n):
            for corner in range(8):
                row = np.uint64(rows[corner, i])
                value = np.float32(0.0)
                for feature in range(n_features):
                    value += grad_out[n_features * level + feature, start + i] * table[row, feature]
                values[corner, i] = value


@numba.njit(**_JIT)
def gradients(x, grad_out, table, scales, resolutions, sizes, offsets, dense, grad_table, grad_x, share, shares):
    """Gradients to the table and to the points, for every `shares`-th level from `share` on.

    grad_table[row, f] = Σ weight · grad_out[l·F+f, n], and
    grad_x[share, :, n] += scale · d(interpolation)/d(fraction) · grad_out. A level belongs to one share, and each share
    has its own sum for the points, so no atomics are needed. A level's two gradients are two passes: its rows and their
    gradients together do not fit in a core's cache (measured: 3.5 ms apart, 5.2 ms together).

    Args:
        x: [3, N] float32. grad_out: [L·F, N] float32. table: [rows, F] float32.
        grad_table: [rows, F] float32, overwritten; [0, F]: not wanted.
        grad_x: [shares, 3, N] float32, added to; [0, 3, N]: not wanted.

    Returns:
        nothing of use (see `_read_through`).
    """
    n_points, n_features = x.shape[1], table.shape[1]
    cells = np.empty((3, _BLOCK), np.uint32)
    fractions = np.empty((3, _BLOCK), np.float32)
    rows = np.empty((8, _BLOCK), np.uint32)
    weights = np.empty((8, _BLOCK), np.float32)
    values = np.empty((8, _BLOCK), np.float32)
    read = np.float32(0.0)
    for level in range(share, len(scales), shares):
        resolution, size, offset = resolutions[level], sizes[level], offsets[level]
        if len(grad_table) > 0:
            # Zeroed here and not when it is allocated: the rows are then in the cache when they are added to.
            grad_table[offset : offset + size] = np.float32(0.0)
            for start in range(0, n_points, _BLOCK):
                n = min(_BLOCK, n_points - start)
                _fractions(x, start, n, scales[level], resolution, cells, fractions)
                _rows(n, resolution, size, offset, dense[level], cells, rows)
                _weights(n, fractions, weights)
                _spread(start, n, n_features, level, grad_out, rows, weights, grad_table)
        if len(grad_x) > 0:
            read += _read_through(table, offset, size, n_points)
            for start in range(0, n_points, _BLOCK):
                n = min(_BLOCK, n_points - start)
                _fractions(x, start, n, scales[level], resolution, cells, fractions)
                _rows(n, resolution, size, offset, dense[level], cells, rows)
                _corner_values(start, n, n_features, level, grad_out, rows, table, values)
                _slopes(start, n, scales[level], fractions, values, grad_x[share])
    return read
