"""Depth of a mesh by the ray caster, and of the ellipsoid by its equation: oracles for the rasteriser."""

import numpy as np
from synthetic import RADII

from data_tools.depth.mesh import MeshDepth
from data_tools.ray_casting import MeshRays


def by_rays(vertices, faces, c2w, intrinsics, size) -> MeshDepth:
    """What a ray through every pixel's middle meets."""
    fl_x, fl_y, cx, cy = intrinsics
    x, y = np.meshgrid(np.arange(size[0]) + 0.5, np.arange(size[1]) + 0.5)
    # One metre along the camera's axis: the distance that is found is depth.
    directions = np.stack([(x - cx) / fl_x, -(y - cy) / fl_y, -np.ones_like(x)], axis=-1) @ c2w[:3, :3].T
    hit = MeshRays(vertices, faces).cast(c2w[:3, 3], directions)
    return MeshDepth(np.where(hit.face >= 0, hit.distance.astype(np.float64), np.nan), hit.face)


def ellipsoid_depth(c2w, intrinsics, size):
    """Depth along the camera's axis of the ellipsoid itself, from the quadratic equation; NaN beside it."""
    fl_x, fl_y, cx, cy = intrinsics
    x, y = np.meshgrid(np.arange(size[0]) + 0.5, np.arange(size[1]) + 0.5)
    d = np.stack([(x - cx) / fl_x, -(y - cy) / fl_y, -np.ones_like(x)], axis=-1) @ c2w[:3, :3].T / RADII
    o = c2w[:3, 3] / RADII
    a, b, c = (d * d).sum(-1), (d * o).sum(-1), (o * o).sum() - 1
    with np.errstate(invalid="ignore"):
        return (-b - np.sqrt(b * b - a * c)) / a
