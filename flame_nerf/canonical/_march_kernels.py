"""CPU kernels that march rays: the first hit of the mesh, and the samples inside the shell around it."""

from __future__ import annotations

import numba as nb
import numpy as np

from flame_nerf.canonical._tree_kernels import (
    BEST,
    BOX,
    CX,
    EVERYWHERE,
    FACE,
    FAR,
    INLINE,
    INV_BX,
    INV_CY,
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
)

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
def _first_hit(count, leaves, triangles, boxes, origin, direction, inverse, t_low, t_high, stack):
    """First triangle (either side) in [t_low, t_high]: distance along the ray and slot; ``t_high`` and -1 if none."""
    top = 1
    stack[0] = 0
    best = t_high
    best_slot = -1
    tolerance = np.float32(1e-5)
    while top > 0:
        top -= 1
        node = stack[top]
        entry, leave = _box_interval(boxes, node, ZERO, origin, inverse, t_low, best)
        if entry > leave:
            continue
        if node < leaves - 1:
            near, far = 2 * node + 1, 2 * node + 2
            entry_near, leave_near = _box_interval(boxes, near, ZERO, origin, inverse, t_low, best)
            entry_far, leave_far = _box_interval(boxes, far, ZERO, origin, inverse, t_low, best)
            if entry_far < entry_near:
                near, far = far, near
                entry_near, leave_near, entry_far, leave_far = entry_far, leave_far, entry_near, leave_near
            if entry_far <= leave_far:
                stack[top] = far
                top += 1
            if entry_near <= leave_near:
                stack[top] = near
                top += 1
            continue
        leaf = node - (leaves - 1)
        dx, dy, dz = direction[0], direction[1], direction[2]
        for slot in range(leaf * count // leaves, (leaf + 1) * count // leaves):
            t = triangles[slot]
            if t[INV_CY] == ZERO:
                continue
            ex, ey, ez, fx, fy, fz = t[3], t[4], t[5], t[6], t[7], t[8]
            nx, ny, nz = ey * fz - ez * fy, ez * fx - ex * fz, ex * fy - ey * fx
            slope = dx * nx + dy * ny + dz * nz
            if slope == ZERO:
                continue
            px, py, pz = origin[0] - t[0], origin[1] - t[1], origin[2] - t[2]
            distance = -(px * nx + py * ny + pz * nz) / slope
            px, py, pz = px + distance * dx, py + distance * dy, pz + distance * dz
            # Barycentric coordinates; the tolerance closes the cracks between triangles.
            v = (px * fx + py * fy + pz * fz) * t[INV_CY]
            u = (px * ex + py * ey + pz * ez - v * t[CX]) * t[INV_BX]
            if u < -tolerance or v < -tolerance or u + v > ONE + tolerance:
                continue
            if distance >= t_low and distance < best:
                best = distance
                best_slot = slot
    return best, best_slot


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
    """Cell of the canonical box, as `OccupancyGrid.cells`, in which a point lies after a transform [12]."""
    cell = 0
    for axis in range(3):
        value = row[4 * axis] * x + row[4 * axis + 1] * y + row[4 * axis + 2] * z + row[4 * axis + 3]
        along = int((value - low[axis]) * per_metre[axis])
        cell = cell * resolution + min(max(along, 0), resolution - 1)
    return cell


@nb.njit(**KERNEL)
def sample_shell(
    begin, end, addresses, mesh_index, origins, directions, start, near, far, step, behind, max_samples,
    leaves, order, shell, reach, largest_packets,
    density, least_density, unseen_too, low, per_metre, resolution, tables,
    counts, out_ray, out_mesh, out_start, out_end, out_face, out_distance,
):  # fmt: skip
    """March rays[begin:end]; samples go to ``out_*`` one after the other, their number per ray to ``counts``.

    ``start`` [R]: shift of the ray's grid in steps; sample k of a ray covers ``(k + start) step`` to
    ``(k + 1 + start) step`` and is kept where its middle lies in the shell, and not in a cell of the canonical head
    that is known to be empty: ``density`` [resolution^3] below ``least_density`` (inf, never met: only if
    ``unseen_too``), after the way there by ``tables`` [meshes], addresses of transforms [F, 3, 4]. No density, nothing
    is left out. Returns the number of samples, and of those left out in empty cells.
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
        if behind < FAR:
            hit, _ = _first_hit(count, leaves, triangles, boxes, origin, direction, inverse, near, t_high, stack)
            t_high = min(t_high, hit + behind)
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
            # First among triangles whose own shell may hold the point: far fewer than all that are that near.
            nearest_packet(leaves, order, triangles, boxes, reach, w, stack)
            doubtful = False
            for lane in range(LANES):
                face = int(w[FACE + lane])
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


@nb.njit(**KERNEL)
def first_hit(begin, end, addresses, mesh_index, origins, directions, leaves, order, distance, face):
    """Distance to the first triangle that rays[begin:end] meet and its face; inf and -1 where they meet none."""
    count = len(order)
    stack = np.empty(STACK, np.int64)
    inverse = np.empty(3, np.float32)
    for ray in range(begin, end):
        mesh = mesh_index[ray]
        triangles = nb.carray(pointer(addresses[mesh, 0]), (count, TRIANGLE))
        boxes = nb.carray(pointer(addresses[mesh, 1]), (2 * leaves - 1, BOX))
        origin, direction = origins[ray], directions[ray]
        _invert(direction, inverse)
        hit, slot = _first_hit(count, leaves, triangles, boxes, origin, direction, inverse, ZERO, FAR, stack)
        distance[ray] = hit if slot >= 0 else np.float32(np.inf)
        face[ray] = order[slot] if slot >= 0 else -1
