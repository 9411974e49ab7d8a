"""The search structure on Warp's BVH: the one for CUDA; on the CPU it runs too, on one thread."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from flame_nerf.canonical.bvh import EmptySpace, MarchedRays, MarchSettings, Shell


@dataclass
class _WarpHandle:
    vertices: Float[Tensor, "V 3"]
    """Our own copy: a Warp mesh refers to its points, and the caller may change theirs."""
    mesh: Any
    bounds: Float[Tensor, "2 3"]


class WarpSearch:
    """Search through ``wp.Mesh``; one thread a ray. Everything runs on torch's current stream."""

    can_skip = False

    def __init__(self, faces: Int[Tensor, "F 3"], vertices: Float[Tensor, "V 3"]):
        import warp as wp

        from flame_nerf.canonical import _warp_kernels

        if hasattr(wp, "LOG_WARNING"):
            wp.config.log_level = wp.LOG_WARNING
        else:
            wp.config.quiet = True
        wp.init()
        self._wp, self._kernels = wp, _warp_kernels
        self._torch_device = vertices.device
        self._device = wp.device_from_torch(vertices.device)
        self._faces = faces.to(device=vertices.device, dtype=torch.int32).contiguous()
        self._indices = wp.from_torch(self._faces.view(-1))

    @contextlib.contextmanager
    def _stream(self):
        """Launch where torch launches, so that neither has to wait for the other."""
        if self._torch_device.type != "cuda":
            yield
            return
        with self._wp.ScopedStream(self._wp.stream_from_torch(torch.cuda.current_stream(self._torch_device))):
            yield

    def _launch(self, kernel: Any, dim: int, inputs: list[Any]) -> None:
        if dim > 0:
            with self._stream():
                self._wp.launch(kernel, dim=dim, inputs=inputs, device=self._device)

    def _vec3(self, points: Tensor) -> Any:
        return self._wp.from_torch(points, dtype=self._wp.vec3)

    def build(self, vertices: Float[Tensor, "V 3"], reuse: _WarpHandle | None = None) -> _WarpHandle:
        bounds = torch.stack((vertices.amin(dim=0), vertices.amax(dim=0)))
        with self._stream():
            if reuse is not None:
                reuse.vertices.copy_(vertices)
                reuse.bounds.copy_(bounds)
                reuse.mesh.refit()
                return reuse
            own = vertices.clone()
            return _WarpHandle(own, self._wp.Mesh(points=self._vec3(own), indices=self._indices), bounds)

    def handle_bytes(self, handle: _WarpHandle) -> int:
        # Warp does not tell; a node takes 32 bytes, of which there are two a triangle, and a few index arrays.
        return handle.vertices.nbytes + 100 * len(self._faces)

    def make_shell(self, thickness: Float[Tensor, " F"]) -> Shell:
        values = thickness.detach().to(self._torch_device, torch.float32).contiguous()
        return Shell(thickness, float(values.min()), float(values.max()), {"values": values})

    def _meshes(self, handles: Sequence[_WarpHandle]) -> Any:
        ids = [handle.mesh.id for handle in handles]
        return self._wp.array(ids, dtype=self._wp.uint64, device=self._device)

    def nearest(
        self,
        handles: Sequence[_WarpHandle],
        mesh_index: Int[Tensor, " N"],
        points: Float[Tensor, "N 3"],
        max_distance: float,
    ) -> tuple[Int[Tensor, " N"], Float[Tensor, " N"]]:
        face = torch.empty(len(points), dtype=torch.int64, device=self._torch_device)
        distance = torch.empty(len(points), dtype=torch.float32, device=self._torch_device)
        # Warp squares it in float32.
        limit = min(max_distance, 1e18)
        with self._stream():
            meshes = self._meshes(handles)
        inputs = [meshes, *map(self._wp.from_torch, (mesh_index,)), self._vec3(points), limit]
        self._launch(self._kernels.nearest, len(points), [*inputs, *map(self._wp.from_torch, (face, distance))])
        return face, distance

    def first_hit(
        self,
        handles: Sequence[_WarpHandle],
        mesh_index: Int[Tensor, " R"],
        origins: Float[Tensor, "R 3"],
        directions: Float[Tensor, "R 3"],
    ) -> tuple[Float[Tensor, " R"], Int[Tensor, " R"]]:
        distance = torch.empty(len(origins), dtype=torch.float32, device=self._torch_device)
        face = torch.empty(len(origins), dtype=torch.int64, device=self._torch_device)
        wrap = self._wp.from_torch
        with self._stream():
            meshes = self._meshes(handles)
        inputs = [meshes, wrap(mesh_index), self._vec3(origins), self._vec3(directions), wrap(distance), wrap(face)]
        self._launch(self._kernels.first_hit, len(origins), inputs)
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
    ) -> MarchedRays:
        rays, device = len(origins), self._torch_device
        wrap = self._wp.from_torch
        bounds = torch.stack([handle.bounds for handle in handles])
        longest = float((bounds[:, 1] - bounds[:, 0]).norm(dim=1).max()) + 2 * 3**0.5 * shell.most
        per_ray = min(settings.max_samples, int(longest / settings.step) + 2)
        counts = torch.zeros(rays, dtype=torch.int64, device=device)
        sample_k = torch.empty(rays, per_ray, dtype=torch.int32, device=device)
        sample_face = torch.empty_like(sample_k)
        sample_distance = torch.empty(rays, per_ray, dtype=torch.float32, device=device)
        dense = [wrap(sample_k), wrap(sample_face), wrap(sample_distance)]
        with self._stream():
            meshes = self._meshes(handles)
        self._launch(
            self._kernels.march,
            rays,
            [
                meshes, wrap(bounds, dtype=self._wp.vec3), wrap(mesh_index), self._vec3(origins),
                self._vec3(directions), wrap(start), wrap(shell.derived["values"]), shell.most, settings.near,
                settings.far, settings.step, min(settings.behind, 1e30), per_ray, wrap(counts), *dense,
            ],
        )  # fmt: skip
        offsets = torch.nn.functional.pad(counts.cumsum(0), (1, 0))
        total = int(offsets[-1])
        integers = [torch.empty(total, dtype=torch.int64, device=device) for _ in range(3)]
        reals = [torch.empty(total, dtype=torch.float32, device=device) for _ in range(3)]
        ray, mesh, face = integers
        t_start, t_end, distance = reals
        if total:
            packed = [wrap(x) for x in (ray, mesh, t_start, t_end, face, distance)]
            inputs = [wrap(offsets), wrap(mesh_index), wrap(start), settings.step, *dense, *packed]
            self._launch(self._kernels.pack, rays, inputs)
        return MarchedRays(ray, mesh, t_start, t_end, face, distance, counts)
