"""Plain pictures of a mesh: what the landmark detector is shown, and what a person checks the head with."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from data_tools.ray_casting import MeshRays, SurfacePoints
from flame_nerf.geometry import perspective, vertex_normals, world_to_camera


def camera_around(
    yaw_deg: float, pitch_deg: float, distance: float, target: tuple[float, float, float] = (0.0, 0.0, 0.0)
) -> Float[np.ndarray, "4 4"]:
    """Camera-to-world (OpenGL axes) of a camera that looks at `target` from in front of the head.

    Args:
        yaw_deg: positive moves the camera to the subject's left.
        pitch_deg: positive moves it up.
        distance: metres from the target.
    """
    yaw, pitch = np.radians([yaw_deg, pitch_deg])
    backward = np.array([np.sin(yaw) * np.cos(pitch), np.sin(pitch), np.cos(yaw) * np.cos(pitch)])
    right = np.array([np.cos(yaw), 0.0, -np.sin(yaw)])
    c2w = np.eye(4)
    c2w[:3, :3] = np.stack([right, np.cross(backward, right), backward], axis=1)
    c2w[:3, 3] = np.array(target) + distance * backward
    return c2w


class MeshView:
    """A mesh in front of a pinhole camera with square pixels and its principal point in the middle."""

    def __init__(
        self,
        vertices: Float[np.ndarray, "V 3"],
        faces: Int[np.ndarray, "F 3"],
        c2w: Float[np.ndarray, "4 4"],
        focal_px: float,
        size: int,
    ):
        self.vertices, self.faces, self.c2w, self.focal_px, self.size = vertices, faces, c2w, focal_px, size
        self._rays = MeshRays(vertices, faces)

    def only(self, chosen: Bool[np.ndarray, " F"]) -> MeshView:
        """The same view of some of the faces; what it picks is numbered among those."""
        return MeshView(self.vertices, self.faces[chosen], self.c2w, self.focal_px, self.size)

    def pick(self, pixels: Float[np.ndarray, "*R 2"]) -> SurfacePoints:
        """The mesh under image points (x, y), pixel centres at half-integers; distances are depths in metres."""
        x, y = np.moveaxis((pixels - self.size / 2) / self.focal_px, -1, 0)
        directions = np.stack([x, -y, -np.ones_like(x)], axis=-1) @ self.c2w[:3, :3].T
        return self._rays.cast(self.c2w[:3, 3], directions)

    def project(self, points: Float[np.ndarray, "*N 3"]) -> Float[np.ndarray, "*N 2"]:
        """Image points (x, y) in pixels."""
        return perspective(world_to_camera(points, self.c2w), self.focal_px, self.size / 2)

    def lambert(
        self, albedo: Callable[[SurfacePoints], Float[np.ndarray, "R 3"]] | None = None
    ) -> UInt8[np.ndarray, "H W 3"]:
        """Smooth Lambert shading on white, one light above the camera.

        Args:
            albedo: colour (0..1) of seen points; plain grey if None.
        """
        centres = np.arange(self.size) + 0.5
        hits = self.pick(np.stack(np.meshgrid(centres, centres), axis=-1))
        seen = hits.face >= 0
        hits = hits.at(seen)
        normals = vertex_normals(self.vertices, self.faces)
        normal = (normals[self.faces[hits.face]] * hits.barycentric[:, :, None]).sum(1)
        normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-20)
        light = self.c2w[:3, 2] + 0.5 * self.c2w[:3, 1] + 0.2 * self.c2w[:3, 0]
        # Surfaces seen from behind (the inside of the mouth) get dark instead of bright.
        shade = 0.25 + 0.75 * np.clip(normal @ (light / np.linalg.norm(light)), 0, 1)
        image = np.ones((self.size, self.size, 3))
        image[seen] = (np.full((1, 3), 0.75) if albedo is None else albedo(hits)) * shade[:, None]
        return (image.clip(0, 1) * 255).round().astype(np.uint8)
