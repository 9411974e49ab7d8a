"""Warp kernels of the search structure and the way into the canonical head: one thread a point, a sample or a ray."""
# No `from __future__ import annotations` here: Warp reads the annotations of kernel arguments as objects.

import warp as wp

from flame_nerf.kernels.ray_ends import CHORD, PAST

wp.set_module_options({"enable_backward": False})

_PAST, _CHORD = wp.constant(PAST), wp.constant(CHORD)
_MAT34 = wp.types.matrix(shape=(3, 4), dtype=wp.float32)


@wp.kernel
def nearest(
    meshes: wp.array(dtype=wp.uint64),
    mesh_index: wp.array(dtype=wp.int64),
    points: wp.array(dtype=wp.vec3),
    max_distance: float,
    face: wp.array(dtype=wp.int64),
    distance: wp.array(dtype=float),
):
    i = wp.tid()
    mesh = meshes[int(mesh_index[i])]
    query = wp.mesh_query_point_no_sign(mesh, points[i], max_distance)
    if query.result:
        face[i] = wp.int64(query.face)
        distance[i] = wp.length(wp.mesh_eval_position(mesh, query.face, query.u, query.v) - points[i])
    else:
        face[i] = wp.int64(-1)
        distance[i] = wp.inf


@wp.kernel
def first_hit(
    meshes: wp.array(dtype=wp.uint64),
    mesh_index: wp.array(dtype=wp.int64),
    origins: wp.array(dtype=wp.vec3),
    directions: wp.array(dtype=wp.vec3),
    distance: wp.array(dtype=float),
    face: wp.array(dtype=wp.int64),
):
    ray = wp.tid()
    hit = wp.mesh_query_ray(meshes[int(mesh_index[ray])], origins[ray], directions[ray], 1.0e30)
    if hit.result:
        distance[ray] = hit.t
        face[ray] = wp.int64(hit.face)
    else:
        distance[ray] = wp.inf
        face[ray] = wp.int64(-1)


@wp.func
def _split(row: _MAT34):
    """Linear part and offset of a transform."""
    linear = wp.mat33(row[0, 0], row[0, 1], row[0, 2], row[1, 0], row[1, 1], row[1, 2], row[2, 0], row[2, 1], row[2, 2])
    return linear, wp.vec3(row[0, 3], row[1, 3], row[2, 3])


@wp.func
def _canonical_cell(row: _MAT34, point: wp.vec3, low: wp.vec3, high: wp.vec3, resolution: int):
    """Cell of the canonical box, numbered as in `kernels.cells`, in which a point lies after a transform."""
    carried = row * wp.vec4(point[0], point[1], point[2], 1.0)
    cell = int(0)  # noqa: UP018  (a dynamic variable, which Warp tells from a constant by the call)
    for axis in range(3):
        along = (carried[axis] - low[axis]) * (float(resolution) / (high[axis] - low[axis]))
        cell = cell * resolution + int(wp.clamp(along, 0.0, float(resolution - 1)))
    return cell


