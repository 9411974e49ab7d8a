"""How well training cameras saw each part of the mesh, and how much detail there can be in what they saw."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, UInt8
from scipy.sparse import csr_matrix
from scipy.spatial import cKDTree
from torch import Tensor

from flame_nerf.canonical import MeshSearch, make_search
from flame_nerf.canonical.shell import INNER_REGIONS
from flame_nerf.geometry import triangle_normals
from flame_nerf.losses.silhouette import FRAMES_SAMPLED
from flame_nerf.subject import Frame, HeadTrack

LEAST_COSINE = 0.35
"""A triangle is seen where a camera looks at it at least this steeply."""
WELL_SEEN = 0.7
"""And well where one looks at it so steeply: its colour needs no help."""
OCCLUSION = 0.002
"""Metres that something must lie before a triangle to hide it."""
LEFT_OUT = 3
"""Eighths of the hash grid's levels, the finest, that are left out where no camera saw anything: views are rendered
there too seldom to teach its cells, each of which would keep the colour of the few rays that met it."""
FADE = 0.012
"""Metres over which they come back."""
CREASE = 0.006
"""Metres from what a camera saw within which nothing is left out: lids, lips and ears have creases that none saw."""


def steepest_views(track: HeadTrack, frames: Sequence[Frame]) -> Float[Tensor, " F"]:
    """Cosine at which the camera that looks at each triangle most steeply does so, with nothing of the mesh before it;
    0 where none sees it from in front."""
    faces = torch.from_numpy(track.faces).long()
    search: MeshSearch | None = None
    best = torch.zeros(len(faces))
    for frame in frames[:: max(1, len(frames) // FRAMES_SAMPLED)]:
        vertices = torch.from_numpy(np.asarray(track.vertices[frame.timestep])).float()
        search = search or make_search(faces, vertices, "auto")
        corners = vertices[faces]
        camera = torch.from_numpy(frame.c2w[:3, 3]).float()
        towards = camera - corners.mean(dim=1)
        away = towards.norm(dim=1)
        cosine = (triangle_normals(corners) * towards).sum(dim=1) / away
        asked = ((cosine > best) & (best < WELL_SEEN)).nonzero()[:, 0]
        rays = camera.expand(len(asked), 3).contiguous(), (-towards / away[:, None])[asked].contiguous()
        which = torch.zeros(len(asked), dtype=torch.long)
        hit, _ = search.first_hit([search.build(vertices.contiguous())], which, *rays)
        shown = asked[hit > away[asked] - OCCLUSION]
        best[shown] = cosine[shown]
    return best


def levels_left_out(track: HeadTrack, steepest: Float[Tensor, " F"]) -> UInt8[Tensor, " V"]:
    """Eighths of a hash grid's levels, the finest, that a field shall do without around each vertex, for what is known
    of it. What is inside of mouth and eyes has all levels.

    Args:
        track: the moving mesh.
        steepest: of :func:`steepest_views`.
    """
    faces, vertices = torch.from_numpy(track.faces).long(), track.canonical_vertices
    missing = LEFT_OUT * (1 - steepest / LEAST_COSINE).clamp(0, 1)
    of_vertex = torch.zeros(len(vertices)).index_add_(0, faces.flatten(), missing.repeat_interleave(3))
    of_vertex /= torch.bincount(faces.flatten(), minlength=len(vertices)).clamp_min(1)
    outer = torch.from_numpy(np.flatnonzero(~track.region_vertices(*INNER_REGIONS)))
    result = torch.zeros(len(vertices), dtype=torch.uint8)
    if len(outer):
        tree = cKDTree(vertices[outer])
        missing_there = of_vertex[outer].numpy()
        near = _neighbours(tree, CREASE)
        least = np.minimum.reduceat(missing_there[near.indices], near.indptr[:-1])
        around = _neighbours(tree, FADE)
        mean = np.add.reduceat(least[around.indices], around.indptr[:-1]) / np.diff(around.indptr)
        result[outer] = torch.from_numpy(mean).round().to(torch.uint8)
    return result


def _neighbours(tree: cKDTree, reach: float) -> csr_matrix:
    """Which points of a tree are within reach of each: itself at least."""
    pairs = tree.query_pairs(reach, output_type="ndarray")
    itself = np.arange(tree.n)
    row, column = (np.concatenate([pairs[:, i], pairs[:, 1 - i], itself]) for i in (0, 1))
    return csr_matrix((np.ones(len(row), np.float32), (row, column)), shape=(tree.n, tree.n))
