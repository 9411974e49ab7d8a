"""The field's networks on ranges of points, forward and backward; compiled, for the CPU.

Both networks are one list of layers over the rows of a block's workspace (laid out by `field_layout`): features of the
grid at the top, then each layer's outputs. The harmonics of the viewing direction follow the density network's outputs,
so that the colour network's inputs lie in one piece without a copy. Backward computes a block's activations again: that
takes less time than to write them to memory and read them back.
"""

from __future__ import annotations

import numba
import numpy as np

from flame_nerf.kernels.cpu.dense import (
    BLOCK,
    KERNEL,
    add_products,
    combine,
    dot,
    exp,
    harmonics,
    harmonics_gradient,
    total,
)
from flame_nerf.kernels.cpu.field_layout import (
    BIAS,
    FIRST_IN,
    FIRST_OUT,
    HIDDEN,
    MAX_LOG_DENSITY,
    N_IN,
    N_OUT,
    SHIFT,
    WEIGHTS,
)

COMPILED_WITH = "54a22c8193f9"
"""Checksum of the files imported from; see `flame_nerf.kernels.cpu`."""

_MAX_LOG_DENSITY = np.float32(MAX_LOG_DENSITY)
_ZERO, _ONE = np.float32(0), np.float32(1)


@numba.njit(**KERNEL)
def to_unit(points, low, extent, unit):
    """Positions [3, N] in the unit box of points [N, 3]; those outside, and NaN, go to its border."""
    for axis in range(3):
        for i in range(len(points)):
            along = (points[i, axis] - low[axis]) / extent[axis]
            along = along if along > _ZERO else _ZERO
            unit[axis, i] = along if along < _ONE else _ONE


@numba.njit(**KERNEL)
def to_unit_gradient(grad_unit, unit, extent, grad_points):
    """Gradient to points [N, 3] given that to their positions [3, N]; the field is constant beyond the border."""
    for axis in range(3):
        for i in range(len(grad_points)):
            inside = unit[axis, i] > _ZERO and unit[axis, i] < _ONE
            grad_points[i, axis] = grad_unit[axis, i] / extent[axis] if inside else _ZERO


@numba.njit(**KERNEL)
def _run_end(frame_index, start, first, n):
    """End of the run of points of one frame that begins at `first`; samples come sorted, so runs are long."""
    frame = frame_index[start + first]
    last = first + 1
    while last < n and frame_index[start + last] == frame:
        last += 1
    return last


@numba.njit(**KERNEL)
def _read(features, directions, frame_index, frames, scaled, start, n, rows, direction):
    """A block's inputs: features times the frame's scale to the first rows, and directions; zeros beyond n."""
    n_features = features.shape[0]
    first = 0
    while first < n:
        last = _run_end(frame_index, start, first, n)
        frame = frame_index[start + first]
        for f in range(n_features):
            scale = frames[frame, f] if scaled else _ONE
            for i in range(first, last):
                rows[f, i] = features[f, start + i] * scale
        first = last
    for i in range(n):
        for axis in range(3):
            direction[axis, i] = directions[start + i, axis]
    if n < BLOCK:
        rows[:n_features, n:] = _ZERO
        direction[:, n:] = _ZERO


@numba.njit(**KERNEL)
def _forward(layers, weights, frame_index, frames, start, n, degree, direction, harmonics_row, rows):
    """All layers of a block, from the features to the colour network's outputs."""
    harmonics(direction, degree, rows, harmonics_row)
    for layer in range(len(layers)):
        spec = layers[layer]
        out, n_out = spec[FIRST_OUT], spec[N_OUT]
        if out < harmonics_row < out + n_out:
            # The last of the density network's outputs may be padding that lies on the harmonics.
            n_out_rows = harmonics_row - out
        else:
            n_out_rows = n_out
        for j in range(n_out_rows):
            rows[out + j] = weights[spec[BIAS] + j]
        combine(rows, spec[FIRST_IN], spec[N_IN], weights, spec[WEIGHTS], spec[N_IN], 1, rows, out, n_out)
        if spec[SHIFT] >= 0:
            first = 0
            while first < n:
                last = _run_end(frame_index, start, first, n)
                frame = frame_index[start + first]
                for j in range(n_out):
                    shift = frames[frame, spec[SHIFT] + j]
                    for i in range(first, last):
                        rows[out + j, i] += shift
                first = last
        if spec[HIDDEN]:
            for j in range(n_out):
                for i in range(BLOCK):
                    value = rows[out + j, i]
                    rows[out + j, i] = value if value > _ZERO else _ZERO


@numba.njit(inline="always", **KERNEL)
def _density(log_density, log_initial, x, y, z):
    """exp of the network's output, 0 outside the unit box."""
    log_density += log_initial
    value = exp(log_density if log_density < _MAX_LOG_DENSITY else _MAX_LOG_DENSITY)
    inside = x > _ZERO and x < _ONE and y > _ZERO and y < _ONE and z > _ZERO and z < _ONE
    return value if inside else _ZERO


