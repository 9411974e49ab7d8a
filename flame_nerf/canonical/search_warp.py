"""The search structure on Warp's BVH: the one for CUDA; on the CPU it runs too, on one thread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from flame_nerf.canonical.search import EmptySpace, MarchSettings, Shell, ShellSamples
from flame_nerf.kernels.ray_ends import LAYERS
from flame_nerf.kernels.warp.launch import addresses, launch, load_warp, torch_stream, upload, wrap


@dataclass
class _WarpHandle:
    vertices: Float[Tensor, "V 3"]
    """Our own copy: a Warp mesh refers to its points, and the caller may change theirs."""
    mesh: Any
    bounds: Float[Tensor, "2 3"]
    known_diagonal: float | None = None

    @property
    def diagonal(self) -> float:
        """Of the bounds, metres; on the host. The first march over a mesh waits for it, and no other."""
        if self.known_diagonal is None:
            self.known_diagonal = float((self.bounds[1] - self.bounds[0]).norm())
        return self.known_diagonal


class WarpSearch:
    """Search through ``wp.Mesh``; one thread a ray. Everything runs on torch's current stream."""

    def __init__(self, faces: Int[Tensor, "F 3"], vertices: Float[Tensor, "V 3"]):
        self._wp = load_warp()

        from flame_nerf.kernels.warp import mesh as kernels

        self._kernels = kernels
        self._device = vertices.device
        self._faces = faces.to(device=vertices.device, dtype=torch.int32).contiguous()
        self._indices = self._wp.from_torch(self._faces.view(-1))

    def _vec3(self, points: Tensor) -> Any:
        return wrap(points, self._wp.vec3)

    def build(self, vertices: Float[Tensor, "V 3"], reuse: _WarpHandle | None = None) -> _WarpHandle:
        bounds = torch.stack((vertices.amin(dim=0), vertices.amax(dim=0)))
        with torch_stream(self._device):
            if reuse is not None:
                reuse.vertices.copy_(vertices)
                reuse.bounds.copy_(bounds)
                reuse.known_diagonal = None
                reuse.mesh.refit()
                return reuse
            own = vertices.clone()
            points = self._wp.from_torch(own, dtype=self._wp.vec3)
            return _WarpHandle(own, self._wp.Mesh(points=points, indices=self._indices), bounds)

    def handle_bytes(self, handle: _WarpHandle) -> int:
        # Warp does not tell; a node takes 32 bytes, of which there are two a triangle, and a few index arrays.
        return handle.vertices.nbytes + 100 * len(self._faces)

    def make_shell(self, thickness: Float[Tensor, " F"]) -> Shell:
        values = thickness.detach().to(self._device, torch.float32).contiguous()
        return Shell(thickness, float(values.min()), float(values.max()), {"values": values})

    def _meshes(self, handles: Sequence[_WarpHandle]) -> Tensor:
        """Mesh ids for the kernels; the caller keeps it until they are launched."""
        return upload([handle.mesh.id for handle in handles], self._device)

    def nearest(
        self,
        handles: Sequence[_WarpHandle],
        mesh_index: Int[Tensor, " N"],
        points: Float[Tensor, "N 3"],
        max_distance: float,
    ) -> tuple[Int[Tensor, " N"], Float[Tensor, " N"]]:
        face = torch.empty(len(points), dtype=torch.int64, device=self._device)
        distance = torch.empty(len(points), dtype=torch.float32, device=self._device)
        # Warp squares it in float32.
        limit = min(max_distance, 1e18)
        meshes = self._meshes(handles)
        inputs = [wrap(meshes, self._wp.uint64), wrap(mesh_index), self._vec3(points), limit]
        launch(self._kernels.nearest, len(points), [*inputs, wrap(face), wrap(distance)], self._device)
        return face, distance

    def first_hit(
        self,
        handles: Sequence[_WarpHandle],
        mesh_index: Int[Tensor, " R"],
        origins: Float[Tensor, "R 3"],
        directions: Float[Tensor, "R 3"],
    ) -> tuple[Float[Tensor, " R"], Int[Tensor, " R"]]:
        distance = torch.empty(len(origins), dtype=torch.float32, device=self._device)
        face = torch.empty(len(origins), dtype=torch.int64, device=self._device)
        meshes = self._meshes(handles)
        inputs = [wrap(meshes, self._wp.uint64), wrap(mesh_index), self._vec3(origins), self._vec3(directions)]
        launch(self._kernels.first_hit, len(origins), [*inputs, wrap(distance), wrap(face)], self._device)
        return distance, face

    def march(
        self,
        handles: Sequence[_WarpHandle],
        mesh_index: Int[Tensor, " R"],
        origins: Float[Tensor, "R 3"],
        directions: Float[Tensor, "R 3"],
        start: Float[Tensor, " R"],
        shell: Shell,
        settings: MarchSettings,
        empty: EmptySpace | None = None,
    ) -> ShellSamples:
        wp, rays, device = self._wp, len(origins), self._device
        bounds = torch.stack([handle.bounds for handle in handles])
        longest = max(handle.diagonal for handle in handles) + 2 * 3**0.5 * shell.most
        per_ray = min(settings.max_samples, int(longest / settings.step) + 2)
        counts, skipped = torch.zeros(2, rays, dtype=torch.int64, device=device)
        sample_k = torch.empty(rays, per_ray, dtype=torch.int32, device=device)
        sample_face = torch.empty_like(sample_k)
        sample_distance = torch.empty(rays, per_ray, dtype=torch.float32, device=device)
        dense = [wrap(sample_k), wrap(sample_face), wrap(sample_distance)]
        meshes = self._meshes(handles)
        if empty is None:
            empty = EmptySpace(torch.zeros(0, device=device), 0, bounds[0], 0.0, False)
        tables = addresses(empty.transforms, device)
        known = [
            wrap(empty.density), empty.least_density, empty.unseen_too, wrap(empty.box, wp.vec3), empty.resolution,
            wrap(tables, wp.uint64), len(self._faces),
        ]  # fmt: skip
        launch(
            self._kernels.march,
            rays,
            [
                wrap(meshes, wp.uint64), wrap(bounds, wp.vec3), wrap(mesh_index), self._vec3(origins),
                self._vec3(directions), wrap(start), wrap(shell.derived["values"]), shell.most, settings.near,
                settings.far, settings.step, min(settings.behind, 1e30), settings.grazing,
                LAYERS if settings.through else 0, per_ray, *known, wrap(counts), wrap(skipped), *dense,
            ],
            device,
        )  # fmt: skip
        offsets = torch.nn.functional.pad(counts.cumsum(0), (1, 0))
        # The one wait of a march: how much is to be packed.
        total, left_out = torch.stack([offsets[-1], skipped.sum()]).tolist()
        integers = [torch.empty(total, dtype=torch.int64, device=device) for _ in range(3)]
        reals = [torch.empty(total, dtype=torch.float32, device=device) for _ in range(3)]
        ray, mesh, face = integers
        t_start, t_end, distance = reals
        if total:
            packed = [wrap(x) for x in (ray, mesh, t_start, t_end, face, distance)]
            inputs = [wrap(offsets), wrap(mesh_index), wrap(start), settings.step, *dense, *packed]
            launch(self._kernels.pack, rays, inputs, device)
        return ShellSamples(ray, t_start, t_end, offsets, face, mesh, distance, left_out)
