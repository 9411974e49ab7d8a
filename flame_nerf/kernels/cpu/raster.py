"""What of a textured mesh a camera sees: the nearest surface in each pixel; compiled, for the CPU.

Imports numba: import this where it is used.
"""

from __future__ import annotations

import numba
import numpy as np


@numba.njit(nogil=True, cache=True)
def nearest_faces(corners, triangles, culled, owner, depth):
    """The surface nearest to the camera in each pixel's middle, exact to rounding and perspective-correct.

    In homogeneous coordinates a triangle may reach behind the camera; what lies in front of it is seen. A pixel that
    lies on a triangle's edge belongs to it, so that meshes have no holes; of equally near triangles the first is seen.

    Args:
        corners: [V, 3] places in the picture times depth, and depth along the optical axis, metres: x (right) and y
            (down) in pixels, 0 at the picture's corner.
        triangles: [F, 3] into those. culled: whether back faces, counter-clockwise in the picture, are left out.
        owner: [H, W] int64, written: row of the triangle, -1 where there is none.
        depth: [H, W] float64, written: metres along the optical axis, inf where there is none.
    """
    height, width = depth.shape
    depth[:], owner[:] = np.inf, -1
    for face in range(len(triangles)):
        a, b, c = corners[triangles[face, 0]], corners[triangles[face, 1]], corners[triangles[face, 2]]
        if not (a[2] > 0 or b[2] > 0 or c[2] > 0):
            continue
        x0, y0, z0 = edge(b, c)
        x1, y1, z1 = edge(c, a)
        x2, y2, z2 = edge(a, b)
        volume = a[0] * x0 + a[1] * y0 + a[2] * z0
        # Nor is a triangle drawn with a corner that is no number: its volume is none.
        if not 0 < abs(volume) < np.inf or (culled and volume > 0):
            continue
        low_x, low_y, high_x, high_y = 0, 0, width, height
        if a[2] > 0 and b[2] > 0 and c[2] > 0:
            low_x, high_x = pixels_between(a[0] / a[2], b[0] / b[2], c[0] / c[2], width)
            low_y, high_y = pixels_between(a[1] / a[2], b[1] / b[2], c[1] / c[2], height)
        towards = 1.0 if volume > 0 else -1.0
        for y in range(low_y, high_y):
            r0, r1, r2 = y0 * (y + 0.5) + z0, y1 * (y + 0.5) + z1, y2 * (y + 0.5) + z2
            for x in range(low_x, high_x):
                w0 = (x0 * (x + 0.5) + r0) * towards
                w1 = (x1 * (x + 0.5) + r1) * towards
                w2 = (x2 * (x + 0.5) + r2) * towards
                if w0 >= 0 and w1 >= 0 and w2 >= 0 and w0 + w1 + w2 > 0:
                    z = volume * towards / (w0 + w1 + w2)
                    if z < depth[y, x]:
                        depth[y, x], owner[y, x] = z, face


@numba.njit(inline="always")
def edge(a, b):
    """The line through two points of the picture, homogeneous: what it gives for a pixel has the same size and the
    other sign for the same two points the other way round, to the last bit."""
    return a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]


@numba.njit(inline="always")
def pixels_between(a, b, c, count):
    """The pixels, first and one past the last of 0..count, whose middles lie between the least and the greatest of
    three places; one more at either end, for rounding."""
    low, high = min(a, b, c) - 1, max(a, b, c) + 1
    return int(min(max(low, 0.0), count)), int(min(max(high, 0.0), count))


@numba.njit(nogil=True, cache=True)
def fragments(picture, positions, normals, triangles, corners, uv, marks, eye, pixel, at, cosine, mark, depth):
    """Front faces nearest to the camera, one fragment a pixel, perspective-correct.

    Args:
        picture: [V, 3] as the corners of `nearest_faces`.
        positions, normals: [V, 3] metres, unit. eye: [3] the camera's place, metres.
        triangles: [F, 3] into those. corners: [F, 3] into uv. uv: [W, 2]. marks: [V, M] any values.
        pixel: [N] int64, written: row * width + column of each fragment.
        at: [N, 2] written: its uv. cosine: [N] written: between its normal and the way to the eye.
        mark: [N, M] written: its values of marks.
        depth: [H, W] scratch.

    Returns:
        How many fragments there are.
    """
    height, width = depth.shape
    owner = np.empty((height, width), np.int64)
    nearest_faces(picture, triangles, True, owner, depth)
    count = 0
    for y in range(height):
        for x in range(width):
            face = owner[y, x]
            if face < 0:
                continue
            a, b, c = triangles[face]
            x0, y0, z0 = edge(picture[b], picture[c])
            x1, y1, z1 = edge(picture[c], picture[a])
            x2, y2, z2 = edge(picture[a], picture[b])
            px, py = x + 0.5, y + 0.5
            w0, w1, w2 = x0 * px + y0 * py + z0, x1 * px + y1 * py + z1, x2 * px + y2 * py + z2
            total = w0 + w1 + w2
            w0, w1, w2 = w0 / total, w1 / total, w2 / total
            pixel[count] = y * width + x
            for k in range(2):
                at[count, k] = (
                    w0 * uv[corners[face, 0], k] + w1 * uv[corners[face, 1], k] + w2 * uv[corners[face, 2], k]
                )
            dot, nn, vv = 0.0, 0.0, 0.0
            for k in range(3):
                n = w0 * normals[a, k] + w1 * normals[b, k] + w2 * normals[c, k]
                v = eye[k] - (w0 * positions[a, k] + w1 * positions[b, k] + w2 * positions[c, k])
                dot, nn, vv = dot + n * v, nn + n * n, vv + v * v
            for k in range(marks.shape[1]):
                mark[count, k] = w0 * marks[a, k] + w1 * marks[b, k] + w2 * marks[c, k]
            cosine[count] = dot / np.sqrt(nn * vv + 1e-20)
            count += 1
    return count