@numba.njit(**KERNEL)
def forward(
    begin, end, features, unit, directions, frame_index, frames, scaled, layers, weights, n_rows, density_row,
    harmonics_row, color_row, degree, log_initial, sigma, rgb,
):  # fmt: skip
    """Density [N] and colour [N, 3] of points[begin:end].

    Args:
        features: [LF, N] of the grid. unit: [3, N] positions in the unit box. directions: [N, 3]. frame_index: [N].
        frames: [B, K] what each frame adds: scales of the features (if `scaled`), then shifts of layers.
        layers: rows of `plan.Plan.layers`. weights: all of them in one array.
        n_rows, density_row, harmonics_row, color_row: the workspace's layout.
        log_initial: added to the density network's first output.
    """
    rows = np.zeros((n_rows, BLOCK), np.float32)
    direction = np.zeros((3, BLOCK), np.float32)
    for start in range(begin, end, BLOCK):
        n = min(BLOCK, end - start)
        _read(features, directions, frame_index, frames, scaled, start, n, rows, direction)
        _forward(layers, weights, frame_index, frames, start, n, degree, direction, harmonics_row, rows)
        for i in range(n):
            at = start + i
            sigma[at] = _density(rows[density_row, i], log_initial, unit[0, at], unit[1, at], unit[2, at])
        for channel in range(3):
            for i in range(BLOCK):
                rows[color_row + channel, i] = _ONE / (_ONE + exp(-rows[color_row + channel, i]))
        for i in range(n):
            for channel in range(3):
                rgb[start + i, channel] = rows[color_row + channel, i]


@numba.njit(**KERNEL)
def backward(
    begin, end, features, unit, directions, frame_index, frames, scaled, layers, weights, n_rows, density_row,
    harmonics_row, color_row, degree, log_initial, grad_sigma, grad_rgb, turning,
    grad_features, grad_directions, grad_weights, grad_frames,
):  # fmt: skip
    """Gradients of points[begin:end], given those to density [N] and colour [N, 3].

    Args (beyond those of `forward`):
        grad_features: [LF, N], written. grad_directions: [N, 3], written if `turning`.
        grad_weights: like weights, added to. grad_frames: like frames, added to.
    """
    n_features = features.shape[0]
    rows = np.zeros((n_rows, BLOCK), np.float32)
    grads = np.zeros((n_rows, BLOCK), np.float32)
    direction = np.zeros((3, BLOCK), np.float32)
    turned = np.zeros((3, BLOCK), np.float32)
    for start in range(begin, end, BLOCK):
        n = min(BLOCK, end - start)
        _read(features, directions, frame_index, frames, scaled, start, n, rows, direction)
        _forward(layers, weights, frame_index, frames, start, n, degree, direction, harmonics_row, rows)
        grads[:] = _ZERO
        for i in range(n):
            for channel in range(3):
                grads[color_row + channel, i] = grad_rgb[start + i, channel]
        for channel in range(3):
            for i in range(BLOCK):
                color = _ONE / (_ONE + exp(-rows[color_row + channel, i]))
                grads[color_row + channel, i] *= color * (_ONE - color)
        for i in range(n):
            at = start + i
            value = _density(rows[density_row, i], log_initial, unit[0, at], unit[1, at], unit[2, at])
            grads[density_row, i] = grad_sigma[at] * value
        for layer in range(len(layers) - 1, -1, -1):
            spec = layers[layer]
            out, n_out = spec[FIRST_OUT], spec[N_OUT]
            if spec[HIDDEN]:
                for j in range(n_out):
                    for i in range(BLOCK):
                        grads[out + j, i] = grads[out + j, i] if rows[out + j, i] > _ZERO else _ZERO
            add_products(grads, out, n_out, rows, spec[FIRST_IN], spec[N_IN], grad_weights, spec[WEIGHTS])
            for j in range(n_out):
                grad_weights[spec[BIAS] + j] += total(grads[out + j], 0, n)
            if spec[SHIFT] >= 0:
                first = 0
                while first < n:
                    last = _run_end(frame_index, start, first, n)
                    frame = frame_index[start + first]
                    for j in range(n_out):
                        grad_frames[frame, spec[SHIFT] + j] += total(grads[out + j], first, last)
                    first = last
            combine(grads, out, n_out, weights, spec[WEIGHTS], 1, spec[N_IN], grads, spec[FIRST_IN], spec[N_IN])
        if turning:
            harmonics_gradient(direction, degree, grads, harmonics_row, turned)
            for i in range(n):
                for axis in range(3):
                    grad_directions[start + i, axis] = turned[axis, i]
        first = 0
        while first < n:
            last = _run_end(frame_index, start, first, n)
            frame = frame_index[start + first]
            for f in range(n_features):
                scale = _ONE
                if scaled:
                    scale = frames[frame, f]
                    grad_frames[frame, f] += dot(grads[f], first, last, features[f], start + first)
                for i in range(first, last):
                    grad_features[f, start + i] = grads[f, i] * scale
            first = last
