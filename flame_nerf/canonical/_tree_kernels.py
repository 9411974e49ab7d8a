"""CPU kernels of the search structure: a bounding-volume tree queried by packets of eight points.

Used by `_march_kernels`, which inlines what it takes from here. numba looks only at a kernel's own file to see whether
its compiled version on disk is old: after a change here, touch that file.

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
"""Floats per triangle: corner a, edges ab and ac, then |ab|^2, ab.ac, and the inverses of the Gram determinant,
|ab|^2, |ac|^2, |bc|^2, then |ac|^2 (0 where there is no area)."""
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
            t = triangles[slot]
            aa = t[3] * t[3] + t[4] * t[4] + t[5] * t[5]
            bb = t[3] * t[6] + t[4] * t[7] + t[5] * t[8]
            cc = t[6] * t[6] + t[7] * t[7] + t[8] * t[8]
            nx = t[4] * t[8] - t[5] * t[7]
            ny = t[5] * t[6] - t[3] * t[8]
            nz = t[3] * t[7] - t[4] * t[6]
            square = nx * nx + ny * ny + nz * nz
            opposite = aa - np.float32(2) * bb + cc
            if np.sqrt(square) > sliver_ratio * (aa + cc + opposite):
                t[9], t[10], t[15] = aa, bb, cc
                t[11] = ONE / square
                t[12] = ONE / aa
                t[13] = ONE / cc
                t[14] = ONE / opposite
                alive += 1
            else:
                t[9:16] = ZERO
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
def _total(w, row):
    return (w[row] + w[row + 1] + w[row + 2] + w[row + 3]) + (w[row + 4] + w[row + 5] + w[row + 6] + w[row + 7])


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
    return _total(w, _ROOM), _total(w, _ROOM_TWO)


@nb.njit(**INLINE)
def _clip01(x):
    x = x if x > ZERO else ZERO
    return x if x < ONE else ONE


@nb.njit(**INLINE)
def _test_triangle(triangles, slot, face, w):
    """Let every point of the packet take this triangle where it is nearer than its best so far.

    The nearest point of a triangle is the foot of the perpendicular if that is inside, else on one of three edges: all
    four are computed from residual vectors (no cancellation) and the smallest distance taken.
    """
    ax, ay, az = triangles[slot, 0], triangles[slot, 1], triangles[slot, 2]
    bx, by, bz = triangles[slot, 3], triangles[slot, 4], triangles[slot, 5]
    cx, cy, cz = triangles[slot, 6], triangles[slot, 7], triangles[slot, 8]
    aa, ab, cc = triangles[slot, 9], triangles[slot, 10], triangles[slot, 15]
    inv_det, inv_aa, inv_cc, inv_bc = (
        triangles[slot, 11],
        triangles[slot, 12],
        triangles[slot, 13],
        triangles[slot, 14],
    )
    number = np.float32(face)
    for lane in range(LANES):
        x, y, z = w[PX + lane] - ax, w[PY + lane] - ay, w[PZ + lane] - az
        d1 = x * bx + y * by + z * bz
        d2 = x * cx + y * cy + z * cz
        # along ab
        s = _clip01(d1 * inv_aa)
        rx, ry, rz = x - s * bx, y - s * by, z - s * bz
        best = rx * rx + ry * ry + rz * rz
        # along ac
        s = _clip01(d2 * inv_cc)
        rx, ry, rz = x - s * cx, y - s * cy, z - s * cz
        other = rx * rx + ry * ry + rz * rz
        best = best if best < other else other
        # along bc
        s = _clip01((d2 - d1 - ab + aa) * inv_bc)
        rx, ry, rz = x - bx - s * (cx - bx), y - by - s * (cy - by), z - bz - s * (cz - bz)
        other = rx * rx + ry * ry + rz * rz
        best = best if best < other else other
        # inside
        u = (cc * d1 - ab * d2) * inv_det
        v = (aa * d2 - ab * d1) * inv_det
        rx, ry, rz = x - u * bx - v * cx, y - u * by - v * cy, z - u * bz - v * cz
        other = rx * rx + ry * ry + rz * rz
        low = u if u < v else v
        low = low if low < ONE - u - v else ONE - u - v
        other = other if low >= ZERO else FAR
        best = best if best < other else other
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
            if triangles[slot, 11] > ZERO:
                _test_triangle(triangles, slot, order[slot], w)


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
        used = 1
        while used < LANES and i + used < end and mesh_index[i + used] == mesh:
            used += 1
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
