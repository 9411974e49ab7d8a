"""CPU kernels of the search structure: a bounding-volume tree queried by packets of eight points.

Used by `march` and `rays`, which inline what they take from here.

Consecutive samples of a ray have nearly the same nearest face, so eight of them walk the tree together: a node is
entered when any of the eight needs it, and every arithmetic loop runs over the eight, which LLVM turns into one vector
instruction. That makes an exact nearest face three to six times cheaper than a query per point.

The tree is a complete binary one (children of node n: 2n+1, 2n+2), the same for all frames of a subject; a frame only
has its own boxes and triangles. Meshes of one batch are passed as addresses of their arrays, so that one call serves
many frames without copying them together. All kernels release the GIL.
"""

from __future__ import annotations

import numba as nb
import numpy as np
from numba import types
from numba.extending import intrinsic

LANES = 8
"""Points in a packet."""
TRIANGLE = 16
"""Floats per triangle: corner a, the directions x (along ab) and y of its plane, then, in that plane, the x of b, x and
y of c, and the inverses of |ac|^2, |bc|^2, the x of b and the y of c (0 where there is no area)."""
BX, CX, CY, INV_AC, INV_BC, INV_BX, INV_CY = range(9, 16)
BOX = 6
"""Floats per node: lower corner, upper corner."""

# Rows of the packet's workspace, LANES floats each. One array with constant offsets: that is how LLVM sees that
# reading one row and writing another do not collide, and vectorises. Face numbers are kept as floats (exact to 2^24).
PX, PY, PZ, BEST, FACE, _ROOM, _ROOM_TWO, MISSED = (row * LANES for row in range(8))
WORKSPACE = 8 * LANES
STACK = 128

ZERO, ONE = np.float32(0), np.float32(1)
FAR = np.float32(3e38)
NOBODY = np.float32(-1)
EVERYWHERE = np.float32(1e15)
"""A reach that leaves nothing out; its square is a float32."""
# Outside a convex edge or corner all its faces are equally near, up to rounding. The lowest number wins, so that the
# answer does not depend on the order in which the tree was walked; squared distances this close count as equal.
_MORE, _LESS = np.float32(1 + 2e-6), np.float32(1 - 2e-6)

KERNEL = {"nogil": True, "cache": True, "fastmath": {"nnan", "nsz", "arcp", "contract", "reassoc"}}
INLINE = {"cache": True, "fastmath": KERNEL["fastmath"]}