@wp.kernel
def march(
    meshes: wp.array(dtype=wp.uint64),
    bounds: wp.array(dtype=wp.vec3, ndim=2),
    mesh_index: wp.array(dtype=wp.int64),
    origins: wp.array(dtype=wp.vec3),
    directions: wp.array(dtype=wp.vec3),
    start: wp.array(dtype=float),
    shell: wp.array(dtype=float),
    shell_most: float,
    near: float,
    far: float,
    step: float,
    behind: float,
    grazing: float,
    layers: int,
    max_samples: int,
    density: wp.array(dtype=float),
    least_density: float,
    unseen_too: bool,
    box: wp.array(dtype=wp.vec3),
    resolution: int,
    tables: wp.array(dtype=wp.uint64),
    faces: int,
    counts: wp.array(dtype=wp.int64),
    skipped: wp.array(dtype=wp.int64),
    sample_k: wp.array(dtype=int, ndim=2),
    sample_face: wp.array(dtype=int, ndim=2),
    sample_distance: wp.array(dtype=float, ndim=2),
):
    # Samples are counted as skipped where `density` of their cell is below `least_density` (or inf, never met, and
    # `unseen_too`), after the way to the canonical head by `tables`, addresses of transforms [F, 3, 4]. Without a
    # density nothing is skipped.
    ray = wp.tid()
    which = int(mesh_index[ray])
    mesh = meshes[which]
    origin = origins[ray]
    direction = directions[ray]
    t_low = near
    t_high = far
    for axis in range(3):
        d = direction[axis]
        if wp.abs(d) < 1.0e-12:
            d = 1.0e-12
        t0 = (bounds[which, 0][axis] - shell_most - origin[axis]) / d
        t1 = (bounds[which, 1][axis] + shell_most - origin[axis]) / d
        t_low = wp.max(t_low, wp.min(t0, t1))
        t_high = wp.min(t_high, wp.max(t0, t1))
    kept = int(0)  # noqa: UP018
    found = int(0)  # noqa: UP018
    if t_low <= t_high:
        if behind < 1.0e30:
            # From `near` on, and no farther than anything will be sampled.
            hit = wp.mesh_query_ray(mesh, origin + near * direction, direction, t_high - near)
            # See `kernels.ray_ends`.
            enters = float(hit.t) + near
            cosine = float(wp.dot(hit.normal, direction))
            layer = int(0)  # noqa: UP018
            if not hit.result:
                layer = layers + 1
            while layer <= layers:
                steepness = wp.max(wp.abs(cosine), 1.0e-12)
                depth = wp.max(behind, wp.min(behind / steepness, grazing))
                look = wp.max(depth, _CHORD * behind / steepness) - _PAST
                leaves = wp.mesh_query_ray(mesh, origin + (enters + _PAST) * direction, direction, look)
                chord = _PAST + leaves.t
                other = wp.dot(leaves.normal, direction)
                shallow = chord * (steepness + wp.abs(other)) < _CHORD * behind
                if layer < layers and leaves.result and cosine * other < 0.0 and (chord < depth or shallow):
                    start_again = enters + chord + _PAST
                    again = wp.mesh_query_ray(mesh, origin + start_again * direction, direction, t_high - start_again)
                    enters = start_again + again.t
                    cosine = wp.dot(again.normal, direction)
                    layer += 1
                    if not again.result:
                        layer = layers + 1
                else:
                    t_high = wp.min(t_high, enters + depth)
                    layer = layers + 1
        shift = start[ray] + 0.5
        k = int(wp.ceil(t_low / step - shift))
        last = int(wp.floor(t_high / step - shift))
        # Beyond the shell it is enough to know that nothing is near: a short look ahead, then a leap.
        look = shell_most + wp.max(4.0 * step, 0.3 * shell_most)
        while k <= last and found < max_samples:
            point = origin + (float(k) + shift) * step * direction
            query = wp.mesh_query_point_no_sign(mesh, point, look)
            leap = look - shell_most
            if query.result:
                away = wp.length(wp.mesh_eval_position(mesh, query.face, query.u, query.v) - point)
                leap = away - shell_most
                if away <= shell[query.face]:
                    found += 1
                    full = True
                    if density.shape[0] > 0:
                        transforms = wp.array(ptr=tables[which], shape=(faces,), dtype=_MAT34)
                        met = density[_canonical_cell(transforms[query.face], point, box[0], box[1], resolution)]
                        full = met >= least_density and not (unseen_too and wp.isinf(met))
                    if full:
                        sample_k[ray, kept] = k
                        sample_face[ray, kept] = query.face
                        sample_distance[ray, kept] = away
                        kept += 1
            k += wp.max(1, int(wp.floor(leap / step)))
    counts[ray] = wp.int64(kept)
    skipped[ray] = wp.int64(found - kept)


@wp.kernel
def pack(
    offsets: wp.array(dtype=wp.int64),
    mesh_index: wp.array(dtype=wp.int64),
    start: wp.array(dtype=float),
    step: float,
    sample_k: wp.array(dtype=int, ndim=2),
    sample_face: wp.array(dtype=int, ndim=2),
    sample_distance: wp.array(dtype=float, ndim=2),
    ray_index: wp.array(dtype=wp.int64),
    sample_mesh: wp.array(dtype=wp.int64),
    t_start: wp.array(dtype=float),
    t_end: wp.array(dtype=float),
    face: wp.array(dtype=wp.int64),
    distance: wp.array(dtype=float),
):
    ray = wp.tid()
    first = int(offsets[ray])
    for i in range(int(offsets[ray + 1]) - first):
        k = float(sample_k[ray, i]) + start[ray]
        ray_index[first + i] = wp.int64(ray)
        sample_mesh[first + i] = mesh_index[ray]
        t_start[first + i] = k * step
        t_end[first + i] = (k + 1.0) * step
        face[first + i] = wp.int64(sample_face[ray, i])
        distance[first + i] = sample_distance[ray, i]


