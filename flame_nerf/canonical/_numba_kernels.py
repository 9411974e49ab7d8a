"""CPU kernels of the search structure: a bounding-volume tree queried by packets of eight points.

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
_PX, _PY, _PZ, _BEST, _FACE, _ROOM, _ROOM_TWO = (row * LANES for row in range(7))
WORKSPACE = 7 * LANES
_STACK = 128

_ZERO, _ONE = np.float32(0), np.float32(1)
_FAR = np.float32(3e38)
_NOBODY = np.float32(-1)
# Outside a convex edge or corner all its faces are equally near, up to rounding. The lowest number wins, so that the
# answer does not depend on the order in which the tree was walked; squared distances this close count as equal.
_MORE, _LESS = np.float32(1 + 2e-6), np.float32(1 - 2e-6)

_options = {"nogil": True, "cache": True, "fastmath": {"nnan", "nsz", "arcp", "contract", "reassoc"}}
_inline = {"cache": True, "fastmath": _options["fastmath"]}


@intrinsic
def _pointer(typing_context, address):
    """A float32 pointer from an integer address."""

    def codegen(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return types.CPointer(types.float32)(types.uint64), codegen


@nb.njit(**_options)
def refit(order, vertices, faces, leaves, sliver_ratio, triangles, boxes):
    """Fill a frame's triangles [F, TRIANGLE] (in tree order) and boxes [2 leaves - 1, BOX]; returns faces with area."""
    count = len(order)
    alive = 0
    for leaf in range(leaves):
        node = leaves - 1 + leaf
        for axis in range(3):
            boxes[node, axis] = _FAR
            boxes[node, 3 + axis] = -_FAR
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
                t[11] = _ONE / square
                t[12] = _ONE / aa
                t[13] = _ONE / cc
                t[14] = _ONE / opposite
                alive += 1
            else:
                t[9:16] = _ZERO
    for node in range(leaves - 2, -1, -1):
        for axis in range(3):
            boxes[node, axis] = min(boxes[2 * node + 1, axis], boxes[2 * node + 2, axis])
            boxes[node, 3 + axis] = max(boxes[2 * node + 1, 3 + axis], boxes[2 * node + 2, 3 + axis])
    return alive


@nb.njit(**_inline)
def _outside(low, high, x):
    below, above = low - x, x - high
    out = below if below > above else above
    return out if out > _ZERO else _ZERO


@nb.njit(**_inline)
def _total(w, row):
    return (w[row] + w[row + 1] + w[row + 2] + w[row + 3]) + (w[row + 4] + w[row + 5] + w[row + 6] + w[row + 7])


@nb.njit(**_inline)
def _box_slack(boxes, one, two, w):
    """For two nodes: sum over the packet of (what a point still accepts) - (squared distance to the box), if positive.

    Positive: enter the node; the larger, the sooner. A sum and not a maximum, results through the workspace and two
    nodes at once: the forms in which LLVM was seen to vectorise it (one node is short enough to be unrolled instead).
    """
    lx, ly, lz, hx, hy, hz = boxes[one, 0], boxes[one, 1], boxes[one, 2], boxes[one, 3], boxes[one, 4], boxes[one, 5]
    kx, ky, kz, gx, gy, gz = boxes[two, 0], boxes[two, 1], boxes[two, 2], boxes[two, 3], boxes[two, 4], boxes[two, 5]
    for lane in range(LANES):
        px, py, pz = w[_PX + lane], w[_PY + lane], w[_PZ + lane]
        accept = w[_BEST + lane] * _MORE
        x, y, z = _outside(lx, hx, px), _outside(ly, hy, py), _outside(lz, hz, pz)
        room = accept - (x * x + y * y + z * z)
        w[_ROOM + lane] = room if room > _ZERO else _ZERO
        x, y, z = _outside(kx, gx, px), _outside(ky, gy, py), _outside(kz, gz, pz)
        room = accept - (x * x + y * y + z * z)
        w[_ROOM_TWO + lane] = room if room > _ZERO else _ZERO
    return _total(w, _ROOM), _total(w, _ROOM_TWO)


@nb.njit(**_inline)
def _clip01(x):
    x = x if x > _ZERO else _ZERO
    return x if x < _ONE else _ONE


@nb.njit(**_inline)
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
        x, y, z = w[_PX + lane] - ax, w[_PY + lane] - ay, w[_PZ + lane] - az
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
        low = low if low < _ONE - u - v else _ONE - u - v
        other = other if low >= _ZERO else _FAR
        best = best if best < other else other
        limit = w[_BEST + lane]
        rival = w[_FACE + lane]
        reached = limit * (_MORE if number < rival else _LESS)
        w[_FACE + lane] = number if best < reached else rival
        w[_BEST + lane] = best if best < limit else limit


