"""Warp kernels of the search structure: one thread a point or a ray, on CUDA or the CPU."""
# No `from __future__ import annotations` here: Warp reads the annotations of kernel arguments as objects.

import warp as wp

wp.set_module_options({"enable_backward": False})


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
    max_samples: int,
    counts: wp.array(dtype=wp.int64),
    sample_k: wp.array(dtype=int, ndim=2),
    sample_face: wp.array(dtype=int, ndim=2),
    sample_distance: wp.array(dtype=float, ndim=2),
):
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
    kept = int(0)  # noqa: UP018  (a dynamic variable, which Warp tells from a constant by the call)
    if t_low <= t_high:
        if behind < 1.0e30:
            # From `near` on, and no farther than anything will be sampled.
            hit = wp.mesh_query_ray(mesh, origin + near * direction, direction, t_high - near)
            if hit.result:
                t_high = wp.min(t_high, near + hit.t + behind)
        shift = start[ray] + 0.5
        k = int(wp.ceil(t_low / step - shift))
        last = int(wp.floor(t_high / step - shift))
        # Beyond the shell it is enough to know that nothing is near: a short look ahead, then a leap.
        look = shell_most + wp.max(4.0 * step, 0.3 * shell_most)
        while k <= last and kept < max_samples:
            point = origin + (float(k) + shift) * step * direction
            query = wp.mesh_query_point_no_sign(mesh, point, look)
            leap = look - shell_most
            if query.result:
                away = wp.length(wp.mesh_eval_position(mesh, query.face, query.u, query.v) - point)
                leap = away - shell_most
                if away <= shell[query.face]:
                    sample_k[ray, kept] = k
                    sample_face[ray, kept] = query.face
                    sample_distance[ray, kept] = away
                    kept += 1
            k += wp.max(1, int(wp.floor(leap / step)))
    counts[ray] = wp.int64(kept)


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
