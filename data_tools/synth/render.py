"""Pictures of the synthetic person, with exact coverage and depth, by ray casting on the CPU."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, UInt8, UInt16

from data_tools.synth import lighting
from data_tools.synth.figure import Figure
from data_tools.synth.paint import to_srgb
from flame_nerf.geometry import vertex_normals

SAMPLES = 3
"""Rays along a pixel's side. Odd, so that one goes through the pixel's centre, which depth is taken from."""
DEPTH_UNIT = 2e-5
"""Metres per step of a stored depth picture: 16 bits then reach 1.3 m."""
FURTHEST = DEPTH_UNIT * 65535


@dataclass(frozen=True)
class Camera:
    """A pinhole camera with square pixels and its principal point in the middle of a square picture."""

    c2w: Float[np.ndarray, "4 4"]
    """Camera to head frame, OpenGL axes, metres."""
    focal_px: float
    size: int

    def directions(self) -> Float[np.ndarray, "H W 3"]:
        """Rays through the samples of all pixels, in the head frame, one metre along the optical axis long."""
        at = (np.arange(self.size * SAMPLES) + 0.5) / SAMPLES
        x, y = np.meshgrid((at - self.size / 2) / self.focal_px, (at - self.size / 2) / self.focal_px)
        return np.stack([x, -y, -np.ones_like(x)], axis=-1) @ self.c2w[:3, :3].T


@dataclass(frozen=True)
class Shot:
    """What a camera sees of a moment."""

    image: UInt8[np.ndarray, "H W 3"]
    """The head's own colour wherever the mask is not zero, so that image * mask + c * (1 - mask) is exactly the head in
    front of a backdrop of colour c; the rest of the scene elsewhere."""
    mask: UInt8[np.ndarray, "H W"]
    """Part of each pixel that head, hair and neck down to the collar cover; 255 = all of it."""
    depth: UInt16[np.ndarray, "H W"]
    """Distance along the optical axis of what the mask shows at each pixel's centre, in `DEPTH_UNIT`; 0 = nothing."""
    film: UInt8[np.ndarray, "H W 3"]
    """The whole scene as a real camera sees it: head, shoulders, backdrop."""


class Moment:
    """A posed figure under its light, ready to be filmed from anywhere."""

    def __init__(
        self,
        figure: Figure,
        head_vertices: Float[np.ndarray, "V 3"],
        torso_to_head: Float[np.ndarray, "3 3"],
        head_to_light: Float[np.ndarray, "3 3"],
    ) -> None:
        """
        Args:
            head_vertices: posed, head frame.
            torso_to_head: rotation from the body's axes to the head's.
            head_to_light: rotation from the head's axes to those the light is given in.
        """
        self.figure = figure
        self.vertices = figure.posed(head_vertices, torso_to_head)
        self.normals = vertex_normals(self.vertices, figure.faces)
        self._mesh = figure.at_rest.posed(self.vertices)
        light = lighting.radiance(lighting.dome() @ head_to_light.T)
        moving = ~figure.is_hair
        self.irradiance = np.empty_like(self.vertices)
        visible = lighting.visibility(self._mesh, self.vertices[moving], self.normals[moving])
        self.irradiance[moving] = lighting.gather(visible, self.normals[moving], light)
        self.irradiance[~moving] = lighting.gather(
            figure.hair_visible(self._mesh, self.vertices, self.normals), self.normals[~moving], light
        )
        self._key = (head_to_light.T @ (lighting.KEY / np.linalg.norm(lighting.KEY))).astype(np.float32)

    def shoot(self, camera: Camera, backdrop: Float[np.ndarray, "H W 3"]) -> Shot:
        """Take a picture.

        Args:
            backdrop: what is behind the person, sRGB 0..1, of the picture's size.
        """
        directions = camera.directions().astype(np.float32)
        met = self._mesh.cast(camera.c2w[:3, 3], directions)
        seen = met.face >= 0
        fine = np.repeat(np.repeat(backdrop.astype(np.float32), SAMPLES, axis=0), SAMPLES, axis=1)
        on_head = np.zeros(seen.shape, dtype=np.float32)
        colour, of_head = self._shade(met.face[seen], met.barycentric[seen], directions[seen])
        fine[seen], on_head[seen] = colour, of_head
        centre = SAMPLES // 2
        exact = np.where(on_head > 0.5, met.distance, 0.0)[centre::SAMPLES, centre::SAMPLES]
        return _develop(fine, on_head, exact)

    def _shade(
        self, face: Int[np.ndarray, " R"], barycentric: Float[np.ndarray, "R 3"], directions: Float[np.ndarray, "R 3"]
    ) -> tuple[Float[np.ndarray, "R 3"], Float[np.ndarray, " R"]]:
        """sRGB colour of surface points, and 1 where they belong to what the mask shows."""
        texel = self.figure.texels.at(face, barycentric)
        # Written out over the three corners: numpy's reductions over short axes take several times as long.
        columns = [self.irradiance, self.normals, self.figure.above_collar[:, None]]
        at_vertices = np.concatenate(columns, axis=1, dtype=np.float32)
        corners = self.figure.faces[face]
        blended = sum(at_vertices[corners[:, k]] * barycentric[:, k, None] for k in range(3))
        irradiance, normal = blended[:, :3], blended[:, 3:6]
        half = self._key - directions / _length(directions)
        # Blinn and Phong's lobe, where the point is lit at all.
        cosine = _dot(normal, half) / np.maximum(_length(normal) * _length(half), 1e-12)[:, 0]
        lobe = np.maximum(cosine, 0) ** texel[:, 4] * texel[:, 3]
        light = (texel[:, :3] + lobe[:, None]) * irradiance
        return to_srgb(light), (blended[:, 6] >= 0).astype(np.float32)


def _dot(a: Float[np.ndarray, "R 3"], b: Float[np.ndarray, "R 3"]) -> Float[np.ndarray, " R"]:
    return a[:, 0] * b[:, 0] + a[:, 1] * b[:, 1] + a[:, 2] * b[:, 2]


def _length(vectors: Float[np.ndarray, "R 3"]) -> Float[np.ndarray, "R 1"]:
    return np.sqrt(_dot(vectors, vectors))[:, None]


def _develop(
    fine: Float[np.ndarray, "h w 3"], on_head: Float[np.ndarray, "h w"], depth: Float[np.ndarray, "H W"]
) -> Shot:
    """Samples to pixels. They are averaged as sRGB values, because that is how pictures are composited later."""

    def average(values: np.ndarray) -> np.ndarray:
        samples = [values[i::SAMPLES, j::SAMPLES] for i in range(SAMPLES) for j in range(SAMPLES)]
        return sum(samples[1:], samples[0]) / len(samples)

    cover = average(on_head)[..., None]
    head = average(fine * on_head[..., None]) / np.maximum(cover, 1e-6)
    film = average(fine)
    return Shot(
        image=_bytes(np.where(cover > 0, head, film)),
        mask=_bytes(cover[..., 0]),
        depth=np.rint(np.minimum(depth, FURTHEST) / DEPTH_UNIT).astype(np.uint16),
        film=_bytes(film),
    )


def _bytes(values: np.ndarray) -> UInt8[np.ndarray, "..."]:
    return np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)
