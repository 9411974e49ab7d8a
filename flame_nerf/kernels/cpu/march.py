"""CPU kernels that march rays: the samples inside the shell around a mesh."""

from __future__ import annotations

import numba as nb
import numpy as np

from flame_nerf.kernels.cpu.occupancy import axis_cell
from flame_nerf.kernels.cpu.tree import (
    BEST,
    BOX,
    EVERYWHERE,
    FACE,
    FAR,
    INLINE,
    KERNEL,
    LANES,
    MISSED,
    NOBODY,
    ONE,
    PX,
    PY,
    PZ,
    STACK,
    TRIANGLE,
    WORKSPACE,
    ZERO,
    nearest_packet,
    pointer,
    try_triangle,
)

COMPILED_WITH = "cc32a4ec4862"
"""Checksum of the files imported from; see `flame_nerf.kernels.cpu`."""

_NEARLY = np.float32(1 + 1e-5)
"""Squared distances this close may belong to triangles that are equally near."""


@nb.njit(**INLINE)
def _invert(direction, inverse):
    """One over each component; nearly zero ones are moved away from zero."""
    for axis in range(3):
        d = direction[axis]
        if abs(d) < np.float32(1e-12):
            d = np.float32(1e-12)
        inverse[axis] = ONE / d


@nb.njit(**INLINE)
def _box_interval(boxes, node, grow, origin, inverse, t_low, t_high):
    """Where a ray is inside a box grown by ``grow``: (entry, exit), entry > exit if nowhere in [t_low, t_high]."""
    for axis in range(3):
        t0 = (boxes[node, axis] - grow - origin[axis]) * inverse[axis]
        t1 = (boxes[node, 3 + axis] + grow - origin[axis]) * inverse[axis]
        near, far = (t0, t1) if t0 < t1 else (t1, t0)
        t_low = near if near > t_low else t_low
        t_high = far if far < t_high else t_high
    return t_low, t_high


@nb.njit(**INLINE)
def _mark_packets(leaves, boxes, reach, origin, inverse, t_low, t_high, t_first, packet_length, marks, stack):
    """Mark the packets of a ray that come within a leaf's reach of its box: all that can hold a sample of the shell."""
    last_packet = int((t_high - t_first) / packet_length)
    slack = np.float32(1e-5)
    top = 1
    stack[0] = 0
    while top > 0:
        top -= 1
        node = stack[top]
        entry, leave = _box_interval(boxes, node, reach[node] + slack, origin, inverse, t_low, t_high)
        if entry > leave or reach[node] < ZERO:
            continue
        first = max(int((entry - t_first) / packet_length), 0)
        last = min(int((leave - t_first) / packet_length), last_packet)
        if node < leaves - 1:
            for packet in range(first, last + 1):
                if marks[packet] == 0:
                    stack[top] = 2 * node + 2
                    stack[top + 1] = 2 * node + 1
                    top += 2
                    break
        else:
            for packet in range(first, last + 1):
                marks[packet] = 1
    return last_packet


@nb.njit(**INLINE)
def _canonical_cell(row, x, y, z, low, per_metre, resolution):
    """Cell of the canonical box (see `kernels.cells`) in which a point lies after a transform [12]."""
    cell = 0
    for axis in range(3):
        value = row[4 * axis] * x + row[4 * axis + 1] * y + row[4 * axis + 2] * z + row[4 * axis + 3]
        cell = cell * resolution + axis_cell(value, low[axis], per_metre[axis], resolution)
    return cell


@nb.njit(**INLINE)
def _only_full(coarse, low, per_metre, w):
    """Switch off the packet's points that lie where there is nothing; whether any is left."""
    left = False
    for lane in range(LANES):
        x = int((w[PX + lane] - low[0]) * per_metre)
        y = int((w[PY + lane] - low[1]) * per_metre)
        z = int((w[PZ + lane] - low[2]) * per_metre)
        # What is rounded up to 0 from below is in the border, which is empty.
        inside = 0 <= x < coarse.shape[0] and 0 <= y < coarse.shape[1] and 0 <= z < coarse.shape[2]
        if inside and coarse[x, y, z] > 0 and w[BEST + lane] > ZERO:
            left = True
        else:
            w[BEST + lane] = NOBODY
    return left


