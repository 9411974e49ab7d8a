"""Normals of a mesh, smoothed: rays and offset surfaces that follow them hardly cross."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int

from flame_nerf.geometry import vertex_normals

if TYPE_CHECKING:
    import scipy.sparse

NORMAL_SWEEPS = 3
"""How often normals are averaged with their neighbours': offsets along them then hardly cross."""


def neighbour_mean(triangles: Int[np.ndarray, "F 3"], count: int) -> scipy.sparse.csr_matrix:
    """Matrix that makes of each of `count` vertices' values the mean of its own and its neighbours'."""
    import scipy.sparse as sparse

    ends = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    ends = np.concatenate([ends, ends[:, ::-1]])
    linked = sparse.coo_matrix((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), (count, count)).tocsr()
    linked.data[:] = 1.0
    linked = linked + sparse.eye(count)
    return (sparse.diags(1 / np.asarray(linked.sum(axis=1)).ravel()) @ linked).tocsr()


def smooth_normals(
    vertices: Float[np.ndarray, "V 3"], triangles: Int[np.ndarray, "F 3"], mean: scipy.sparse.csr_matrix
) -> Float[np.ndarray, "V 3"]:
    """Unit normals of a posed mesh, averaged `NORMAL_SWEEPS` times by `neighbour_mean`. The page computes the same."""
    normals = vertex_normals(vertices, triangles)
    for _ in range(NORMAL_SWEEPS):
        normals = mean @ normals
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    return np.divide(normals, length, out=np.zeros_like(normals), where=length > 0)
