"""Points spread evenly over the skin, which the head carries along: what the pictures of a clip have in common."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from data_tools.ray_casting import MeshRays
from data_tools.tracking.fit.face.face_points import FacePoints, face_points
from data_tools.tracking.fit.outline import head_part, head_vertices
from data_tools.tracking.fit.residuals import FaceState, anchor_of
from data_tools.tracking.photometric.kernels import front_points
from flame_nerf.heads import HeadModel, LandmarkEmbedding

COUNT = 4000
"""Points on the whole head; somewhat less than half of them are seen from one side."""
LEFT_OUT = ("eyes", "mouth", "teeth", "tongue", "sockets", "scalp")
"""Regions that do not keep their look: eyes turn, the mouth opens, hair is not where the mesh is."""
FACING = 0.3
"""Cosine to the camera from which a point is looked at, of the posed surface and of the one at rest."""
OFF_SURFACE = 1.5e-3
"""Rays towards the camera start this far off the surface, metres: the mesh is not exactly the face."""
INSIDE = 2.0
"""Pixels from the picture's edge within which points are left out."""


@dataclass(frozen=True)
class Surfels:
    """N points on a head of one identity."""

    points: FacePoints
    """The head reduced to them, as it is to its landmarks."""
    face: Int[np.ndarray, " N"]
    barycentric: Float[np.ndarray, "N 3"]
    anchor: Float[Tensor, "3"]
    """The landmarks' anchor, about which frames turn."""
    identity: Float[Tensor, " S"]
    still: Float[Tensor, "N 3"]
    """The points with this identity, expressions at zero; metres, head frame, float64."""
    normal: Float[np.ndarray, "N 3"]
    """Outward normals of the surface at rest."""
    basis: Float[np.ndarray, "N 3 E"]
    """Metres per fitted coefficient, float32."""
    shape: Float[Tensor, "N 3 S"]
    """Metres per identity coefficient, float32."""

    def __len__(self) -> int:
        return len(self.face)

    @cached_property
    def by_expression(self) -> Float[Tensor, "E N3"]:
        """Displacements of all points by each fitted coefficient, metres, float32."""
        return self.points.expression.flatten(0, 1).T.float().contiguous()

    def of_identity(self, identity: Float[Tensor, " S"]) -> Surfels:
        """The same points on another person."""
        return replace(self, identity=identity, still=self.points.mean + self.points.shape @ identity)

    def places(self, expression: Float[Tensor, "T E"]) -> Float[np.ndarray, "T N 3"]:
        """Head-axes places from the anchor, metres, float32, of frames with the given coefficients."""
        moved = (expression.float() @ self.by_expression).unflatten(-1, self.still.shape)
        if self.points.jaw is None:
            return (moved + (self.still - self.anchor).float()).numpy()
        placed = self.points.jaw.turned(self.still + moved.double(), expression[:, -1], self.identity)
        return (placed - self.anchor).float().numpy()

    def by_jaw(self, places: Float[np.ndarray, "*T N 3"]) -> Float[np.ndarray, "*T N 3"] | None:
        """Derivative of the places by the jaw's coefficient; None where no joint opens the mouth."""
        if self.points.jaw is None:
            return None
        at_head = torch.from_numpy(places).double() + self.anchor
        return self.points.jaw.by_opening(at_head, self.identity).float().numpy()


def spread_surfels(
    head: HeadModel, points: FacePoints, identity: Float[Tensor, " S"], count: int = COUNT, seed: int = 0
) -> Surfels:
    """Spread points evenly over the skin that moves with the head.

    Args:
        head: with all its identity components.
        points: its landmarks.
    """
    vertices, _ = head.rest(identity.float())
    rest, faces = vertices.double().numpy(), head.faces.numpy()
    skin = ~head.region_mask(*(name for name in LEFT_OUT if name in head.region_names)).numpy()
    cross = np.cross(rest[faces[:, 1]] - rest[faces[:, 0]], rest[faces[:, 2]] - rest[faces[:, 0]])
    area = np.linalg.norm(cross, axis=1) * (skin & head_part(head)[faces].all(axis=1))
    random = np.random.default_rng(seed)
    # Systematic sampling along the faces' summed areas: even, and the same in every run.
    at = (np.arange(count) + random.random(count)) / count * area.sum()
    face = np.searchsorted(np.cumsum(area), at).clip(0, len(faces) - 1)
    root, share = np.sqrt(random.random(count)), random.random(count)
    barycentric = np.stack([1 - root, root * (1 - share), root * share], axis=1)
    embedding = LandmarkEmbedding(
        torch.arange(count), torch.from_numpy(face), torch.from_numpy(barycentric).float(), torch.ones(count)
    )
    reduced = face_points(replace(head, landmarks=embedding), marks=False)
    normal = np.zeros_like(rest)
    for corner in range(3):
        np.add.at(normal, faces[:, corner], cross)
    normal = np.einsum("nc,nck->nk", barycentric, normal[faces[face]])
    normal /= np.linalg.norm(normal, axis=1, keepdims=True) + 1e-12
    return Surfels(
        points=reduced,
        face=face,
        barycentric=barycentric,
        anchor=anchor_of(points),
        identity=identity,
        still=reduced.mean + reduced.shape @ identity,
        normal=normal.astype(np.float32),
        basis=np.ascontiguousarray(reduced.expression.float().numpy()),
        shape=reduced.shape.float().contiguous(),
    )


class Visibility:
    """Which surfels each frame's camera sees."""

    def __init__(
        self,
        head: HeadModel,
        points: FacePoints,
        surfels: Surfels,
        centre: Float[np.ndarray, "2"],
        size: tuple[int, int],
    ) -> None:
        """
        Args:
            points: the head's landmarks.
            centre: principal point, pixels.
            size: width and height of the pictures.
        """
        self._head, self._points, self._surfels = head, points, surfels
        self._centre, self._size = np.asarray(centre, dtype=np.float32), np.array(size, dtype=np.float32)
        faces = head.faces.numpy()
        self._corners, self._share = faces[surfels.face], surfels.barycentric.astype(np.float32)
        self._rays = MeshRays(head.template.numpy(), faces)

    def of_frames(self, state: FaceState) -> list[Int[np.ndarray, " n"]]:
        """Rows of the surfels that are seen in each frame: facing the camera, inside the picture, behind nothing."""
        vertices = head_vertices(self._head, self._points, state).float().numpy()
        rotation, translation = state.rotation, state.translation(self._surfels.anchor)
        eye = -(rotation.transpose(1, 2) @ translation[..., None])[..., 0]
        cameras = [part.float().numpy() for part in (eye, rotation, translation)]
        return [self._of_frame(vertices[t], [part[t] for part in cameras], state.focal) for t in range(len(vertices))]

    def _of_frame(
        self, vertices: Float[np.ndarray, "V 3"], camera: list[np.ndarray], focal: float
    ) -> Int[np.ndarray, " n"]:
        which, place, normal, towards = front_points(
            vertices, self._corners, self._share, self._surfels.normal, *camera, np.float32(focal), self._centre,
            self._size, np.float32(FACING), np.float32(INSIDE),
        )  # fmt: skip
        hidden = self._rays.posed(vertices).occluded(place + np.float32(OFF_SURFACE) * normal, towards)
        return which[~hidden]
