"""Carrying to the canonical head through Warp: one launch forward and one backward, wherever the tensors are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from flame_nerf.canonical.search import ShellSamples
from flame_nerf.kernels.warp.launch import addresses, launch, load_warp, wrap


class WarpCarry:
    """:class:`flame_nerf.canonical.carry.CarryKernels` on CUDA or the CPU. Never waits for the GPU."""

    def __init__(self) -> None:
        load_warp()

        from flame_nerf.kernels.warp import mesh as kernels

        self._kernels = kernels

    def apply_tables(
        self, vectors: Tensor, tables: Sequence[Tensor], mesh_index: Tensor, face: Tensor, transpose: bool
    ) -> Tensor:
        wp, out = load_warp(), torch.empty_like(vectors)
        where = addresses(tables, vectors.device)
        faces, _, width = tables[0].shape
        inputs = [wrap(where, wp.uint64), faces, width, transpose, wrap(mesh_index), wrap(face)]
        inputs += [wrap(vectors, wp.vec3), wrap(out, wp.vec3)]
        launch(self._kernels.apply_tables, len(vectors), inputs, vectors.device)
        return out

    def carry_samples(
        self,
        samples: ShellSamples,
        transforms: Sequence[Tensor],
        rotations: Sequence[Tensor],
        origins: Tensor,
        directions: Tensor,
    ) -> tuple[Tensor, Tensor]:
        points = origins.new_empty(len(samples), 3)
        turned = torch.empty_like(points)
        arrays = [samples.ray_index, samples.mesh_index, samples.face, samples.t_start, samples.t_end]
        vectors = [origins, directions, points, turned]
        self._launch(self._kernels.carry_samples, len(samples), transforms, rotations, arrays, vectors)
        return points, turned

    def carry_samples_gradient(
        self,
        samples: ShellSamples,
        transforms: Sequence[Tensor],
        rotations: Sequence[Tensor],
        to_points: Tensor,
        to_directions: Tensor,
    ) -> tuple[Tensor, Tensor]:
        rays = len(samples.offsets) - 1
        to_origins = to_points.new_empty(rays, 3)
        to_along = torch.empty_like(to_origins)
        arrays = [samples.offsets, samples.mesh_index, samples.face, samples.t_start, samples.t_end]
        vectors = [to_points, to_directions, to_origins, to_along]
        self._launch(self._kernels.carry_samples_gradient, rays, transforms, rotations, arrays, vectors)
        return to_origins, to_along

    def _launch(
        self,
        kernel: Any,
        dim: int,
        transforms: Sequence[Tensor],
        rotations: Sequence[Tensor],
        arrays: Sequence[Tensor],
        vectors: Sequence[Tensor],
    ) -> None:
        wp, device = load_warp(), vectors[0].device
        where = addresses([*transforms, *rotations], device)
        inputs = [wrap(where, wp.uint64), len(transforms), len(transforms[0])]
        inputs += [*map(wrap, arrays), *(wrap(vector, wp.vec3) for vector in vectors)]
        launch(kernel, dim, inputs, device)
