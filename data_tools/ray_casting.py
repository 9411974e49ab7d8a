"""What rays meet of a triangle mesh, and which of its points are nearest: on the CPU, by our own search structure."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from flame_nerf.canonical import NumbaSearch

_FURTHEST = 1e12
"""Nearest points are looked for within this distance, metres: farther than any mesh, nearer than where the search puts
triangles without area."""


@dataclass(frozen=True)
class SurfacePoints:
    """Places on a mesh, one for each ray or point that was asked about."""

    distance: Float[np.ndarray, "*R"]
    """From a ray's origin, in lengths of its direction; from a point, in metres. inf where nothing was found."""
    face: Int[np.ndarray, "*R"]
    """-1 where nothing was found."""
    barycentric: Float[np.ndarray, "*R 3"]
    """Not negative, sum 1; 0 where nothing was found."""

    def at(self, chosen: Bool[np.ndarray, "*R"]) -> SurfacePoints:
        """Some of them, in one row."""
        return SurfacePoints(self.distance[chosen], self.face[chosen], self.barycentric[chosen])


class MeshRays:
    """A triangle mesh that stands still, to be asked any number of times, from any number of threads.

    Triangles are met from either side; those without area are never met and never nearest. Computes in float32, all but
    where on a triangle a place is.
    """

    def __init__(self, vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"]) -> None:
        """
        Args:
            vertices: metres, in the frame that rays and points will be given in.
            faces: vertices of each triangle; there may be none.
        """
        self._faces = faces
        self._vertices = _tensor(vertices)
        self._search = NumbaSearch(torch.from_numpy(faces.astype(np.int64)), self._vertices)
        self._handle = self._search.build(self._vertices)

    def posed(self, vertices: Float[np.ndarray, "V 3"]) -> MeshRays:
        """The same mesh with its vertices elsewhere, metres: many times cheaper than a new one."""
        other = copy.copy(self)
        other._vertices = _tensor(vertices)  # noqa: SLF001
        other._handle = self._search.build(other._vertices)  # noqa: SLF001
        return other

    def cast(self, origins: Float[np.ndarray, "*#R 3"], directions: Float[np.ndarray, "*#R 3"]) -> SurfacePoints:
        """What each ray meets first. Fastest where rays that follow each other go alike, as neighbouring pixels' do.

        Args:
            origins: metres; broadcast against the directions.
            directions: of any length but zero, which the distances are measured in.
        """
        shape, rays = _rows(origins, directions)
        distance, face, barycentric = (found.numpy() for found in self._search.cast(self._handle, *rays))
        return SurfacePoints(distance.reshape(shape), face.reshape(shape), barycentric.reshape(*shape, 3))

    def occluded(
        self, origins: Float[np.ndarray, "*#R 3"], directions: Float[np.ndarray, "*#R 3"]
    ) -> Bool[np.ndarray, "*R"]:
        """Whether each ray meets anything at all, however far away.

        Args:
            origins, directions: as for `cast`.
        """
        shape, rays = _rows(origins, directions)
        return self._search.occluded(self._handle, *rays).numpy().reshape(shape)

    def closest(self, points: Float[np.ndarray, "N 3"]) -> SurfacePoints:
        """The place on the mesh that is nearest to each point (metres)."""
        mesh = torch.zeros(len(points), dtype=torch.int64)
        nearest = self._search.nearest([self._handle], mesh, _tensor(points), _FURTHEST)
        face, distance = (found.numpy() for found in nearest)
        found = face >= 0
        barycentric = np.zeros((len(points), 3), dtype=np.float32)
        corners = self._vertices.numpy()[self._faces[face[found]]].astype(np.float64)
        barycentric[found] = _nearest_in_triangle(points[found], corners)
        return SurfacePoints(distance, face, barycentric)


def _tensor(values: np.ndarray) -> torch.Tensor:
    # A copy, also of what has this type already: nobody is to move our vertices.
    return torch.from_numpy(np.array(values, dtype=np.float32, order="C"))


def _rows(origins: np.ndarray, directions: np.ndarray) -> tuple[tuple[int, ...], tuple[torch.Tensor, torch.Tensor]]:
    """Shape of the rays, and both as rows."""
    shape = np.broadcast_shapes(origins.shape, directions.shape)
    origins, directions = (_tensor(np.broadcast_to(values, shape)).view(-1, 3) for values in (origins, directions))
    return shape[:-1], (origins, directions)


def _nearest_in_triangle(
    points: Float[np.ndarray, "N 3"], corners: Float[np.ndarray, "N 3 3"]
) -> Float[np.ndarray, "N 3"]:
    """Barycentric coordinates of the nearest place in each point's own triangle, which has an area."""
    a, b, c = (corners[:, k] for k in range(3))
    ab, ac, ap = b - a, c - a, points - a
    bb, bc, cc, pb, pc = ((u * v).sum(axis=1) for u, v in ((ab, ab), (ab, ac), (ac, ac), (ap, ab), (ap, ac)))
    doubled = bb * cc - bc * bc
    v, w = (pb * cc - pc * bc) / doubled, (pc * bb - pb * bc) / doubled
    result = np.stack([1 - v - w, v, w], axis=1)
    outside = result.min(axis=1) < 0
    best = np.where(outside, np.inf, 0.0)
    for k in range(3):
        start, along = corners[:, k], corners[:, (k + 1) % 3] - corners[:, k]
        share = np.clip(((points - start) * along).sum(axis=1) / (along**2).sum(axis=1), 0, 1)[:, None]
        away = ((start + share * along - points) ** 2).sum(axis=1)
        on_edge = np.zeros_like(result)
        on_edge[:, [k]], on_edge[:, [(k + 1) % 3]] = 1 - share, share
        result = np.where((away < best)[:, None], on_edge, result)
        best = np.minimum(best, away)
    return result