@intrinsic
def pointer(typing_context, address):
    """A float32 pointer from an integer address."""

    def codegen(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return types.CPointer(types.float32)(types.uint64), codegen


@nb.njit(**INLINE)
def _lay_flat(t, sliver_ratio):
    """Turn (a, ab, ac) into a triangle of the tree; 1, or 0 for one without area, which is moved out of reach."""
    aa = t[3] * t[3] + t[4] * t[4] + t[5] * t[5]
    ab = t[3] * t[6] + t[4] * t[7] + t[5] * t[8]
    cc = t[6] * t[6] + t[7] * t[7] + t[8] * t[8]
    nx, ny, nz = t[4] * t[8] - t[5] * t[7], t[5] * t[6] - t[3] * t[8], t[3] * t[7] - t[4] * t[6]
    doubled = np.sqrt(nx * nx + ny * ny + nz * nz)
    opposite = aa - np.float32(2) * ab + cc
    if not doubled > sliver_ratio * (aa + cc + opposite):
        t[:3] = EVERYWHERE
        t[3:] = ZERO
        t[3] = t[7] = ONE
        return 0
    length = np.sqrt(aa)
    inverse, flat = ONE / length, ONE / (doubled * length)
    # y = n x ab
    t[6], t[7], t[8] = (ny * t[5] - nz * t[4]) * flat, (nz * t[3] - nx * t[5]) * flat, (nx * t[4] - ny * t[3]) * flat
    t[3], t[4], t[5] = t[3] * inverse, t[4] * inverse, t[5] * inverse
    t[BX], t[CX], t[CY] = length, ab * inverse, doubled * inverse
    t[INV_AC], t[INV_BC], t[INV_BX], t[INV_CY] = ONE / cc, ONE / opposite, inverse, length / doubled
    return 1


@nb.njit(**KERNEL)
def refit(order, vertices, faces, leaves, sliver_ratio, triangles, boxes):
    """Fill a frame's triangles [F, TRIANGLE] (in tree order) and boxes [2 leaves - 1, BOX]; returns faces with area."""
    count = len(order)
    alive = 0
    for leaf in range(leaves):
        node = leaves - 1 + leaf
        for axis in range(3):
            boxes[node, axis] = FAR
            boxes[node, 3 + axis] = -FAR
        for slot in range(leaf * count // leaves, (leaf + 1) * count // leaves):
            face = order[slot]
            a, b, c = faces[face, 0], faces[face, 1], faces[face, 2]
            for axis in range(3):
                low = min(vertices[a, axis], vertices[b, axis], vertices[c, axis])
                high = max(vertices[a, axis], vertices[b, axis], vertices[c, axis])
                boxes[node, axis] = min(boxes[node, axis], low)
                boxes[node, 3 + axis] = max(boxes[node, 3 + axis], high)
                triangles[slot, axis] = vertices[a, axis]
                triangles[slot, 3 + axis] = vertices[b, axis] - vertices[a, axis]
                triangles[slot, 6 + axis] = vertices[c, axis] - vertices[a, axis]
            alive += _lay_flat(triangles[slot], sliver_ratio)
    for node in range(leaves - 2, -1, -1):
        for axis in range(3):
            boxes[node, axis] = min(boxes[2 * node + 1, axis], boxes[2 * node + 2, axis])
            boxes[node, 3 + axis] = max(boxes[2 * node + 1, 3 + axis], boxes[2 * node + 2, 3 + axis])
    return alive


@nb.njit(**INLINE)
def _outside(low, high, x):
    below, above = low - x, x - high
    out = below if below > above else above
    return out if out > ZERO else ZERO


@nb.njit(**INLINE)
def total(w, row):
    """Sum of a packet's eight values."""
    return (w[row] + w[row + 1] + w[row + 2] + w[row + 3]) + (w[row + 4] + w[row + 5] + w[row + 6] + w[row + 7])


@nb.njit(**INLINE)
def same_mesh(mesh_index, i, end):
    """How many from i on, before ``end``, belong to the mesh of the first of them: a packet at most."""
    used = 1
    while used < LANES and i + used < end and mesh_index[i + used] == mesh_index[i]:
        used += 1
    return used


@nb.njit(**INLINE)
def _box_slack(boxes, reach, one, two, w):
    """For two nodes: sum over the packet of (what a point still accepts) - (squared distance to the box), if positive.

    A point accepts what is nearer than its best so far and within the node's reach; the smallest squared distance of a
    box that was out of its own reach is noted in MISSED.

    Positive: enter the node; the larger, the sooner. A sum and not a maximum, results through the workspace and two
    nodes at once: the forms in which LLVM was seen to vectorise it (one node is short enough to be unrolled instead).
    """
    lx, ly, lz, hx, hy, hz = boxes[one, 0], boxes[one, 1], boxes[one, 2], boxes[one, 3], boxes[one, 4], boxes[one, 5]
    kx, ky, kz, gx, gy, gz = boxes[two, 0], boxes[two, 1], boxes[two, 2], boxes[two, 3], boxes[two, 4], boxes[two, 5]
    most_one, most_two = reach[one] * reach[one] * _MORE, reach[two] * reach[two] * _MORE
    for lane in range(LANES):
        px, py, pz = w[PX + lane], w[PY + lane], w[PZ + lane]
        accept = w[BEST + lane] * _MORE
        missed = w[MISSED + lane]
        x, y, z = _outside(lx, hx, px), _outside(ly, hy, py), _outside(lz, hz, pz)
        square = x * x + y * y + z * z
        room = (accept if accept < most_one else most_one) - square
        w[_ROOM + lane] = room if room > ZERO else ZERO
        square = square if square >= most_one else FAR
        missed = missed if missed < square else square
        x, y, z = _outside(kx, gx, px), _outside(ky, gy, py), _outside(kz, gz, pz)
        square = x * x + y * y + z * z
        room = (accept if accept < most_two else most_two) - square
        w[_ROOM_TWO + lane] = room if room > ZERO else ZERO
        square = square if square >= most_two else FAR
        w[MISSED + lane] = missed if missed < square else square
    return total(w, _ROOM), total(w, _ROOM_TWO)


@nb.njit(**INLINE)
def _clip01(x):
    x = x if x > ZERO else ZERO
    return x if x < ONE else ONE


@nb.njit(**INLINE)
def try_triangle(triangles, slot, face, w):
    """Let every point of the packet take this triangle where it is nearer than its best so far.

    In the triangle's own plane: 0 inside, else the smallest of the distances to the three edges; the height above the
    plane comes on top.
    """
    t = triangles[slot]
    ax, ay, az = t[0], t[1], t[2]
    ex, ey, ez = t[3], t[4], t[5]
    fx, fy, fz = t[6], t[7], t[8]
    nx, ny, nz = ey * fz - ez * fy, ez * fx - ex * fz, ex * fy - ey * fx
    bx, cx, cy, inv_ac, inv_bc = t[BX], t[CX], t[CY], t[INV_AC], t[INV_BC]
    dx = cx - bx
    number = np.float32(face)
    for lane in range(LANES):
        px, py, pz = w[PX + lane] - ax, w[PY + lane] - ay, w[PZ + lane] - az
        x = px * ex + py * ey + pz * ez
        y = px * fx + py * fy + pz * fz
        height = px * nx + py * ny + pz * nz
        # along ab
        s = x if x > ZERO else ZERO
        s = s if s < bx else bx
        square = y * y
        best = (x - s) * (x - s) + square
        # along ac
        s = _clip01((x * cx + y * cy) * inv_ac)
        rx, ry = x - s * cx, y - s * cy
        other = rx * rx + ry * ry
        best = best if best < other else other
        # along bc
        beyond = x - bx
        s = _clip01((beyond * dx + y * cy) * inv_bc)
        rx, ry = beyond - s * dx, y - s * cy
        other = rx * rx + ry * ry
        best = best if best < other else other
        # inside: left of all three
        left, right = cy * x - cx * y, dx * y - cy * beyond
        low = left if left < right else right
        low = low if low < y else y
        best = ZERO if low >= ZERO else best
        best += height * height
        limit = w[BEST + lane]
        rival = w[FACE + lane]
        reached = limit * (_MORE if number < rival else _LESS)
        w[FACE + lane] = number if best < reached else rival
        w[BEST + lane] = best if best < limit else limit


@nb.njit(**INLINE)
def nearest_packet(leaves, order, triangles, boxes, reach, w, stack):
    """Nearest triangles of the packet in the workspace.

    Rows PX, PY, PZ: positions; BEST: squared distance that must be beaten (-1: the lane is off); FACE: -1; MISSED: FAR.
    Only triangles within ``reach`` [nodes] of their node's box are looked at. Where MISSED ends below BEST, a triangle
    beyond its reach may be nearer than the one that was found.
    """
    count = len(order)
    top = 1
    stack[0] = 0
    while top > 0:
        top -= 1
        node = stack[top]
        if node >= leaves - 1:
            # What was near enough when pushed may not be any more.
            if _box_slack(boxes, reach, node, node, w)[0] <= ZERO:
                continue
        while node < leaves - 1:
            left, right = 2 * node + 1, 2 * node + 2
            near, far = _box_slack(boxes, reach, left, right, w)
            if near <= ZERO and far <= ZERO:
                node = -1
                break
            if far > near:
                left, right = right, left
                near, far = far, near
            if far > ZERO:
                stack[top] = right
                top += 1
            node = left
        if node < 0:
            continue
        leaf = node - (leaves - 1)
        for slot in range(leaf * count // leaves, (leaf + 1) * count // leaves):
            try_triangle(triangles, slot, order[slot], w)


@nb.njit(**KERNEL)
def nearest(begin, end, addresses, mesh_index, points, max_distance, leaves, order, face, distance):
    """Nearest face and distance of points[begin:end]; -1 and inf where none is within ``max_distance``."""
    count = len(order)
    w = np.empty(WORKSPACE, np.float32)
    stack = np.empty(STACK, np.int64)
    limit = np.float32(max_distance) * np.float32(max_distance)
    limit = min(limit, FAR)
    everywhere = np.full(2 * leaves - 1, EVERYWHERE)
    i = begin
    while i < end:
        mesh = mesh_index[i]
        used = same_mesh(mesh_index, i, end)
        for lane in range(LANES):
            k = i + min(lane, used - 1)
            w[PX + lane], w[PY + lane], w[PZ + lane] = points[k, 0], points[k, 1], points[k, 2]
            w[BEST + lane] = limit if lane < used else NOBODY
            w[FACE + lane] = NOBODY
            w[MISSED + lane] = FAR
        triangles = nb.carray(pointer(addresses[mesh, 0]), (count, TRIANGLE))
        boxes = nb.carray(pointer(addresses[mesh, 1]), (2 * leaves - 1, BOX))
        nearest_packet(leaves, order, triangles, boxes, everywhere, w, stack)
        for lane in range(used):
            found = int(w[FACE + lane])
            face[i + lane] = found
            distance[i + lane] = np.sqrt(w[BEST + lane]) if found >= 0 else np.float32(np.inf)
        i += used
