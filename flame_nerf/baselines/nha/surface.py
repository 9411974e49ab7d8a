"""The coarse mesh of a head: its topology, finer where it is coarse, and its posed shapes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from flame_nerf.canonical.frames import nearest_rotation, triangle_frames
from flame_nerf.geometry import vertex_normals


@dataclass(frozen=True)
class SurfaceMesh:
    """The tracked mesh of one moment."""

    vertices: Float[Tensor, "V 3"]
    """Posed, world metres."""
    frames: Float[Tensor, "V 3 3"]
    """Rotation of the head's surface around each vertex, from the canonical mesh to this one."""

    @property
    def nbytes(self) -> int:
        """Memory of all of it."""
        return self.vertices.nbytes + self.frames.nbytes


@dataclass(frozen=True)
class Surfaces:
    """The moved meshes of B moments. Differentiable in what moved them."""

    vertices: Float[Tensor, "B V 3"]
    """World metres."""
    normals: Float[Tensor, "B V 3"]
    """Unit length, outwards."""


class HeadSurface(nn.Module):
    """The topology of a head's mesh, each triangle split in four until there are enough.

    Attributes:
        faces: vertex indices.
        canonical: vertices of the rest head, metres.
        edges: the two vertices of each edge, the smaller first.
        edge_faces: the triangles at each edge; -1 for the second of an edge with a single one.
        levels: how often the track's triangles were split: those of triangle f are f 4^levels and the following.
    """

    faces: Int[Tensor, "F 3"]
    canonical: Float[Tensor, "V 3"]
    edges: Int[Tensor, "E 2"]
    edge_faces: Int[Tensor, "E 2"]
    degree: Float[Tensor, "V 1"]
    face_count: Float[Tensor, "V 1"]

    def __init__(self, faces: Int[Tensor, "G 3"], vertices: Float[Tensor, "U 3"], least_faces: int):
        """
        Args:
            faces, vertices: of the track's rest head.
            least_faces: triangles below which all are split.
        """
        super().__init__()
        self._splits: list[Int[Tensor, "E 2"]] = []
        edges, face_edges, edge_faces = _edges_of(faces)
        while len(faces) < least_faces:
            self._splits.append(edges)
            faces = _split(faces, face_edges + len(vertices))
            vertices = torch.cat([vertices, vertices[edges].mean(dim=1)])
            edges, face_edges, edge_faces = _edges_of(faces)
        self.levels = len(self._splits)
        degree = torch.bincount(edges.flatten(), minlength=len(vertices))
        face_count = torch.bincount(faces.flatten(), minlength=len(vertices))
        tables = {
            "faces": faces, "canonical": vertices, "edges": edges, "edge_faces": edge_faces,
            "degree": degree.clamp_min(1)[:, None].float(), "face_count": face_count.clamp_min(1)[:, None].float(),
        }  # fmt: skip
        for name, table in tables.items():
            self.register_buffer(name, table, persistent=False)

    def split(self, values: Float[Tensor, "... U D"]) -> Float[Tensor, "... V D"]:
        """Values of the track's vertices at all vertices."""
        for edges in self._splits:
            values = torch.cat([values, values[..., edges.to(values.device), :].mean(dim=-2)], dim=-2)
        return values

    def of_faces(self, values: Float[Tensor, "... G D"]) -> Float[Tensor, "... V D"]:
        """Means at the vertices of values of the track's triangles."""
        values = values.repeat_interleave(4**self.levels, dim=-2).repeat_interleave(3, dim=-2)
        sums = values.new_zeros(*values.shape[:-2], len(self.canonical), values.shape[-1])
        return sums.index_add(-2, self.faces.flatten(), values) / self.face_count

    def pose(self, vertices: Float[Tensor, "U 3"]) -> SurfaceMesh:
        """The mesh of a moment, from the track's vertices in the head's world, metres."""
        with torch.no_grad():
            vertices = self.split(vertices)
            posed, rest = triangle_frames(vertices, self.faces), triangle_frames(self.canonical, self.faces)
            turned = posed.rotation @ rest.rotation.transpose(1, 2)
            turned = turned * (posed.valid & rest.valid)[:, None, None]
            sums = turned.new_zeros(len(vertices), 9)
            sums = sums.index_add(0, self.faces.flatten(), turned.flatten(1).repeat_interleave(3, dim=0))
            return SurfaceMesh(vertices, nearest_rotation(sums.view(-1, 3, 3)))

    def moved(self, meshes: list[SurfaceMesh], offsets: Float[Tensor, "B V 3"]) -> Surfaces:
        """Meshes of several moments, each vertex moved in the frame of the surface around it.

        Args:
            meshes: of the moments.
            offsets: metres, in the canonical head. Differentiable.
        """
        frames = torch.stack([mesh.frames for mesh in meshes])
        vertices = torch.stack([mesh.vertices for mesh in meshes]) + (frames @ offsets[..., None])[..., 0]
        return Surfaces(vertices, self.normals(vertices))

    def normals(self, vertices: Float[Tensor, "B V 3"]) -> Float[Tensor, "B V 3"]:
        """Unit normals of several meshes."""
        count, size = vertices.shape[:2]
        first = torch.arange(count, device=vertices.device)[:, None, None] * size
        return vertex_normals(vertices.flatten(0, 1), (self.faces + first).flatten(0, 1)).view_as(vertices)

    def roughness(self, values: Float[Tensor, "V D"]) -> Float[Tensor, "V D"]:
        """The (uniform) Laplacian of values at the vertices: their difference from the mean of their neighbours."""
        first, second = self.edges.unbind(dim=1)
        sums = torch.zeros_like(values).index_add(0, first, values[second]).index_add(0, second, values[first])
        return values - sums / self.degree


def _edges_of(faces: Int[Tensor, "F 3"]) -> tuple[Int[Tensor, "E 2"], Int[Tensor, "F 3"], Int[Tensor, "E 2"]]:
    """Edges, those of each triangle (opposite its corners 2, 0 and 1), and one or two triangles of each edge; of edges
    that more than two share, two."""
    ends = faces[:, [[0, 1], [1, 2], [2, 0]]].sort(dim=2).values
    edges, of_face = torch.unique(ends.flatten(0, 1), dim=0, return_inverse=True)
    owner = torch.arange(len(faces)).repeat_interleave(3)
    edge_faces = torch.full((len(edges), 2), -1)
    order = of_face.argsort(stable=True)
    counts = torch.bincount(of_face, minlength=len(edges))
    start = counts.cumsum(0) - counts
    edge_faces[:, 0] = owner[order[start]]
    shared = counts > 1
    edge_faces[shared, 1] = owner[order[start[shared] + 1]]
    return edges, of_face.view(-1, 3), edge_faces


def _split(faces: Int[Tensor, "F 3"], middles: Int[Tensor, "F 3"]) -> Int[Tensor, "4F 3"]:
    """Each triangle as four, one after the other, from the vertices in the middles of its edges."""
    a, b, c = faces.unbind(dim=1)
    ab, bc, ca = middles.unbind(dim=1)
    four = [torch.stack(corners, dim=1) for corners in ((a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca))]
    return torch.stack(four, dim=1).flatten(0, 1)
