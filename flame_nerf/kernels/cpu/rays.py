"""CPU kernels that cast rays at meshes: what each meets first, and whether it meets anything at all.

Eight rays walk the tree of `tree` together, as its packets of points do: the rays of neighbouring pixels, or
parallel ones from neighbouring places, need nearly the same nodes. Rays that have nothing in common are right too, and
still no slower than one by one. Where work is split between packets and never inside one, what a ray meets does not
depend on the number of threads; where it is split between rays, it does not but for rounding.
"""

from __future__ import annotations

import numba as nb
import numpy as np

from flame_nerf.kernels.cpu.tree import (
    BOX,
    CX,
    FAR,
    INLINE,
    INV_BX,
    INV_CY,
    KERNEL,
    LANES,
    NOBODY,
    ONE,
    STACK,
    TRIANGLE,
    ZERO,
    pointer,
    same_mesh,
    total,
)

COMPILED_WITH = "0de27d121766"
"""Checksum of the files imported from; see `flame_nerf.kernels.cpu`."""

# Rows of the packet's workspace: origins, directions and one over these; the distance that must be beaten (-1: the lane
# is off) and the slot of what was met there, kept as a float; votes on two nodes, and on which of them to enter first.
OX, OY, OZ, DX, DY, DZ, IX, IY, IZ, BEST, SLOT, _ONE, _TWO, _FIRST = (row * LANES for row in range(14))
WORKSPACE = 14 * LANES

_CRACK = np.float32(1e-5)
"""Barycentric coordinates may be this far below zero: it closes the cracks between triangles."""
_GRAZED = np.float32(1 + 1e-6)
"""Rounding must not lose a ray that only grazes a box."""
LEAST = np.float32(1e-12)
"""Components of a direction nearer to zero than this are moved away from it before they are inverted."""


@nb.njit(**INLINE)
def _load(i, used, origins, directions, w):
    """Rays i .. i + used - 1 into the workspace, the other lanes off."""
    for lane in range(LANES):
        ray = i + min(lane, used - 1)
        for axis in range(3):
            d = directions[ray, axis]
            w[OX + axis * LANES + lane] = origins[ray, axis]
            w[DX + axis * LANES + lane] = d
            w[IX + axis * LANES + lane] = ONE / (d if abs(d) > LEAST else LEAST)
        w[BEST + lane] = FAR if lane < used else NOBODY
        w[SLOT + lane] = NOBODY


@nb.njit(**INLINE)
def _vote(boxes, one, two, w):
    """How many rays of the packet enter each of two nodes before what they have met, and how many more want the first
    of them first."""
    lx, ly, lz, hx, hy, hz = boxes[one, 0], boxes[one, 1], boxes[one, 2], boxes[one, 3], boxes[one, 4], boxes[one, 5]
    kx, ky, kz, gx, gy, gz = boxes[two, 0], boxes[two, 1], boxes[two, 2], boxes[two, 3], boxes[two, 4], boxes[two, 5]
    for lane in range(LANES):
        ox, oy, oz = w[OX + lane], w[OY + lane], w[OZ + lane]
        ix, iy, iz = w[IX + lane], w[IY + lane], w[IZ + lane]
        best = w[BEST + lane]
        a, b = (lx - ox) * ix, (hx - ox) * ix
        enter, leave = min(a, b), max(a, b)
        a, b = (ly - oy) * iy, (hy - oy) * iy
        enter, leave = max(enter, min(a, b)), min(leave, max(a, b))
        a, b = (lz - oz) * iz, (hz - oz) * iz
        enter, leave = max(max(enter, min(a, b)), ZERO), min(min(leave, max(a, b)), best)
        enter_one = enter if enter <= leave * _GRAZED else FAR
        a, b = (kx - ox) * ix, (gx - ox) * ix
        enter, leave = min(a, b), max(a, b)
        a, b = (ky - oy) * iy, (gy - oy) * iy
        enter, leave = max(enter, min(a, b)), min(leave, max(a, b))
        a, b = (kz - oz) * iz, (gz - oz) * iz
        enter, leave = max(max(enter, min(a, b)), ZERO), min(min(leave, max(a, b)), best)
        enter_two = enter if enter <= leave * _GRAZED else FAR
        w[_ONE + lane] = ONE if enter_one < FAR else ZERO
        w[_TWO + lane] = ONE if enter_two < FAR else ZERO
        w[_FIRST + lane] = (ONE if enter_one < enter_two else ZERO) - (ONE if enter_two < enter_one else ZERO)
    return total(w, _ONE), total(w, _TWO), total(w, _FIRST)