@wp.kernel
def apply_tables(
    tables: wp.array(dtype=wp.uint64),
    faces: int,
    width: int,
    transpose: bool,
    mesh_index: wp.array(dtype=wp.int64),
    face: wp.array(dtype=wp.int64),
    vectors: wp.array(dtype=wp.vec3),
    out: wp.array(dtype=wp.vec3),
):
    # As `CarryKernels.apply_tables` has it.
    i = wp.tid()
    v = vectors[i]
    if face[i] < wp.int64(0):
        out[i] = v
        return
    linear = wp.mat33()
    offset = wp.vec3()
    if width == 4:
        row = wp.array(ptr=tables[int(mesh_index[i])], shape=(faces,), dtype=_MAT34)[int(face[i])]
        linear, offset = _split(row)
    else:
        linear = wp.array(ptr=tables[int(mesh_index[i])], shape=(faces,), dtype=wp.mat33)[int(face[i])]
    if transpose:
        out[i] = wp.transpose(linear) * v
    else:
        out[i] = linear * v + offset


@wp.kernel
def carry_samples(
    tables: wp.array(dtype=wp.uint64),
    meshes: int,
    faces: int,
    ray_index: wp.array(dtype=wp.int64),
    mesh_index: wp.array(dtype=wp.int64),
    face: wp.array(dtype=wp.int64),
    t_start: wp.array(dtype=float),
    t_end: wp.array(dtype=float),
    origins: wp.array(dtype=wp.vec3),
    directions: wp.array(dtype=wp.vec3),
    out_points: wp.array(dtype=wp.vec3),
    out_directions: wp.array(dtype=wp.vec3),
):
    # `tables`: addresses of the meshes' transforms [F, 3, 4], then of their rotations [F, 3, 3].
    n = wp.tid()
    ray = int(ray_index[n])
    mesh = int(mesh_index[n])
    direction = directions[ray]
    t = 0.5 * (t_start[n] + t_end[n])
    linear, offset = _split(wp.array(ptr=tables[mesh], shape=(faces,), dtype=_MAT34)[int(face[n])])
    rotation = wp.array(ptr=tables[meshes + mesh], shape=(faces,), dtype=wp.mat33)[int(face[n])]
    out_points[n] = linear * (origins[ray] + t * direction) + offset
    out_directions[n] = rotation * direction


@wp.kernel
def carry_samples_gradient(
    tables: wp.array(dtype=wp.uint64),
    meshes: int,
    faces: int,
    offsets: wp.array(dtype=wp.int64),
    mesh_index: wp.array(dtype=wp.int64),
    face: wp.array(dtype=wp.int64),
    t_start: wp.array(dtype=float),
    t_end: wp.array(dtype=float),
    grad_points: wp.array(dtype=wp.vec3),
    grad_directions: wp.array(dtype=wp.vec3),
    out_origins: wp.array(dtype=wp.vec3),
    out_directions: wp.array(dtype=wp.vec3),
):
    # As `CarryKernels.carry_samples_gradient` has it. One thread a ray: sums in a fixed order, and no atomics.
    ray = wp.tid()
    to_origin = wp.vec3()
    to_direction = wp.vec3()
    for n in range(int(offsets[ray]), int(offsets[ray + 1])):
        mesh = int(mesh_index[n])
        t = 0.5 * (t_start[n] + t_end[n])
        linear, _ = _split(wp.array(ptr=tables[mesh], shape=(faces,), dtype=_MAT34)[int(face[n])])
        rotation = wp.array(ptr=tables[meshes + mesh], shape=(faces,), dtype=wp.mat33)[int(face[n])]
        moved = wp.transpose(linear) * grad_points[n]
        to_origin += moved
        to_direction += t * moved + wp.transpose(rotation) * grad_directions[n]
    out_origins[ray] = to_origin
    out_directions[ray] = to_direction
