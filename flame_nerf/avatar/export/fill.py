"""Colours of what nobody sees: its neighbours', smoothly from all sides."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int

from flame_nerf.avatar.export.atlas import Atlas

SURE = 0.5
"""Weight from which a texel's own colour counts alone."""
_CLOSE = 2.0
"""How many times farther than the closest a vertex of a piece of which nothing is known may be from what is known to
take its colour; the rest of the piece follows those."""
_LEAST = 0.1
"""Weight below which it tells nothing of its vertices."""


def filled(
    atlas: Atlas,
    vertices: Float[np.ndarray, "V 3"],
    triangles: Int[np.ndarray, "F 3"],
    region: Int[np.ndarray, " F"],
    colour: Float[np.ndarray, "N 3"],
    weight: Float[np.ndarray, " N"],
) -> Float[np.ndarray, "N 3"]:
    """Colours of the covered texels, those with little weight of their own from their neighbours on the mesh.

    Between what is known colours are harmonic: the back of a head that never turned goes from one side's hair to the
    other's without a seam. Regions are filled by themselves, so that hair does not run into the neck; one of which
    nothing is known from those around it, and what hangs on nothing (a row of teeth) from what is nearest.

    Args:
        atlas: of the mesh.
        vertices: metres.
        region: of each triangle.
        colour: of the covered texels, row by row; anything where the weight is zero.
        weight: how well each is known, 0 to 1.
    """
    covered = atlas.covered
    corners = triangles[atlas.texel_triangle[covered]]
    tells = weight > _LEAST
    share = atlas.texel_barycentric[covered][tells] * weight[tells, None]
    total, known = np.zeros((len(vertices), 3)), np.zeros(len(vertices))
    for corner in range(3):
        np.add.at(known, corners[tells, corner], share[:, corner])
        np.add.at(total, corners[tells, corner], share[:, corner, None] * colour[tells])
    has = known > 0
    if not has.any():
        return colour
    at_vertex = np.divide(total, known[:, None], out=np.zeros_like(total), where=has[:, None])
    edges = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    # An edge between two regions belongs to neither, but for those of which nothing else is known.
    of_vertex = np.zeros(len(vertices), np.int64)
    of_vertex[triangles] = np.asarray(region, np.int64)[:, None]
    for allowed in (of_vertex[edges[:, 0]] == of_vertex[edges[:, 1]], np.ones(len(edges), bool)):
        at_vertex, has = _harmonic(at_vertex, has, edges[allowed], vertices)
    at_vertex, has = _seeded(at_vertex, has, edges, vertices)
    at_vertex, _ = _harmonic(at_vertex, has, edges, vertices)
    smooth = np.einsum("nk,nkc->nc", atlas.texel_barycentric[covered], at_vertex[corners])
    own = np.clip(weight / SURE, 0, 1)[:, None] * tells[:, None]
    return np.where(own > 0, own * colour, 0.0) + (1 - own) * smooth


def _harmonic(
    values: Float[np.ndarray, "V 3"],
    known: Bool[np.ndarray, " V"],
    edges: Int[np.ndarray, "E 2"],
    vertices: Float[np.ndarray, "V 3"],
) -> tuple[Float[np.ndarray, "V 3"], Bool[np.ndarray, " V"]]:
    """Values of vertices that edges join to known ones, each the mean of its neighbours, the nearer the more."""
    from scipy.sparse import coo_matrix, diags
    from scipy.sparse.csgraph import connected_components
    from scipy.sparse.linalg import spsolve

    count = len(vertices)
    length = np.linalg.norm(vertices[edges[:, 0]] - vertices[edges[:, 1]], axis=1)
    pull = 1 / np.maximum(length, 1e-4)
    graph = coo_matrix((pull, (edges[:, 0], edges[:, 1])), (count, count)).tocsr()
    graph = graph + graph.T
    _, part = connected_components(graph, directed=False)
    wanted = np.flatnonzero(~known & np.isin(part, part[known]))
    if not len(wanted):
        return values, known
    laplacian = (diags(np.asarray(graph.sum(axis=1)).ravel()) - graph).tocsr()
    fixed = np.flatnonzero(known)
    values, known = values.copy(), known.copy()
    pulled = -(laplacian[wanted][:, fixed] @ values[fixed])
    values[wanted] = spsolve(laplacian[wanted][:, wanted].tocsc(), pulled).reshape(len(wanted), 3)
    known[wanted] = True
    return values, known


def _seeded(
    values: Float[np.ndarray, "V 3"],
    known: Bool[np.ndarray, " V"],
    edges: Int[np.ndarray, "E 2"],
    vertices: Float[np.ndarray, "V 3"],
) -> tuple[Float[np.ndarray, "V 3"], Bool[np.ndarray, " V"]]:
    """Of each piece of which nothing is known, the vertices that are closest to something known take its value: of a
    row of teeth those in front, which the lips touch, not the hindmost, which are nearer to the neck."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import cKDTree

    if known.all():
        return values, known
    joined = coo_matrix((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), (len(vertices),) * 2)
    _, piece = connected_components(joined, directed=False)
    missing = np.flatnonzero(~known)
    distance, nearest = cKDTree(vertices[known]).query(vertices[missing])
    colours, values, known = values[known], values.copy(), known.copy()
    for one in np.unique(piece[missing]):
        rows = np.flatnonzero(piece[missing] == one)
        close = rows[distance[rows] <= _CLOSE * distance[rows].min()]
        values[missing[close]] = colours[nearest[close]]
        known[missing[close]] = True
    return values, known
