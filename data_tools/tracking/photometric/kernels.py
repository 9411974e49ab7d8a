"""Compiled inner loops of the photometric registration, float32, one frame a call."""

from __future__ import annotations

import numba as nb
import numpy as np

KERNEL = {"nogil": True, "cache": True, "fastmath": {"nsz", "arcp", "contract", "reassoc"}}


@nb.njit(inline="always", **KERNEL)
def bilinear(image, x, y):
    """Value of a picture between its pixels; (0, 0) is the first pixel's middle. Outside, that of the nearest edge."""
    height, width = image.shape
    x = min(max(x, np.float32(0)), np.float32(width - 1.001))
    y = min(max(y, np.float32(0)), np.float32(height - 1.001))
    i, j = int(x), int(y)
    a, b = x - np.float32(i), y - np.float32(j)
    one = np.float32(1)
    upper = (one - a) * image[j, i] + a * image[j, i + 1]
    lower = (one - a) * image[j + 1, i] + a * image[j + 1, i + 1]
    return (one - b) * upper + b * lower


@nb.njit(**KERNEL)
def sample(image, which, place, rotation, shift, focal, centre, value):
    """Values [n] of a picture at points place[which] (head axes, from the anchor)."""
    half = np.float32(0.5)
    for n in range(len(which)):
        i = which[n]
        x, y, z = place[i, 0], place[i, 1], place[i, 2]
        cx = rotation[0, 0] * x + rotation[0, 1] * y + rotation[0, 2] * z + shift[0]
        cy = rotation[1, 0] * x + rotation[1, 1] * y + rotation[1, 2] * z + shift[1]
        cz = rotation[2, 0] * x + rotation[2, 1] * y + rotation[2, 2] * z + shift[2]
        scale = focal / cz
        value[n] = bilinear(image, scale * cx + centre[0] - half, scale * cy + centre[1] - half)


@nb.njit(**KERNEL)
def linearise(
    image, which, place, basis, rotation, shift, focal, centre, expected, sigma, cauchy, rows, by_head, log_focal, r, w
):
    """Residuals r [n] = (picture - expected) / sigma of points place[which] and their Cauchy weights w [n].

    Derivatives: rows [n, P] by turn (about the anchor, camera axes), shift and, where P > 6, gaze (0) and expression
    (``basis`` [N, 3, E]); by_head [n, 3] by the point's place in head axes; log_focal [n] by the focal length's
    logarithm. The picture's own gradient is taken over two pixels.
    """
    half, one = np.float32(0.5), np.float32(1)
    fitted = min(rows.shape[1] - 10, basis.shape[2])
    for n in range(len(which)):
        i = which[n]
        x, y, z = place[i, 0], place[i, 1], place[i, 2]
        tx = rotation[0, 0] * x + rotation[0, 1] * y + rotation[0, 2] * z
        ty = rotation[1, 0] * x + rotation[1, 1] * y + rotation[1, 2] * z
        tz = rotation[2, 0] * x + rotation[2, 1] * y + rotation[2, 2] * z
        cx, cy, cz = tx + shift[0], ty + shift[1], tz + shift[2]
        scale = focal / cz
        u, v = scale * cx + centre[0] - half, scale * cy + centre[1] - half
        inverse = one / sigma[i]
        gu = half * inverse * (bilinear(image, u + one, v) - bilinear(image, u - one, v))
        gv = half * inverse * (bilinear(image, u, v + one) - bilinear(image, u, v - one))
        b0, b1 = scale * gu, scale * gv
        b2 = -(b0 * cx + b1 * cy) / cz
        rows[n, 0], rows[n, 1], rows[n, 2] = ty * b2 - tz * b1, tz * b0 - tx * b2, tx * b1 - ty * b0
        rows[n, 3], rows[n, 4], rows[n, 5] = b0, b1, b2
        h0 = rotation[0, 0] * b0 + rotation[1, 0] * b1 + rotation[2, 0] * b2
        h1 = rotation[0, 1] * b0 + rotation[1, 1] * b1 + rotation[2, 1] * b2
        h2 = rotation[0, 2] * b0 + rotation[1, 2] * b1 + rotation[2, 2] * b2
        by_head[n, 0], by_head[n, 1], by_head[n, 2] = h0, h1, h2
        for e in range(6, min(10, rows.shape[1])):
            rows[n, e] = np.float32(0)
        for e in range(fitted):
            rows[n, 10 + e] = h0 * basis[i, 0, e] + h1 * basis[i, 1, e] + h2 * basis[i, 2, e]
        log_focal[n] = b0 * cx + b1 * cy
        r[n] = (bilinear(image, u, v) - expected[n]) * inverse
        off = r[n] / cauchy
        w[n] = one / (one + off * off)


@nb.njit(**KERNEL)
def turned_harmonics(which, normal, rotation, basis):
    """The first nine real spherical harmonics, each of order one, of unit vectors normal[which] once turned: [n, 9]."""
    for n in range(len(which)):
        a, b, c = normal[which[n], 0], normal[which[n], 1], normal[which[n], 2]
        x = rotation[0, 0] * a + rotation[0, 1] * b + rotation[0, 2] * c
        y = rotation[1, 0] * a + rotation[1, 1] * b + rotation[1, 2] * c
        z = rotation[2, 0] * a + rotation[2, 1] * b + rotation[2, 2] * c
        basis[n, 0], basis[n, 1], basis[n, 2], basis[n, 3] = np.float32(1), x, y, z
        basis[n, 4], basis[n, 5], basis[n, 6] = x * y, x * z, y * z
        basis[n, 7], basis[n, 8] = x * x - y * y, np.float32(3) * z * z - np.float32(1)


@nb.njit(**KERNEL)
def light_equations(value, basis, mu, sigma, light, cauchy, hessian, gradient):
    """Reweighted least squares for the light [9] in value = mu (basis @ light): fills its normal equations.

    Returns the sum of weighted squares of mu.
    """
    count, size = basis.shape
    hessian[:] = 0
    gradient[:] = 0
    total = 0.0
    for n in range(count):
        expected = np.float32(0)
        for k in range(size):
            expected += basis[n, k] * light[k]
        off = (value[n] - mu[n] * expected) / (sigma[n] * cauchy)
        weight = np.float32(1) / ((np.float32(1) + off * off) * sigma[n] * sigma[n])
        total += weight * mu[n] * mu[n]
        for k in range(size):
            row = weight * mu[n] * basis[n, k]
            gradient[k] += row * value[n]
            for m in range(k + 1):
                hessian[k, m] += row * mu[n] * basis[n, m]
    for k in range(size):
        for m in range(k):
            hessian[m, k] = hessian[k, m]
    return total


@nb.njit(**KERNEL)
def column_medians(values, median):
    """Median of what is finite in each column [N] of values [T, N]; NaN where nothing is."""
    for i in range(values.shape[1]):
        column = values[:, i]
        finite = column[np.isfinite(column)]
        median[i] = np.median(finite) if len(finite) else np.float32(np.nan)
