"""CPU kernels that carry points and directions to the canonical head, and gradients back."""

from __future__ import annotations

import numba as nb
import numpy as np

from flame_nerf.kernels.cpu.tree import KERNEL, ZERO, pointer

COMPILED_WITH = "0de27d121766"
"""Checksum of the files imported from; see `flame_nerf.kernels.cpu`."""


@nb.njit(**KERNEL)
def apply_tables(addresses, width, transpose, mesh_index, face, vectors, faces, out):
    """``out = M v + offset`` with rows [M | offset] of tables [F, 3, width] (width 4; 3: no offset), or ``M^T v``.

    Where face is -1, v itself.
    """
    for i in range(len(vectors)):
        if face[i] < 0:
            out[i] = vectors[i]
            continue
        table = nb.carray(pointer(addresses[mesh_index[i]]), (faces, 3 * width))
        row = table[face[i]]
        x, y, z = vectors[i, 0], vectors[i, 1], vectors[i, 2]
        for axis in range(3):
            if transpose:
                out[i, axis] = row[axis] * x + row[width + axis] * y + row[2 * width + axis] * z
            else:
                value = row[width * axis] * x + row[width * axis + 1] * y + row[width * axis + 2] * z
                out[i, axis] = value + row[width * axis + 3] if width == 4 else value


@nb.njit(**KERNEL)
def carry_samples(
    begin, end, transforms, rotations, faces, offsets, mesh_index, face, t_start, t_end, origins, directions,
    out_points, out_directions,
):  # fmt: skip
    """Middles of the samples of rays[begin:end], and their rays' directions, in the canonical head.

    ``transforms`` and ``rotations`` are addresses [meshes] of tables [F, 3, 4] and [F, 3, 3]; ``offsets`` [R + 1] the
    first sample of each ray.
    """
    half = np.float32(0.5)
    for ray in range(begin, end):
        dx, dy, dz = directions[ray, 0], directions[ray, 1], directions[ray, 2]
        for n in range(offsets[ray], offsets[ray + 1]):
            t = half * (t_start[n] + t_end[n])
            x, y, z = origins[ray, 0] + t * dx, origins[ray, 1] + t * dy, origins[ray, 2] + t * dz
            m = nb.carray(pointer(transforms[mesh_index[n]]), (faces, 12))[face[n]]
            r = nb.carray(pointer(rotations[mesh_index[n]]), (faces, 9))[face[n]]
            for axis in range(3):
                out_points[n, axis] = m[4 * axis] * x + m[4 * axis + 1] * y + m[4 * axis + 2] * z + m[4 * axis + 3]
                out_directions[n, axis] = r[3 * axis] * dx + r[3 * axis + 1] * dy + r[3 * axis + 2] * dz


@nb.njit(**KERNEL)
def carry_samples_gradient(
    begin, end, transforms, rotations, faces, offsets, mesh_index, face, t_start, t_end, grad_points, grad_directions,
    out_origins, out_directions,
):  # fmt: skip
    """Gradients to the rays' origins and directions [R, 3], given those to what `carry_samples` gives.

    With p' = M (o + t d) + b and d' = R d: to o the sum of M^T g, to d the sum of t M^T g + R^T g'.
    """
    half = np.float32(0.5)
    for ray in range(begin, end):
        out_origins[ray, :] = ZERO
        out_directions[ray, :] = ZERO
        for n in range(offsets[ray], offsets[ray + 1]):
            t = half * (t_start[n] + t_end[n])
            x, y, z = grad_points[n, 0], grad_points[n, 1], grad_points[n, 2]
            u, v, w = grad_directions[n, 0], grad_directions[n, 1], grad_directions[n, 2]
            m = nb.carray(pointer(transforms[mesh_index[n]]), (faces, 12))[face[n]]
            r = nb.carray(pointer(rotations[mesh_index[n]]), (faces, 9))[face[n]]
            for axis in range(3):
                moved = m[axis] * x + m[4 + axis] * y + m[8 + axis] * z
                out_origins[ray, axis] += moved
                out_directions[ray, axis] += t * moved + r[axis] * u + r[3 + axis] * v + r[6 + axis] * w
