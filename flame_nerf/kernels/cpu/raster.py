"""What of a textured mesh a camera sees: the nearest surface in each pixel; compiled, for the CPU.

Imports numba: import this where it is used.
"""

from __future__ import annotations

import numba
import numpy as np


@numba.njit(nogil=True, cache=True)
def fragments(screen, positions, normals, triangles, corners, uv, marks, eye, pixel, at, cosine, mark, depth):
    """Front faces nearest to the camera, one fragment a pixel, perspective-correct.

    Args:
        screen: [V, 3] x (right) and y (down) in pixels, and depth along the optical axis, metres.
        positions, normals: [V, 3] metres, unit. eye: [3] the camera's place, metres.
        triangles: [F, 3] into those. corners: [F, 3] into uv. uv: [W, 2]. marks: [V] any value.
        pixel: [N] int64, written: row * width + column of each fragment.
        at: [N, 2] written: its uv. cosine: [N] written: between its normal and the way to the eye.
        mark: [N] written: its value of marks.
        depth: [H, W] scratch.

    Returns:
        How many fragments there are.
    """
    height, width = depth.shape
    depth[:] = np.inf
    owner = np.full((height, width), -1, np.int64)
    for face in range(len(triangles)):
        a, b, c = triangles[face]
        if screen[a, 2] <= 1e-3 or screen[b, 2] <= 1e-3 or screen[c, 2] <= 1e-3:
            continue
        x0, y0, x1, y1, x2, y2 = screen[a, 0], screen[a, 1], screen[b, 0], screen[b, 1], screen[c, 0], screen[c, 1]
        area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
        # y goes down: a front face runs clockwise.
        if area >= 0:
            continue
        low_y, high_y = (
            max(0, int(np.ceil(min(y0, y1, y2) - 0.5))),
            min(height - 1, int(np.floor(max(y0, y1, y2) - 0.5))),
        )
        low_x, high_x = (
            max(0, int(np.ceil(min(x0, x1, x2) - 0.5))),
            min(width - 1, int(np.floor(max(x0, x1, x2) - 0.5))),
        )
        for y in range(low_y, high_y + 1):
            for x in range(low_x, high_x + 1):
                px, py = x + 0.5, y + 0.5
                w1 = ((px - x0) * (y2 - y0) - (x2 - x0) * (py - y0)) / area
                w2 = ((x1 - x0) * (py - y0) - (px - x0) * (y1 - y0)) / area
                w0 = 1 - w1 - w2
                if w0 < -1e-6 or w1 < -1e-6 or w2 < -1e-6:
                    continue
                z = 1 / (w0 / screen[a, 2] + w1 / screen[b, 2] + w2 / screen[c, 2])
                if z < depth[y, x]:
                    depth[y, x] = z
                    owner[y, x] = face
    count = 0
    for y in range(height):
        for x in range(width):
            face = owner[y, x]
            if face < 0:
                continue
            a, b, c = triangles[face]
            x0, y0, x1, y1, x2, y2 = screen[a, 0], screen[a, 1], screen[b, 0], screen[b, 1], screen[c, 0], screen[c, 1]
            area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
            px, py, z = x + 0.5, y + 0.5, depth[y, x]
            w1 = ((px - x0) * (y2 - y0) - (x2 - x0) * (py - y0)) / area
            w2 = ((x1 - x0) * (py - y0) - (px - x0) * (y1 - y0)) / area
            w0 = (1 - w1 - w2) * z / screen[a, 2]
            w1, w2 = w1 * z / screen[b, 2], w2 * z / screen[c, 2]
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
            mark[count] = w0 * marks[a] + w1 * marks[b] + w2 * marks[c]
            cosine[count] = dot / np.sqrt(nn * vv + 1e-20)
            count += 1
    return count
