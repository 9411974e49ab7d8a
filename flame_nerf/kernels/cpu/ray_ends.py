"""CPU kernel of `kernels.ray_ends`."""

from __future__ import annotations

import numba as nb
import numpy as np

from flame_nerf.kernels.cpu.rays import BEST, LEAST, OX, SLOT, WORKSPACE, cast_own, cast_packet
from flame_nerf.kernels.cpu.tree import BOX, FAR, INLINE, KERNEL, LANES, NOBODY, STACK, ZERO, pointer
from flame_nerf.kernels.ray_ends import CHORD, PAST

COMPILED_WITH = "5681688ad6f1"
"""Checksum of the files imported from; see `flame_nerf.kernels.cpu`."""

_TINY = np.float32(1e-30)
_PAST, _CHORD = np.float32(PAST), np.float32(CHORD)


@nb.njit(**INLINE)
def _cosine(t, direction):
    """Cosine between a triangle's normal and a direction of unit length."""
    nx, ny, nz = t[4] * t[8] - t[5] * t[7], t[5] * t[6] - t[3] * t[8], t[3] * t[7] - t[4] * t[6]
    along = nx * direction[0] + ny * direction[1] + nz * direction[2]
    return along / max(np.sqrt(nx * nx + ny * ny + nz * nz), _TINY)


@nb.njit(**INLINE)
def _look_on(i, used, start, chord, origins, directions, w):
    """Rays i .. i + used - 1 into the workspace again, to look for what they meet past ``start`` and no farther than
    ``chord`` after it; those of which that is not positive are off."""
    for lane in range(used):
        past = start[lane] + _PAST
        for axis in range(3):
            w[OX + axis * LANES + lane] = origins[i + lane, axis] + past * directions[i + lane, axis]
        w[BEST + lane] = chord[lane] - _PAST if chord[lane] > _PAST else NOBODY
        w[SLOT + lane] = NOBODY


@nb.njit(**INLINE)
def _enter(i, used, triangles, directions, behind, grazing, start, cosine, stop, w):
    """Where rays that met something end; those that met nothing end nowhere. How many met something."""
    met = 0
    for lane in range(used):
        slot = int(w[SLOT + lane])
        if w[BEST + lane] == NOBODY:
            continue
        cosine[lane], stop[i + lane] = ZERO, np.float32(np.inf)
        if slot >= 0:
            start[lane] += w[BEST + lane]
            cosine[lane] = _cosine(triangles[slot], directions[i + lane])
            steepness = max(abs(cosine[lane]), LEAST)
            stop[i + lane] = start[lane] + max(behind, min(behind / steepness, grazing))
            met += 1
    return met


@nb.njit(**KERNEL)
def stop_behind(begin, end, addresses, mesh_index, origins, directions, near, leaves, order, ending, stop):
    """Where each of rays[begin:end], of unit length, ends (inf: nowhere), by the first triangle of its own mesh that it
    meets from ``near`` on, or by a later one after it has left the mesh. ``ending``: behind, grazing, and how often it
    may leave the mesh."""
    behind, grazing, layers = ending
    count = len(order)
    w = np.empty(WORKSPACE, np.float32)
    stack = np.empty(STACK, np.int64)
    start, cosine, chord = np.empty(LANES, np.float32), np.empty(LANES, np.float32), np.empty(LANES, np.float32)
    i = begin
    while i < end:
        used, triangles = cast_own(i, end, addresses, mesh_index, origins, directions, near, leaves, count, w, stack)
        boxes = nb.carray(pointer(addresses[mesh_index[i], 1]), (2 * leaves - 1, BOX))
        start[:] = ZERO
        inside = _enter(i, used, triangles, directions, behind, grazing, start, cosine, stop, w)
        for _ in range(layers):
            if inside == 0:
                break
            for lane in range(used):
                longest = _CHORD * behind / max(abs(cosine[lane]), LEAST)
                chord[lane] = max(stop[i + lane] - start[lane], longest) if cosine[lane] != ZERO else NOBODY
            _look_on(i, used, start, chord, origins, directions, w)
            cast_packet(count, leaves, triangles, boxes, ZERO, w, stack)
            left = 0
            for lane in range(used):
                slot, length = int(w[SLOT + lane]), _PAST + w[BEST + lane]
                out = _cosine(triangles[slot], directions[i + lane]) if slot >= 0 else ZERO
                depth = length * (abs(cosine[lane]) + abs(out)) / _CHORD
                leaves_it = out * cosine[lane] < ZERO and (start[lane] + length < stop[i + lane] or depth < behind)
                chord[lane] = FAR if leaves_it else NOBODY
                start[lane] += length if leaves_it else ZERO
                left += 1 if leaves_it else 0
            if left == 0:
                break
            _look_on(i, used, start, chord, origins, directions, w)
            for lane in range(used):
                start[lane] += _PAST
            cast_packet(count, leaves, triangles, boxes, ZERO, w, stack)
            for lane in range(used):
                cosine[lane] = ZERO
            inside = _enter(i, used, triangles, directions, behind, grazing, start, cosine, stop, w)
        i += used