@nb.njit(**_inline)
def _nearest_packet(leaves, order, triangles, boxes, w, stack):
    """Nearest triangles of the packet in the workspace.

    Rows PX, PY, PZ: positions; BEST: squared distance that must be beaten (-1: the lane is off); FACE: -1.
    """
    count = len(order)
    top = 1
    stack[0] = 0
    while top > 0:
        top -= 1
        node = stack[top]
        if node >= leaves - 1:
            # What was near enough when pushed may not be any more.
            if _box_slack(boxes, node, node, w)[0] <= _ZERO:
                continue
        while node < leaves - 1:
            left, right = 2 * node + 1, 2 * node + 2
            near, far = _box_slack(boxes, left, right, w)
            if near <= _ZERO and far <= _ZERO:
                node = -1
                break
            if far > near:
                left, right = right, left
                near, far = far, near
            if far > _ZERO:
                stack[top] = right
                top += 1
            node = left
        if node < 0:
            continue
        leaf = node - (leaves - 1)
        for slot in range(leaf * count // leaves, (leaf + 1) * count // leaves):
            if triangles[slot, 11] > _ZERO:
                _test_triangle(triangles, slot, order[slot], w)


@nb.njit(**_options)
def nearest(begin, end, addresses, mesh_index, points, max_distance, leaves, order, face, distance):
    """Nearest face and distance of points[begin:end]; -1 and inf where none is within ``max_distance``."""
    count = len(order)
    w = np.empty(WORKSPACE, np.float32)
    stack = np.empty(_STACK, np.int64)
    limit = np.float32(max_distance) * np.float32(max_distance)
    limit = min(limit, _FAR)
    i = begin
    while i < end:
        mesh = mesh_index[i]
        used = 1
        while used < LANES and i + used < end and mesh_index[i + used] == mesh:
            used += 1
        for lane in range(LANES):
            k = i + min(lane, used - 1)
            w[_PX + lane], w[_PY + lane], w[_PZ + lane] = points[k, 0], points[k, 1], points[k, 2]
            w[_BEST + lane] = limit if lane < used else _NOBODY
            w[_FACE + lane] = _NOBODY
        triangles = nb.carray(_pointer(addresses[mesh, 0]), (count, TRIANGLE))
        boxes = nb.carray(_pointer(addresses[mesh, 1]), (2 * leaves - 1, BOX))
        _nearest_packet(leaves, order, triangles, boxes, w, stack)
        for lane in range(used):
            found = int(w[_FACE + lane])
            face[i + lane] = found
            distance[i + lane] = np.sqrt(w[_BEST + lane]) if found >= 0 else np.float32(np.inf)
        i += used


@nb.njit(**_inline)
def _box_interval(boxes, node, grow, origin, inverse, t_low, t_high):
    """Where a ray is inside a box grown by ``grow``: (entry, exit), entry > exit if nowhere in [t_low, t_high]."""
    for axis in range(3):
        t0 = (boxes[node, axis] - grow - origin[axis]) * inverse[axis]
        t1 = (boxes[node, 3 + axis] + grow - origin[axis]) * inverse[axis]
        near, far = (t0, t1) if t0 < t1 else (t1, t0)
        t_low = near if near > t_low else t_low
        t_high = far if far < t_high else t_high
    return t_low, t_high


@nb.njit(**_inline)
def _first_hit(count, leaves, triangles, boxes, origin, direction, inverse, t_low, t_high, stack):
    """Distance along the ray to the first triangle (either side) in [t_low, t_high], or ``t_high``."""
    top = 1
    stack[0] = 0
    best = t_high
    tolerance = np.float32(1e-5)
    while top > 0:
        top -= 1
        node = stack[top]
        entry, leave = _box_interval(boxes, node, _ZERO, origin, inverse, t_low, best)
        if entry > leave:
            continue
        if node < leaves - 1:
            near, far = 2 * node + 1, 2 * node + 2
            entry_near, leave_near = _box_interval(boxes, near, _ZERO, origin, inverse, t_low, best)
            entry_far, leave_far = _box_interval(boxes, far, _ZERO, origin, inverse, t_low, best)
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
            # Moller-Trumbore; the tolerance closes the cracks between triangles.
            hx, hy, hz = dy * t[8] - dz * t[7], dz * t[6] - dx * t[8], dx * t[7] - dy * t[6]
            det = t[3] * hx + t[4] * hy + t[5] * hz
            if det == _ZERO or t[11] == _ZERO:
                continue
            inv = _ONE / det
            sx, sy, sz = origin[0] - t[0], origin[1] - t[1], origin[2] - t[2]
            u = (sx * hx + sy * hy + sz * hz) * inv
            qx, qy, qz = sy * t[5] - sz * t[4], sz * t[3] - sx * t[5], sx * t[4] - sy * t[3]
            v = (dx * qx + dy * qy + dz * qz) * inv
            if u < -tolerance or v < -tolerance or u + v > _ONE + tolerance:
                continue
            distance = (t[6] * qx + t[7] * qy + t[8] * qz) * inv
            if distance >= t_low and distance < best:
                best = distance
    return best


@nb.njit(**_inline)
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
        if entry > leave or reach[node] < _ZERO:
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


@nb.njit(**_options)
def sample_shell(
    begin, end, addresses, mesh_index, origins, directions, start, near, far, step, behind, max_samples,
    leaves, order, shell, reach, largest_packets,
    counts, out_ray, out_mesh, out_start, out_end, out_face, out_distance,
):  # fmt: skip
    """March rays[begin:end]; samples go to ``out_*`` one after the other, their number per ray to ``counts``.

    ``start`` [R]: shift of the ray's grid in steps; sample k of a ray covers ``(k + start) step`` to
    ``(k + 1 + start) step`` and is kept where its middle lies in the shell. Returns the number of samples.
    """
    count = len(order)
    w = np.empty(WORKSPACE, np.float32)
    stack = np.empty(_STACK, np.int64)
    marks = np.zeros(largest_packets, np.uint8)
    inverse = np.empty(3, np.float32)
    reach_most = reach[0]
    limit = reach_most * reach_most
    half = np.float32(0.5)
    packet_length = np.float32(LANES) * step
    total = 0
    for ray in range(begin, end):
        counts[ray] = 0
        mesh = mesh_index[ray]
        triangles = nb.carray(_pointer(addresses[mesh, 0]), (count, TRIANGLE))
        boxes = nb.carray(_pointer(addresses[mesh, 1]), (2 * leaves - 1, BOX))
        origin, direction = origins[ray], directions[ray]
        for axis in range(3):
            d = direction[axis]
            if abs(d) < np.float32(1e-12):
                d = np.float32(1e-12)
            inverse[axis] = _ONE / d
        t_low, t_high = _box_interval(boxes, 0, reach_most, origin, inverse, near, far)
        if not (t_low <= t_high):
            continue
        if behind < _FAR:
            hit = _first_hit(count, leaves, triangles, boxes, origin, direction, inverse, near, t_high, stack)
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
        kept = 0
        for packet in range(packets + 1):
            if marks[packet] == 0:
                continue
            marks[packet] = 0
            if kept >= max_samples:
                continue
            k0 = first + packet * LANES
            for lane in range(LANES):
                t = (np.float32(k0 + lane) + shift) * step
                w[_PX + lane] = origin[0] + t * direction[0]
                w[_PY + lane] = origin[1] + t * direction[1]
                w[_PZ + lane] = origin[2] + t * direction[2]
                w[_BEST + lane] = limit if k0 + lane <= last else _NOBODY
                w[_FACE + lane] = _NOBODY
            _nearest_packet(leaves, order, triangles, boxes, w, stack)
            for lane in range(LANES):
                face = int(w[_FACE + lane])
                if face < 0 or kept >= max_samples:
                    continue
                distance = np.sqrt(w[_BEST + lane])
                if distance > shell[face]:
                    continue
                out_ray[total] = ray
                out_mesh[total] = mesh
                out_start[total] = (np.float32(k0 + lane) + start[ray]) * step
                out_end[total] = (np.float32(k0 + lane) + start[ray] + _ONE) * step
                out_face[total] = face
                out_distance[total] = distance
                total += 1
                kept += 1
        counts[ray] = kept
    return total


@nb.njit(**_options)
def apply_tables(addresses, width, transpose, mesh_index, face, vectors, faces, out):
    """``out = M v + offset`` with rows [M | offset] of tables [F, 3, width] (width 4; 3: no offset), or ``M^T v``."""
    for i in range(len(vectors)):
        table = nb.carray(_pointer(addresses[mesh_index[i]]), (faces, 3 * width))
        row = table[face[i]]
        x, y, z = vectors[i, 0], vectors[i, 1], vectors[i, 2]
        for axis in range(3):
            if transpose:
                out[i, axis] = row[axis] * x + row[width + axis] * y + row[2 * width + axis] * z
            else:
                value = row[width * axis] * x + row[width * axis + 1] * y + row[width * axis + 2] * z
                out[i, axis] = value + row[width * axis + 3] if width == 4 else value
