"""Which triangle a ray meets first: by this package's own ray casting, or by PyTorch3D's rasteriser."""

from __future__ import annotations

import importlib.util
from typing import Literal

import torch
from jaxtyping import Float, Int
from nerfstudio.utils.rich_utils import CONSOLE
from torch import Tensor

from flame_nerf.baselines.nha.surface import HeadSurface
from flame_nerf.baselines.nha.visibility import Caster
from flame_nerf.canonical import make_search

Visibility = Literal["auto", "rays", "pytorch3d"]
RASTER_SIZE = 1024
"""Pixels along the side of the picture that stands for the rays of one view."""


class RayCaster:
    """Casts rays at trees of the meshes: numba's on the CPU, Warp's on CUDA."""

    def __init__(self, surface: HeadSurface):
        self._search = make_search(surface.faces, surface.canonical, "auto")

    def __call__(
        self,
        vertices: Float[Tensor, "B V 3"],
        mesh_index: Int[Tensor, " R"],
        origins: Float[Tensor, "R 3"],
        directions: Float[Tensor, "R 3"],
    ) -> Int[Tensor, " R"]:
        """See `Caster`."""
        handles = [self._search.build(mesh) for mesh in vertices.contiguous()]
        rays = origins.contiguous(), directions.contiguous()
        return self._search.first_hit(handles, mesh_index.contiguous(), *rays)[1]


class Rasteriser:
    """Rasterises the meshes as each view sees them, in a window around its rays, and reads the pixels they go through.

    A ray is right about its triangle to a pixel of `RASTER_SIZE` a window.
    """

    def __init__(self, surface: HeadSurface):
        from pytorch3d.renderer.mesh.rasterize_meshes import rasterize_meshes
        from pytorch3d.structures import Meshes

        self._rasterise, self._meshes, self._faces = rasterize_meshes, Meshes, surface.faces

    def __call__(
        self,
        vertices: Float[Tensor, "B V 3"],
        mesh_index: Int[Tensor, " R"],
        origins: Float[Tensor, "R 3"],
        directions: Float[Tensor, "R 3"],
    ) -> Int[Tensor, " R"]:
        """See `Caster`."""
        found = torch.full_like(mesh_index, -1)
        view = torch.cat([mesh_index[:, None].to(origins.dtype), origins], dim=1)
        views, of_ray = torch.unique(view, dim=0, return_inverse=True)
        for number in range(len(views)):
            rays = (of_ray == number).nonzero()[:, 0]
            found[rays] = self._of_view(vertices[int(views[number, 0])], views[number, 1:], directions[rays])
        return found

    def _of_view(
        self, vertices: Float[Tensor, "V 3"], eye: Float[Tensor, " 3"], directions: Float[Tensor, "R 3"]
    ) -> Int[Tensor, " R"]:
        """Triangles that the rays of one view meet; rays more than 80 degrees off the middle one meet none."""
        forward = torch.nn.functional.normalize(directions.mean(dim=0), dim=0)
        side = torch.linalg.cross(forward, torch.eye(3, device=eye.device)[int(forward.abs().argmin())])
        left = torch.nn.functional.normalize(side, dim=0)
        axes = torch.stack([left, torch.linalg.cross(forward, left), forward])
        seen, rays = (vertices - eye) @ axes.T, directions @ axes.T
        usable = rays[:, 2] > 0.17
        slopes = rays[:, :2] / rays[:, 2:].clamp_min(0.17)
        low, high = slopes.where(usable[:, None], 0.0).aminmax(dim=0)
        middle, half = 0.5 * (low + high), (0.5 * (high - low)).amax().clamp_min(1e-4) * (1 + 2 / RASTER_SIZE)
        depth = seen[:, 2:]
        screen = torch.cat([(seen[:, :2] / depth.clamp_min(1e-3) - middle) / half, depth], dim=1)
        faces = self._rasterise(
            self._meshes([screen], [self._faces]), RASTER_SIZE, faces_per_pixel=1, bin_size=None,
            perspective_correct=True, z_clip_value=1e-2,
        )[0]  # fmt: skip
        # PyTorch3D's screen has x to the left and y up: 1, 1 is its first pixel.
        pixel = ((1 - (slopes - middle) / half) * (RASTER_SIZE / 2)).floor().long().clamp(0, RASTER_SIZE - 1)
        return torch.where(usable, faces[0, pixel[:, 1], pixel[:, 0], 0], -1)


def uses_rasteriser(visibility: Visibility, on_cuda: bool, installed: bool) -> bool:
    """Whether PyTorch3D's rasteriser finds the triangles: where it is asked for, and by itself on CUDA alone."""
    return visibility == "pytorch3d" or (visibility == "auto" and on_cuda and installed)


def make_caster(surface: HeadSurface, visibility: Visibility) -> Caster:
    """What finds the triangles on the device of a surface. `auto`: PyTorch3D on CUDA where it is installed, else rays.

    Raises:
        ValueError: PyTorch3D is asked for and not installed.
    """
    installed = importlib.util.find_spec("pytorch3d") is not None
    on_cuda = surface.faces.device.type == "cuda"
    if uses_rasteriser(visibility, on_cuda, installed):
        if not installed:
            raise ValueError(
                "model.sampling.visibility is pytorch3d, which is not installed: install flame-nerf[pytorch3d], or "
                "give rays."
            )
        return Rasteriser(surface)
    if visibility == "auto" and on_cuda:
        CONSOLE.log("PyTorch3D is not installed: nha casts rays through this package's own search tree instead.")
    return RayCaster(surface)
