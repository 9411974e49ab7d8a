"""Dense layers on blocks of points, and the elementary functions between them; compiled, for the CPU.

A block is BLOCK points; its values are rows of a workspace [rows, BLOCK], one row a feature, so that every inner loop
runs over points and becomes vector instructions, with the weights as broadcast scalars. All widths are multiples of
four: the loops take that many rows at once, which saves loads (measured: 37-55 GFMA/s a core on Zen 5).

Kernels of other files inline these functions.
"""

from __future__ import annotations

import math

import numba
import numpy as np
from numba import types
from numba.extending import intrinsic

BLOCK = 128
"""Points of a block: a network's rows stay in a core's nearest cache."""
KERNEL = {"nogil": True, "cache": True, "fastmath": {"contract"}}
"""Options of kernels. Multiply-adds may fuse; nothing else may be reordered."""
_SUM = {"nogil": True, "cache": True, "fastmath": {"contract", "reassoc", "nsz"}}
_LOG2E = np.float32(1.4426950408889634)
_LN2_HIGH, _LN2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)
_ONE, _HALF, _ZERO = np.float32(1), np.float32(0.5), np.float32(0)


@numba.njit(inline="always", **KERNEL)
def _four(weights, at, stride):
    return weights[at], weights[at + stride], weights[at + 2 * stride], weights[at + 3 * stride]


@numba.njit(**KERNEL)
def combine(rows, source, n_source, weights, at, stride_out, stride_in, target_rows, target, n_target):
    """target_rows[target + j] += sum_k weights[at + j stride_out + k stride_in] rows[source + k].

    Forward through a layer [out, in]: strides (n_in, 1); backward to its inputs: strides (1, n_in).
    """
    for j in range(0, n_target, 4):
        y0, y1 = target_rows[target + j], target_rows[target + j + 1]
        y2, y3 = target_rows[target + j + 2], target_rows[target + j + 3]
        for k in range(0, n_source, 4):
            x0, x1, x2, x3 = rows[source + k], rows[source + k + 1], rows[source + k + 2], rows[source + k + 3]
            at_row = at + j * stride_out + k * stride_in
            a0, a1, a2, a3 = _four(weights, at_row, stride_in)
            b0, b1, b2, b3 = _four(weights, at_row + stride_out, stride_in)
            c0, c1, c2, c3 = _four(weights, at_row + 2 * stride_out, stride_in)
            d0, d1, d2, d3 = _four(weights, at_row + 3 * stride_out, stride_in)
            for i in range(BLOCK):
                y0[i] = y0[i] + a0 * x0[i] + a1 * x1[i] + a2 * x2[i] + a3 * x3[i]
                y1[i] = y1[i] + b0 * x0[i] + b1 * x1[i] + b2 * x2[i] + b3 * x3[i]
                y2[i] = y2[i] + c0 * x0[i] + c1 * x1[i] + c2 * x2[i] + c3 * x3[i]
                y3[i] = y3[i] + d0 * x0[i] + d1 * x1[i] + d2 * x2[i] + d3 * x3[i]


@numba.njit(**_SUM)
def add_products(gradient, first_out, n_out, rows, first_in, n_in, out, at):
    """out[at + j n_in + k] += sum_i gradient[first_out + j, i] rows[first_in + k, i]: gradient to weights [out, in]."""
    for j in range(0, n_out, 2):
        g0 = gradient[first_out + j]
        g1 = gradient[first_out + j + 1]
        for k in range(0, n_in, 4):
            x0, x1 = rows[first_in + k], rows[first_in + k + 1]
            x2, x3 = rows[first_in + k + 2], rows[first_in + k + 3]
            a = b = c = d = e = f = g = h = _ZERO
            for i in range(BLOCK):
                a += g0[i] * x0[i]
                b += g0[i] * x1[i]
                c += g0[i] * x2[i]
                d += g0[i] * x3[i]
                e += g1[i] * x0[i]
                f += g1[i] * x1[i]
                g += g1[i] * x2[i]
                h += g1[i] * x3[i]
            first = at + j * n_in + k
            out[first] += a
            out[first + 1] += b
            out[first + 2] += c
            out[first + 3] += d
            first += n_in
            out[first] += e
            out[first + 1] += f
            out[first + 2] += g
            out[first + 3] += h


@numba.njit(**_SUM)
def total(row, begin, end):
    """Sum of row[begin:end]."""
    value = _ZERO
    for i in range(begin, end):
        value += row[i]
    return value


@numba.njit(**_SUM)
def dot(row, begin, end, other, first):
    """Sum of row[begin:end] times other[first:first + end - begin]."""
    value = _ZERO
    for i in range(end - begin):
        value += row[begin + i] * other[first + i]
    return value


@intrinsic
def _as_float(typing_context, bits):
    """The float32 with these bits."""

    def codegen(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], context.get_value_type(types.float32))

    return types.float32(types.int32), codegen


