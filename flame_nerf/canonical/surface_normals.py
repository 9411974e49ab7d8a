"""Which way the head's surface faces where rays end."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from flame_nerf.canonical.mapping import CanonicalMapping
from flame_nerf.canonical.posed import PosedMesh
from flame_nerf.geometry import triangle_normals


@torch.no_grad()
def surface_normals(
    mapping: CanonicalMapping,
    meshes: Sequence[PosedMesh],
    mesh_index: Int[Tensor, " R"],
    points: Float[Tensor, "R 3"],
    directions: Float[Tensor, "R 3"],
) -> Float[Tensor, "R 3"]:
    """Normals of the posed meshes nearest to points, turned towards where rays came from.

    The mesh is the smooth surface that the density lies around: its normals have no noise, and over hair they are the
    scalp's.

    Args:
        mapping: of the meshes' topology.
        meshes: the B moments' meshes.
        mesh_index: moment of each point.
        points: where the rays end, metres, in the posed heads' world.
        directions: of the rays.

    Returns:
        unit vectors; zero where the nearest triangle has no area.
    """
    face = mapping.to_canonical(meshes, mesh_index, points).face
    corners = torch.stack([mesh.vertices for mesh in meshes])[mesh_index[:, None], mapping.faces[face]]
    normals = triangle_normals(corners)
    return normals.where((normals * directions).sum(dim=1, keepdim=True) <= 0, -normals)