@nb.njit(**KERNEL)
def sample_shell(
    begin, end, addresses, mesh_index, origins, directions, start, stop, near, far, step, max_samples,
    leaves, order, shell, reach, largest_packets,
    density, least_density, unseen_too, low, per_metre, resolution, tables, coarse, coarse_low, coarse_per_metre,
    counts, out_ray, out_mesh, out_start, out_end, out_face, out_distance,
):  # fmt: skip
    """March rays[begin:end]; samples go to ``out_*`` one after the other, their number per ray to ``counts``.

    ``start`` [R]: shift of the ray's grid in steps; sample k of a ray covers ``(k + start) step`` to
    ``(k + 1 + start) step`` and is kept where its middle lies in the shell, no farther than where the ray ends
    (``stop`` [R], inf: nowhere), and not in a cell of the canonical head that is known to be empty: ``density``
    [resolution^3] below ``least_density`` (inf, never met: only if ``unseen_too``), after the way there by ``tables``
    [meshes], addresses of transforms [F, 3, 4]. No density, nothing is left out. Eight samples that all lie where the
    posed mesh's ``coarse`` [X, Y, Z] is 0 are left out unlooked at; no cells, none are. Returns the number of samples,
    and of those left out in empty cells that were looked at.
    """
    count = len(order)
    w = np.empty(WORKSPACE, np.float32)
    stack = np.empty(STACK, np.int64)
    marks = np.zeros(largest_packets, np.uint8)
    inverse = np.empty(3, np.float32)
    reach_most = reach[0]
    limit = reach_most * reach_most
    half = np.float32(0.5)
    packet_length = np.float32(LANES) * step
    total = skipped = 0
    everywhere = np.full(len(reach), EVERYWHERE)
    slots = np.empty(count, np.int64)
    for slot in range(count):
        slots[order[slot]] = slot
    # Nearest to a packet is mostly what was nearest to the one before it, or to the first of the ray before: tried
    # first, it leaves out most of the tree.
    seed = seed_of_ray = -1
    for ray in range(begin, end):
        counts[ray] = 0
        mesh = mesh_index[ray]
        triangles = nb.carray(pointer(addresses[mesh, 0]), (count, TRIANGLE))
        boxes = nb.carray(pointer(addresses[mesh, 1]), (2 * leaves - 1, BOX))
        origin, direction = origins[ray], directions[ray]
        _invert(direction, inverse)
        t_low, t_high = _box_interval(boxes, 0, reach_most, origin, inverse, near, far)
        if not (t_low <= t_high):
            continue
        t_high = min(t_high, stop[ray])
        # Samples whose middle is in [t_low, t_high]: k from first to last.
        shift = start[ray] + half
        first = int(np.ceil(t_low / step - shift))
        last = int(np.floor(t_high / step - shift))
        if last < first:
            continue
        t_first = (np.float32(first) + shift) * step - half * step
        packets = _mark_packets(
            leaves, boxes, reach, origin, inverse, t_low - step, t_high + step, t_first, packet_length, marks, stack
        )
        kept, first_of_ray = 0, total
        seed, is_first = seed_of_ray, True
        for packet in range(packets + 1):
            if marks[packet] == 0:
                continue
            marks[packet] = 0
            if kept >= max_samples:
                continue
            k0 = first + packet * LANES
            for lane in range(LANES):
                t = (np.float32(k0 + lane) + shift) * step
                w[PX + lane] = origin[0] + t * direction[0]
                w[PY + lane] = origin[1] + t * direction[1]
                w[PZ + lane] = origin[2] + t * direction[2]
                w[BEST + lane] = limit if k0 + lane <= last else NOBODY
                w[FACE + lane] = NOBODY
                w[MISSED + lane] = FAR
            if coarse.size > 0 and not _only_full(coarse, coarse_low, coarse_per_metre, w):
                continue
            if seed >= 0:
                try_triangle(triangles, seed, order[seed], w)
            # First among triangles whose own shell may hold the point: far fewer than all that are that near.
            nearest_packet(leaves, order, triangles, boxes, reach, w, stack)
            doubtful = False
            for lane in range(LANES):
                face = int(w[FACE + lane])
                if face >= 0:
                    seed = slots[face]
                    if is_first:
                        seed_of_ray, is_first = seed, False
                if face < 0 or np.sqrt(w[BEST + lane]) > shell[face]:
                    w[FACE + lane] = w[BEST + lane] = NOBODY
                elif w[MISSED + lane] <= w[BEST + lane] * _NEARLY:
                    doubtful = True
            if doubtful:
                # A triangle with a thinner shell may be nearer, and then the point belongs to that one.
                nearest_packet(leaves, order, triangles, boxes, everywhere, w, stack)
            for lane in range(LANES):
                face = int(w[FACE + lane])
                if face < 0 or kept >= max_samples:
                    continue
                distance = np.sqrt(w[BEST + lane])
                if distance > shell[face]:
                    continue
                kept += 1
                if len(density) > 0:
                    row = nb.carray(pointer(tables[mesh]), (count, 12))[face]
                    x, y, z = w[PX + lane], w[PY + lane], w[PZ + lane]
                    cell = _canonical_cell(row, x, y, z, low, per_metre, resolution)
                    if density[cell] < least_density or (unseen_too and np.isinf(density[cell])):
                        skipped += 1
                        continue
                out_ray[total] = ray
                out_mesh[total] = mesh
                out_start[total] = (np.float32(k0 + lane) + start[ray]) * step
                out_end[total] = (np.float32(k0 + lane) + start[ray] + ONE) * step
                out_face[total] = face
                out_distance[total] = distance
                total += 1
        counts[ray] = total - first_of_ray
    return total, skipped