@numba.njit(inline="always", **KERNEL)
def exp(x):
    """exp of a float32 to its last digit or two; vectorises, which the library's does not.

    2^n times a polynomial on [-ln 2 / 2, ln 2 / 2] (coefficients of Cephes' expf). Never 0, never inf.
    """
    x = x if x > np.float32(-87.0) else np.float32(-87.0)
    x = x if x < np.float32(88.0) else np.float32(88.0)
    n = np.floor(x * _LOG2E + _HALF)
    r = x - n * _LN2_HIGH
    r = r - n * _LN2_LOW
    y = np.float32(1.9875691500e-4)
    y = y * r + np.float32(1.3981999507e-3)
    y = y * r + np.float32(8.3334519073e-3)
    y = y * r + np.float32(4.1665795894e-2)
    y = y * r + np.float32(1.6666665459e-1)
    y = y * r + np.float32(5.0000001201e-1)
    y = y * (r * r) + r + _ONE
    return y * _as_float(np.int32((np.int32(n) + np.int32(127)) << np.int32(23)))


# Spherical harmonics as in `encodings.spherical_harmonics`, which says where they come from.
_A = np.float32(math.sqrt(3 / (4 * math.pi)))
_B = np.float32(math.sqrt(15 / (4 * math.pi)))
_C = np.float32(0.75 * math.sqrt(5 / math.pi))
_D = np.float32(0.25 * math.sqrt(5 / math.pi))
_E = np.float32(0.25 * math.sqrt(35 / (2 * math.pi)))
_F = np.float32(0.5 * math.sqrt(105 / math.pi))
_G = np.float32(0.25 * math.sqrt(21 / (2 * math.pi)))
_H = np.float32(0.25 * math.sqrt(7 / math.pi))
_TWO, _THREE, _FOUR, _FIVE = np.float32(2), np.float32(3), np.float32(4), np.float32(5)


@numba.njit(**KERNEL)
def harmonics(direction, degree, rows, first):
    """Write the harmonics of directions [3, BLOCK] to rows[first:]."""
    for i in range(BLOCK):
        x, y, z = direction[0, i], direction[1, i], direction[2, i]
        if degree >= 1:
            rows[first, i] = _A * y
            rows[first + 1, i] = _A * z
            rows[first + 2, i] = _A * x
        if degree >= 2:
            rows[first + 3, i] = _B * x * y
            rows[first + 4, i] = _B * y * z
            rows[first + 5, i] = _C * z * z - _D
            rows[first + 6, i] = _B * x * z
            rows[first + 7, i] = _HALF * _B * (x * x - y * y)
        if degree >= 3:
            rows[first + 8, i] = _E * y * (_THREE * x * x - y * y)
            rows[first + 9, i] = _F * x * y * z
            rows[first + 10, i] = _G * y * (_FIVE * z * z - _ONE)
            rows[first + 11, i] = _H * z * (_FIVE * z * z - _THREE)
            rows[first + 12, i] = _G * x * (_FIVE * z * z - _ONE)
            rows[first + 13, i] = _HALF * _F * z * (x * x - y * y)
            rows[first + 14, i] = _E * x * (x * x - _THREE * y * y)


@numba.njit(**KERNEL)
def harmonics_gradient(direction, degree, rows, first, out):
    """Write the gradient to directions [3, BLOCK] to `out`, given that to the harmonics in rows[first:]."""
    for i in range(BLOCK):
        x, y, z = direction[0, i], direction[1, i], direction[2, i]
        dx = dy = dz = _ZERO
        if degree >= 1:
            dy += _A * rows[first, i]
            dz += _A * rows[first + 1, i]
            dx += _A * rows[first + 2, i]
        if degree >= 2:
            g, h = _B * rows[first + 3, i], _B * rows[first + 4, i]
            k, m = _B * rows[first + 6, i], _B * rows[first + 7, i]
            dx += g * y + k * z + m * x
            dy += g * x + h * z - m * y
            dz += h * y + _TWO * _C * z * rows[first + 5, i] + k * x
        if degree >= 3:
            g, h, k = _E * rows[first + 8, i], _F * rows[first + 9, i], _G * rows[first + 10, i]
            m, n = _H * rows[first + 11, i], _G * rows[first + 12, i]
            p, q = _HALF * _F * rows[first + 13, i], _E * rows[first + 14, i]
            pole = _FIVE * z * z - _ONE
            dx += _TWO * _THREE * g * x * y + h * y * z + n * pole + _TWO * p * x * z + _THREE * q * (x * x - y * y)
            dy += _THREE * g * (x * x - y * y) + h * x * z + k * pole - _TWO * p * y * z - _TWO * _THREE * q * x * y
            dz += h * x * y + _TWO * _FIVE * z * (k * y + n * x) + _THREE * m * pole + p * (x * x - y * y)
        out[0, i] = dx
        out[1, i] = dy
        out[2, i] = dz