@nb.njit(**INLINE)
def _meet_triangle(triangles, slot, least, w):
    """Let every ray of the packet that meets this triangle, from either side, before its best so far take it; what is
    nearer than ``least`` is not met."""
    t = triangles[slot]
    ax, ay, az = t[0], t[1], t[2]
    ex, ey, ez = t[3], t[4], t[5]
    fx, fy, fz = t[6], t[7], t[8]
    nx, ny, nz = ey * fz - ez * fy, ez * fx - ex * fz, ex * fy - ey * fx
    cx, inv_bx, inv_cy = t[CX], t[INV_BX], t[INV_CY]
    number = np.float32(slot)
    for lane in range(LANES):
        dx, dy, dz = w[DX + lane], w[DY + lane], w[DZ + lane]
        px, py, pz = w[OX + lane] - ax, w[OY + lane] - ay, w[OZ + lane] - az
        slope = dx * nx + dy * ny + dz * nz
        parallel = slope == ZERO
        distance = -(px * nx + py * ny + pz * nz) / (ONE if parallel else slope)
        px, py, pz = px + distance * dx, py + distance * dy, pz + distance * dz
        v = (px * fx + py * fy + pz * fz) * inv_cy
        u = (px * ex + py * ey + pz * ez - v * cx) * inv_bx
        inside = min(min(u, v), ONE - u - v)
        inside = NOBODY if parallel else inside
        met = distance if inside >= -_CRACK else FAR
        met = met if distance >= least else FAR
        best = w[BEST + lane]
        w[SLOT + lane] = number if met < best else w[SLOT + lane]
        w[BEST + lane] = met if met < best else best


