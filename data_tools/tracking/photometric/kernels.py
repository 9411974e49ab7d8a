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
def front_points(
    vertices, corners, share, rest_normal, eye, rotation, translation, focal, centre, size, facing, inside
):
    """Points share [N, 3] on triangles corners [N, 3] of vertices [V, 3] that face a camera and lie in its picture.

    Args:
        rest_normal: [N, 3] of the surface at rest, which has to face the camera, too.
        eye: the camera's place in head axes; rotation, translation: from there to its own.
        size: width and height of the picture.
        facing: cosine from which a point faces the camera; inside: pixels that it is from the edge.

    Returns:
        Rows of the points, their places, unit normals and unit directions to the camera.
    """
    count = len(corners)
    which, place = np.empty(count, np.int64), np.empty((count, 3), np.float32)
    normal, towards = np.empty((count, 3), np.float32), np.empty((count, 3), np.float32)
    found, one, tiny = 0, np.float32(1), np.float32(1e-12)
    for n in range(count):
        a, b, c = vertices[corners[n, 0]], vertices[corners[n, 1]], vertices[corners[n, 2]]
        x = share[n, 0] * a[0] + share[n, 1] * b[0] + share[n, 2] * c[0]
        y = share[n, 0] * a[1] + share[n, 1] * b[1] + share[n, 2] * c[1]
        z = share[n, 0] * a[2] + share[n, 1] * b[2] + share[n, 2] * c[2]
        tx, ty, tz = eye[0] - x, eye[1] - y, eye[2] - z
        far = one / np.sqrt(tx * tx + ty * ty + tz * tz)
        tx, ty, tz = far * tx, far * ty, far * tz
        if rest_normal[n, 0] * tx + rest_normal[n, 1] * ty + rest_normal[n, 2] * tz <= facing:
            continue
        ux, uy, uz = b[0] - a[0], b[1] - a[1], b[2] - a[2]
        vx, vy, vz = c[0] - a[0], c[1] - a[1], c[2] - a[2]
        nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        length = one / (np.sqrt(nx * nx + ny * ny + nz * nz) + tiny)
        nx, ny, nz = length * nx, length * ny, length * nz
        if nx * tx + ny * ty + nz * tz <= facing:
            continue
        cx = rotation[0, 0] * x + rotation[0, 1] * y + rotation[0, 2] * z + translation[0]
        cy = rotation[1, 0] * x + rotation[1, 1] * y + rotation[1, 2] * z + translation[1]
        cz = rotation[2, 0] * x + rotation[2, 1] * y + rotation[2, 2] * z + translation[2]
        u, v = focal * cx / cz + centre[0], focal * cy / cz + centre[1]
        if not (inside < u < size[0] - inside and inside < v < size[1] - inside):
            continue
        which[found] = n
        place[found, 0], place[found, 1], place[found, 2] = x, y, z
        normal[found, 0], normal[found, 1], normal[found, 2] = nx, ny, nz
        towards[found, 0], towards[found, 1], towards[found, 2] = tx, ty, tz
        found += 1
    return which[:found].copy(), place[:found], normal[:found], towards[:found]


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
def fit_light(value, basis, mu, sigma, usual, cauchy, hold, rounds, share, darkest, brightest, light):
    """Robust least squares for the light [9] in value = mu (basis @ light), one point in `share`.

    Lamps are switched: the whole light goes up and down before its parts are looked at, and is then held to that start
    by `hold` as a share of what the points say.
    """
    count, size = (len(value) + share - 1) // share, len(usual)
    seen, expected = np.empty(len(value), np.float32), np.empty(len(value), np.float32)
    for n in range(len(value)):
        total = np.float32(0)
        for k in range(size):
            total += basis[n, k] * usual[k]
        seen[n], expected[n] = value[n], mu[n] * min(max(total, darkest), brightest)
    gain = np.median(seen) / max(np.median(expected), np.float32(1e-3))
    gain = min(max(gain, darkest), brightest)
    start, hessian, gradient = np.empty(size), np.empty((size, size)), np.empty(size)
    for k in range(size):
        start[k] = usual[k] * gain
        light[k] = start[k]
    for _ in range(rounds):
        hessian[:], gradient[:], total_say = 0.0, 0.0, 0.0
        for m in range(count):
            n = m * share
            lit = np.float32(0)
            for k in range(size):
                lit += basis[n, k] * np.float32(light[k])
            off = (value[n] - mu[n] * lit) / (sigma[n] * cauchy)
            say = mu[n] / ((np.float32(1) + off * off) * sigma[n] * sigma[n])
            total_say += say * mu[n]
            for k in range(size):
                row = say * basis[n, k]
                gradient[k] += row * value[n]
                for j in range(k + 1):
                    hessian[k, j] += row * mu[n] * basis[n, j]
        pull = hold * total_say + 1e-9
        for k in range(size):
            hessian[k, k] += pull
            gradient[k] += pull * start[k]
        solve_positive(hessian, gradient, light)


@nb.njit(**KERNEL)
def solve_positive(matrix, right, result):
    """Solve a positive definite system by its lower triangle, which is overwritten (Cholesky)."""
    size = len(right)
    for i in range(size):
        for j in range(i + 1):
            total = matrix[i, j]
            for k in range(j):
                total -= matrix[i, k] * matrix[j, k]
            matrix[i, j] = np.sqrt(total) if i == j else total / matrix[j, j]
    for i in range(size):
        total = right[i]
        for k in range(i):
            total -= matrix[i, k] * result[k]
        result[i] = total / matrix[i, i]
    for m in range(size):
        i = size - 1 - m
        total = result[i]
        for k in range(i + 1, size):
            total -= matrix[k, i] * result[k]
        result[i] = total / matrix[i, i]


@nb.njit(**KERNEL)
def column_medians(values, first, last, median):
    """Median of what is finite in columns first..last of values [T, N]; NaN where nothing is."""
    column = np.empty(len(values), values.dtype)
    for i in range(first, last):
        count = 0
        for t in range(len(values)):
            if np.isfinite(values[t, i]):
                column[count] = values[t, i]
                count += 1
        median[i] = np.median(column[:count]) if count else np.float32(np.nan)


@nb.njit(**KERNEL)
def column_spreads(seen, factor, first, last, again, width, least, mu, sigma, off):
    """What columns first..last of seen [T, N] (NaN: not seen) have in common under shades factor [T, N].

    Fills their value mu (if `again`: the Cauchy mean of seen / factor around mu, half a say at `width` spreads), spread
    sigma, at least `least`, and residual off = seen - factor mu.
    """
    apart = np.empty(len(seen), np.float32)
    for i in range(first, last):
        if again:
            total, weights = np.float32(0), np.float32(0)
            for t in range(len(seen)):
                if np.isfinite(seen[t, i]):
                    value = seen[t, i] / factor[t, i]
                    far = (value - mu[i]) / (width * sigma[i])
                    weight = np.float32(1) / (np.float32(1) + far * far)
                    total += weight * value
                    weights += weight
            if weights > 0:
                mu[i] = total / weights
        count = 0
        for t in range(len(seen)):
            off[t, i] = seen[t, i] - factor[t, i] * mu[i]
            if np.isfinite(seen[t, i]):
                apart[count] = abs(off[t, i])
                count += 1
        spread = np.float32(1.4826) * np.median(apart[:count]) if count else np.float32(np.nan)
        sigma[i] = max(spread, least) if count else spread
