"""Slow, plain float64 versions of what `flame_nerf.canonical` computes, and meshes to try them on.

Written from the formulas, not from the code: point-triangle distance by Voronoi regions (Ericson, Real-Time Collision
Detection, 5.1.5), frames as 4x4 matrices inverted numerically, neighbourhoods by counting shared vertices.
"""

from __future__ import annotations

import numpy as np

TIE = 1e-7
"""Metres within which two faces are equally near: more than float32 makes of head-sized coordinates."""


def icosphere(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Unit sphere of 10 n^2 + 2 vertices and 20 n^2 faces, facing out."""
    phi = (1 + 5**0.5) / 2
    corners = [(0, s, t * phi) for s in (1, -1) for t in (1, -1)]
    corners = np.array([np.roll(c, k) for k in range(3) for c in corners], float)
    near = np.linalg.norm(corners[:, None] - corners[None], axis=-1) < 2.1
    vertices: list[np.ndarray] = []
    index: dict[tuple, int] = {}
    faces = []

    def vertex(point: np.ndarray) -> int:
        key = tuple(np.round(point, 6) + 0.0)
        if key not in index:
            index[key] = len(vertices)
            vertices.append(point / np.linalg.norm(point))
        return index[key]

    for a in range(12):
        for b in range(a + 1, 12):
            for c in range(b + 1, 12):
                if not (near[a, b] and near[b, c] and near[a, c]):
                    continue
                p, q, r = corners[[a, b, c]]
                if np.dot(np.cross(q - p, r - p), p) < 0:
                    q, r = r, q
                grid = {
                    (i, j): vertex((p * (n - i - j) + q * i + r * j) / n)
                    for i in range(n + 1)
                    for j in range(n + 1 - i)
                }
                for i, j in grid:
                    if i + j < n:
                        faces.append((grid[i, j], grid[i + 1, j], grid[i, j + 1]))
                    if i + j < n - 1:
                        faces.append((grid[i + 1, j], grid[i + 1, j + 1], grid[i, j + 1]))
    return np.array(vertices), np.array(faces)


def head_like(n: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """An egg of a head's size (metres) with a nose, brows and a chin; y up, z forward."""
    v, faces = icosphere(n)
    nose = 0.25 * np.exp(-((v[:, 0] / 0.2) ** 2) - (v[:, 1] / 0.25) ** 2) * (v[:, 2] > 0)
    ripples = 0.03 * np.sin(9 * v[:, 0]) * np.cos(7 * v[:, 1]) + 0.02 * np.sin(20 * v[:, 2])
    return v * (1 + nose + ripples)[:, None] * np.array([0.075, 0.115, 0.095]), faces


def deformed(vertices: np.ndarray, seed: int, amount: float = 1.0) -> np.ndarray:
    """The head with its jaw dropped, one cheek blown and everything wavy: a few millimetres to a centimetre."""
    rng = np.random.default_rng(seed)
    x, y, z = vertices.T
    jaw = np.clip((-0.01 - y) / 0.05, 0, 1) * (z > 0)
    out = vertices + amount * np.stack((0 * x, -0.02 * jaw, -0.01 * jaw), axis=1)
    cheek = np.exp(-((x - 0.04) ** 2 + y**2 + (z - 0.07) ** 2) / 0.02**2)
    out = out + amount * 0.008 * cheek[:, None] * vertices / np.linalg.norm(vertices, axis=1, keepdims=True)
    frequency, phase = rng.normal(size=(3, 3)) * 30, rng.uniform(0, 6, 3)
    return out + amount * 0.002 * np.sin(vertices @ frequency + phase)


def closest_points(points: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Nearest point of every triangle [F, 3, 3] to every point [N, 3]: [N, F, 3]. Triangles must have an area."""
    a, b, c = triangles[None, :, 0], triangles[None, :, 1], triangles[None, :, 2]
    p = points[:, None]

    def dot(u: np.ndarray, v: np.ndarray) -> np.ndarray:
        return (u * v).sum(-1)

    ab, ac = b - a, c - a
    d1, d2 = dot(ab, p - a), dot(ac, p - a)
    d3, d4 = dot(ab, p - b), dot(ac, p - b)
    d5, d6 = dot(ab, p - c), dot(ac, p - c)
    va, vb, vc = d3 * d6 - d5 * d4, d5 * d2 - d1 * d6, d1 * d4 - d3 * d2
    with np.errstate(divide="ignore", invalid="ignore"):
        cases = [
            ((d1 <= 0) & (d2 <= 0), 0 * d1, 0 * d1),
            ((d3 >= 0) & (d4 <= d3), 0 * d1 + 1, 0 * d1),
            ((d6 >= 0) & (d5 <= d6), 0 * d1, 0 * d1 + 1),
            ((vc <= 0) & (d1 >= 0) & (d3 <= 0), d1 / (d1 - d3), 0 * d1),
            ((vb <= 0) & (d2 >= 0) & (d6 <= 0), 0 * d1, d2 / (d2 - d6)),
            (
                (va <= 0) & (d4 >= d3) & (d5 >= d6),
                1 - (d4 - d3) / ((d4 - d3) + (d5 - d6)),
                (d4 - d3) / ((d4 - d3) + (d5 - d6)),
            ),
        ]
        total = va + vb + vc
        v = np.select([case[0] for case in cases], [case[1] for case in cases], vb / total)
        w = np.select([case[0] for case in cases], [case[2] for case in cases], vc / total)
    return a + v[..., None] * ab + w[..., None] * ac


def distances(points: np.ndarray, vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Distance of every point to every face [N, F]; inf for faces without area."""
    triangles = vertices[faces]
    normal = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
    edges = ((triangles - np.roll(triangles, 1, axis=1)) ** 2).sum((1, 2))
    alive = np.flatnonzero(np.linalg.norm(normal, axis=1) > 1e-6 * edges)
    out = np.full((len(points), len(faces)), np.inf)
    for chunk in np.array_split(np.arange(len(points)), max(1, len(points) * len(faces) // 500_000)):
        nearest = closest_points(points[chunk], triangles[alive])
        out[chunk[:, None], alive] = np.linalg.norm(nearest - points[chunk, None], axis=-1)
    return out


def ring(faces: np.ndarray, face: int, kind: str) -> np.ndarray:
    """Faces in the neighbourhood of one, by the number of vertices they share with it."""
    shared = np.isin(faces, faces[face]).sum(axis=1)
    return np.flatnonzero(shared >= {"face": 3, "edge": 2, "vertex": 1}[kind]) if kind != "face" else np.array([face])


def frame(triangle: np.ndarray) -> np.ndarray | None:
    """L = [R t; 0 1] of a triangle, or None where it has no area."""
    a, b, c = triangle
    normal = np.cross(b - a, c - a)
    if np.linalg.norm(normal) <= 1e-6 * sum(((u - v) ** 2).sum() for u, v in ((a, b), (b, c), (c, a))):
        return None
    normal = normal / np.linalg.norm(normal)
    tangent = (b - a) / np.linalg.norm(b - a)
    out = np.eye(4)
    out[:3, :3] = np.stack((tangent, np.cross(normal, tangent), normal), axis=1)
    out[:3, 3] = triangle.mean(axis=0)
    return out


def area(triangle: np.ndarray) -> float:
    return 0.5 * float(np.linalg.norm(np.cross(triangle[1] - triangle[0], triangle[2] - triangle[0])))


def carry(
    point: np.ndarray,
    face: int,
    posed: np.ndarray,
    canonical: np.ndarray,
    faces: np.ndarray,
    *,
    kind: str = "edge",
    beta: float = 4.0,
    squared: bool = True,
    scale: bool = True,
    scale_limit: float = 2.0,
) -> np.ndarray:
    """The patent's blend for one point whose nearest face is known: the blended 3x4 transform."""
    total, weights = np.zeros((4, 4)), 0.0
    members = [f for f in ring(faces, face, kind) if frame(posed[faces[f]]) is not None]
    members = [f for f in members if frame(canonical[faces[f]]) is not None]
    if not members:
        shift = np.eye(4)
        shift[:3, 3] = canonical[faces[face]].mean(axis=0) - posed[faces[face]].mean(axis=0)
        return shift[:3]
    distance = {f: np.linalg.norm(posed[faces[f]].mean(axis=0) - point) for f in members}
    exponents = {f: -beta * (distance[f] ** 2 if squared else distance[f]) for f in members}
    most = max(exponents.values())
    for f in members:
        before, after = frame(posed[faces[f]]), frame(canonical[faces[f]])
        if scale:
            ratio = np.sqrt(area(canonical[faces[f]]) / area(posed[faces[f]]))
            after[:3, :3] *= np.clip(ratio, 1 / scale_limit, scale_limit)
        weight = np.exp(exponents[f] - most)
        total += weight * (after @ np.linalg.inv(before))
        weights += weight
    return (total / weights)[:3]


def map_points(points: np.ndarray, posed: np.ndarray, canonical: np.ndarray, faces: np.ndarray, **config):
    """Every point through the blend of its nearest face; of faces equally near, all: list of (faces, positions)."""
    found = []
    away = distances(points, posed, faces)
    for point, row in zip(points, away, strict=True):
        nearest = np.flatnonzero(row <= row.min() + TIE)
        carried = [
            t[:, :3] @ point + t[:, 3] for t in (carry(point, f, posed, canonical, faces, **config) for f in nearest)
        ]
        found.append((nearest, np.array(carried)))
    return found


def mapping_errors(found, carried: np.ndarray) -> np.ndarray:
    """Metres between positions and the nearest of the oracle's answers."""
    return np.array(
        [np.linalg.norm(answers - point, axis=1).min() for (_, answers), point in zip(found, carried, strict=True)]
    )


def is_inside(points: np.ndarray, vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Whether points [N, 3] are inside a closed mesh, by its winding number.

    Solid angles of triangles after Van Oosterom and Strackee, The Solid Angle of a Plane Triangle, equation 8.
    """
    a, b, c = np.moveaxis(vertices[faces][None] - points[:, None, None], 2, 0)
    la, lb, lc = (np.linalg.norm(corner, axis=-1) for corner in (a, b, c))
    volume = (a * np.cross(b, c)).sum(-1)
    scalar = la * lb * lc + (a * b).sum(-1) * lc + (b * c).sum(-1) * la + (c * a).sum(-1) * lb
    return 2 * np.arctan2(volume, scalar).sum(axis=1) > 2 * np.pi