@nb.njit(**INLINE)
def _meet_leaf(count, leaves, node, triangles, least, w):
    """The same for all triangles of a leaf that have an area."""
    leaf = node - (leaves - 1)
    for slot in range(leaf * count // leaves, (leaf + 1) * count // leaves):
        if triangles[slot, INV_CY] > ZERO:
            _meet_triangle(triangles, slot, least, w)


@nb.njit(**INLINE)
def cast_packet(count, leaves, triangles, boxes, least, w, stack):
    """What the packet in the workspace meets first, at ``least`` or farther."""
    top = 1
    stack[0] = 0
    while top > 0:
        top -= 1
        node = stack[top]
        # What was near enough when pushed may not be any more.
        if _vote(boxes, node, node, w)[0] == ZERO:
            continue
        while node < leaves - 1:
            near, far = 2 * node + 1, 2 * node + 2
            enter_near, enter_far, first = _vote(boxes, near, far, w)
            if enter_near == ZERO and enter_far == ZERO:
                node = -1
                break
            if first < ZERO:
                near, far = far, near
                enter_near, enter_far = enter_far, enter_near
            if enter_near == ZERO:
                near, enter_far = far, ZERO
            if enter_far > ZERO:
                stack[top] = far
                top += 1
            node = near
        if node < 0:
            continue
        _meet_leaf(count, leaves, node, triangles, least, w)


@nb.njit(**INLINE)
def _block_packet(count, leaves, triangles, boxes, w, stack):
    """Whether the packet in the workspace meets anything: SLOT is -1 where not. Which triangle it was is by chance."""
    top = 1
    stack[0] = 0
    while top > 0:
        top -= 1
        node = stack[top]
        while node < leaves - 1:
            near, far = 2 * node + 1, 2 * node + 2
            enter_near, enter_far, _ = _vote(boxes, near, far, w)
            if enter_near == ZERO and enter_far == ZERO:
                node = -1
                break
            # Where most go: there most will be blocked soonest.
            if enter_far > enter_near:
                near, far = far, near
                enter_near, enter_far = enter_far, enter_near
            if enter_far > ZERO:
                stack[top] = far
                top += 1
            node = near
        if node < 0:
            continue
        _meet_leaf(count, leaves, node, triangles, ZERO, w)
        waiting = ZERO
        for lane in range(LANES):
            w[BEST + lane] = NOBODY if w[SLOT + lane] >= ZERO else w[BEST + lane]
            waiting += ONE if w[BEST + lane] > ZERO else ZERO
        if waiting == ZERO:
            return


@nb.njit(**INLINE)
def _locate(t, origin, direction, barycentric):
    """Distance to a triangle that a ray meets and where, in double precision: the place in a triangle of a millimetre
    is a small difference of distances of half a metre."""
    height = slope = along_x = along_y = step_x = step_y = 0.0
    for axis in range(3):
        second, third = (axis + 1) % 3, (axis + 2) % 3
        e, f = np.float64(t[3 + axis]), np.float64(t[6 + axis])
        n = np.float64(t[3 + second]) * t[6 + third] - np.float64(t[3 + third]) * t[6 + second]
        p, d = np.float64(origin[axis]) - t[axis], np.float64(direction[axis])
        height, slope = height + p * n, slope + d * n
        along_x, along_y = along_x + p * e, along_y + p * f
        step_x, step_y = step_x + d * e, step_y + d * f
    distance = -height / slope
    v = (along_y + distance * step_y) * t[INV_CY]
    u = (along_x + distance * step_x - v * t[CX]) * t[INV_BX]
    u, v, w = max(u, 0.0), max(v, 0.0), max(1.0 - u - v, 0.0)
    whole = u + v + w
    barycentric[0], barycentric[1], barycentric[2] = w / whole, u / whole, v / whole
    return distance


@nb.njit(**KERNEL)
def cast(begin, end, triangles, boxes, leaves, order, origins, directions, distance, face, barycentric):
    """What the rays of packets begin .. end - 1 meet first: distance in lengths of the direction, face and barycentric
    coordinates [3] there; inf, -1 and 0 where they meet nothing."""
    count = len(order)
    w = np.empty(WORKSPACE, np.float32)
    stack = np.empty(STACK, np.int64)
    for packet in range(begin, end):
        i = packet * LANES
        used = min(LANES, len(origins) - i)
        _load(i, used, origins, directions, w)
        cast_packet(count, leaves, triangles, boxes, ZERO, w, stack)
        for lane in range(used):
            ray, slot = i + lane, int(w[SLOT + lane])
            if slot < 0:
                distance[ray] = np.inf
                face[ray] = -1
                barycentric[ray] = ZERO
                continue
            face[ray] = order[slot]
            distance[ray] = _locate(triangles[slot], origins[ray], directions[ray], barycentric[ray])


@nb.njit(**INLINE)
def cast_own(i, end, addresses, mesh_index, origins, directions, near, leaves, count, w, stack):
    """Cast the rays from i on that have one mesh, a packet at most, at that mesh: how many they are, its triangles."""
    mesh = mesh_index[i]
    used = same_mesh(mesh_index, i, end)
    _load(i, used, origins, directions, w)
    triangles = nb.carray(pointer(addresses[mesh, 0]), (count, TRIANGLE))
    boxes = nb.carray(pointer(addresses[mesh, 1]), (2 * leaves - 1, BOX))
    cast_packet(count, leaves, triangles, boxes, near, w, stack)
    return used, triangles


@nb.njit(**KERNEL)
def first_hit(begin, end, addresses, mesh_index, origins, directions, near, leaves, order, distance, face):
    """Distance from ``near`` on to the first triangle of its own mesh that each of rays[begin:end] meets, and the face;
    inf and -1 where it meets none."""
    count = len(order)
    w = np.empty(WORKSPACE, np.float32)
    stack = np.empty(STACK, np.int64)
    i = begin
    while i < end:
        used, _ = cast_own(i, end, addresses, mesh_index, origins, directions, near, leaves, count, w, stack)
        for lane in range(used):
            slot = int(w[SLOT + lane])
            distance[i + lane] = w[BEST + lane] if slot >= 0 else np.float32(np.inf)
            face[i + lane] = order[slot] if slot >= 0 else -1
        i += used


@nb.njit(**KERNEL)
def occluded(begin, end, triangles, boxes, leaves, order, origins, directions, blocked):
    """Whether the rays of packets begin .. end - 1 meet anything."""
    count = len(order)
    w = np.empty(WORKSPACE, np.float32)
    stack = np.empty(STACK, np.int64)
    for packet in range(begin, end):
        i = packet * LANES
        used = min(LANES, len(origins) - i)
        _load(i, used, origins, directions, w)
        _block_packet(count, leaves, triangles, boxes, w, stack)
        for lane in range(used):
            blocked[i + lane] = w[SLOT + lane] >= ZERO
