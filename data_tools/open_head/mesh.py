"""Mesh surgery for the open head: mirror pairs, mirror-invariant triangles, a planar-clean cut."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import csr_matrix
from scipy.spatial import cKDTree

# A cut edge this close to one of its ends (as a share of the edge) is cut at the end: no slivers.
_SNAP = 0.15


def mirror_pairs(vertices: Float[np.ndarray, "N 3"], tolerance: float) -> Int[np.ndarray, " N"]:
    """For each vertex the one that mirrors it in x = 0 (a midline vertex mirrors itself).

    Raises:
        ValueError: some vertex has no partner within `tolerance` metres, or partners disagree.
    """
    distance, pair = cKDTree(vertices).query(vertices * [-1.0, 1.0, 1.0])
    if distance.max() > tolerance:
        raise ValueError(f"vertex {distance.argmax()} has no mirror partner within {tolerance} m")
    if not np.array_equal(pair[pair], np.arange(len(pair))):
        raise ValueError("mirror partners disagree: two vertices share one place")
    return pair


def symmetrise(vertices: Float[np.ndarray, "*B N 3"], pair: Int[np.ndarray, " N"]) -> Float[np.ndarray, "*B N 3"]:
    """The mirror-symmetric part of positions or offsets."""
    return 0.5 * (vertices + mirrored(vertices, pair))


def mirrored(vertices: Float[np.ndarray, "*B N 3"], pair: Int[np.ndarray, " N"]) -> Float[np.ndarray, "*B N 3"]:
    """Positions or offsets reflected in x = 0, vertex order kept."""
    return vertices[..., pair, :] * np.array([-1.0, 1.0, 1.0])


def triangulate(quads: Int[np.ndarray, "Q 4"], vertices: Float[np.ndarray, "N 3"]) -> Int[np.ndarray, "2Q 3"]:
    """Two triangles a quad (rows 2q and 2q+1), split along the shorter diagonal, so mirrored quads split alike."""
    first = np.linalg.norm(vertices[quads[:, 0]] - vertices[quads[:, 2]], axis=1)
    second = np.linalg.norm(vertices[quads[:, 1]] - vertices[quads[:, 3]], axis=1)
    # The margin keeps rounding from deciding between equal diagonals.
    along_first = (first <= second * (1 + 1e-6))[:, None]
    upper = np.where(along_first, quads[:, [0, 1, 2]], quads[:, [0, 1, 3]])
    lower = np.where(along_first, quads[:, [0, 2, 3]], quads[:, [1, 2, 3]])
    return np.stack([upper, lower], axis=1).reshape(-1, 3)


def cut(
    faces: Int[np.ndarray, "F 3"], height: Float[np.ndarray, " N"], vertices: Float[np.ndarray, "N 3"]
) -> tuple[Int[np.ndarray, "G 3"], csr_matrix, Int[np.ndarray, " G"]]:
    """Cuts a mesh along the zero line of a function on its vertices and keeps the positive side.

    Args:
        height: the function's value at each vertex, linear within a face.

    Returns:
        faces of the kept side, in rows of the mixing matrix; the matrix (M, N) that makes the new vertices from the old
        ones (positions, blendshapes, weights alike; kept vertices first, in their old order); the old face of each.
    """
    height = _snap(faces, height)
    used = np.unique(faces[(height[faces] > 0).any(1)])
    used = used[height[used] >= 0]
    row = {int(v): i for i, v in enumerate(used)}
    crossings: dict[tuple[int, int], int] = {}
    mixes: list[tuple[int, int, float]] = []

    def crossing(a: int, b: int) -> int:
        key = (min(a, b), max(a, b))
        if key not in crossings:
            share = height[key[0]] / (height[key[0]] - height[key[1]])
            crossings[key] = len(used) + len(mixes)
            mixes.append((key[0], key[1], share))
        return crossings[key]

    kept: list[tuple[int, int, int]] = []
    origin: list[int] = []
    for f, face in enumerate(faces):
        above = height[face] > 0
        if not above.any():
            continue
        polygon = []
        for k in range(3):
            a, b = int(face[k]), int(face[(k + 1) % 3])
            if height[a] >= 0:
                polygon.append(row[a])
            if height[a] * height[b] < 0:
                polygon.append(crossing(a, b))
        for k in range(1, len(polygon) - 1):
            kept.append((polygon[0], polygon[k], polygon[k + 1]))
            origin.append(f)
    count = len(used) + len(mixes)
    rows = np.concatenate([np.arange(len(used)), np.repeat(np.arange(len(used), count), 2)])
    columns = np.concatenate([used, np.array([m[:2] for m in mixes], dtype=np.int64).reshape(-1)])
    values = np.concatenate([np.ones(len(used)), np.array([(1 - m[2], m[2]) for m in mixes]).reshape(-1)])
    matrix = csr_matrix((values, (rows, columns)), shape=(count, len(height)))
    return np.array(kept, dtype=np.int64), matrix, np.array(origin, dtype=np.int64)


def _snap(faces: Int[np.ndarray, "F 3"], height: Float[np.ndarray, " N"]) -> Float[np.ndarray, " N"]:
    """Moves the zero line onto vertices that it almost touches."""
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    a, b = height[edges[:, 0]], height[edges[:, 1]]
    crossing = a * b < 0
    share = np.abs(a[crossing]) / (np.abs(a[crossing]) + np.abs(b[crossing]))
    near = np.concatenate([edges[crossing][share < _SNAP, 0], edges[crossing][share > 1 - _SNAP, 1]])
    height = height.copy()
    height[near] = 0.0
    return height


def largest_part(faces: Int[np.ndarray, "F 3"], count: int) -> np.ndarray:
    """Mask of the faces in the largest connected part of a mesh of `count` vertices."""
    from scipy.sparse.csgraph import connected_components

    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]]])
    graph = csr_matrix((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=(count, count))
    label = connected_components(graph, directed=False)[1][faces[:, 0]]
    return label == np.bincount(label).argmax()
