"""Points and directions carried to the canonical head by per-face transforms, on the CPU, as autograd functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from flame_nerf.canonical.shell import ShellSamples
from flame_nerf.threads import run_in_chunks

_RAYS_PER_THREAD = 256
"""Rays below which a second thread costs more than it brings."""


def carry_vectors(
    vectors: Float[Tensor, "N 3"],
    tables: Sequence[Float[Tensor, "F 3 W"]],
    mesh_index: Int[Tensor, " N"],
    face: Int[Tensor, " N"],
) -> Float[Tensor, "N 3"]:
    """``M v + offset`` by the row [M | offset] of each vector's mesh and face; tables of width 3 have no offset.

    Note: differentiable once, with respect to ``vectors``. The tables are read where they lie.
    """
    return _CarryVectors.apply(vectors, list(tables), mesh_index, face)


def carry_samples(
    origins: Float[Tensor, "R 3"],
    directions: Float[Tensor, "R 3"],
    samples: ShellSamples,
    transforms: Sequence[Float[Tensor, "F 3 4"]],
    rotations: Sequence[Float[Tensor, "F 3 3"]],
) -> tuple[Float[Tensor, "N 3"], Float[Tensor, "N 3"]]:
    """Middles of the samples and their rays' directions in the canonical head.

    Note: differentiable once, with respect to ``origins`` and ``directions``; the faces are held fixed.
    """
    return _CarrySamples.apply(origins, directions, samples, list(transforms), list(rotations))


def addresses(tables: Sequence[Tensor]) -> np.ndarray:
    """Where contiguous float32 tables begin in memory. Whoever uses them must keep the tables alive."""
    return np.array([table.data_ptr() for table in tables], np.uint64)


class _CarryVectors(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, vectors: Tensor, tables: list[Tensor], mesh_index: Tensor, face: Tensor) -> Tensor:
        ctx.tables = tables
        ctx.save_for_backward(mesh_index, face)
        return _apply_tables(vectors, tables, mesh_index, face, transpose=False)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        mesh_index, face = ctx.saved_tensors
        return _apply_tables(gradient, ctx.tables, mesh_index, face, transpose=True), None, None, None


def _apply_tables(vectors: Tensor, tables: list[Tensor], mesh_index: Tensor, face: Tensor, transpose: bool) -> Tensor:
    from flame_nerf.canonical import _carry_kernels as kernels

    vectors = vectors.detach().to(torch.float32).contiguous()
    out = torch.empty_like(vectors)
    faces, _, width = tables[0].shape
    kernels.apply_tables(
        addresses(tables), width, transpose, mesh_index.numpy(), face.numpy(), vectors.numpy(), faces, out.numpy()
    )
    return out


class _CarrySamples(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        origins: Tensor,
        directions: Tensor,
        samples: ShellSamples,
        transforms: list[Tensor],
        rotations: list[Tensor],
    ) -> tuple[Tensor, Tensor]:
        from flame_nerf.canonical import _carry_kernels as kernels

        out = torch.empty(len(samples), 3), torch.empty(len(samples), 3)
        rays = [values.detach().to(torch.float32).contiguous() for values in (origins, directions)]
        _over_rays(kernels.carry_samples, samples, transforms, rotations, [*rays, *out])
        ctx.samples, ctx.tables = samples, (transforms, rotations)
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, to_points: Tensor, to_directions: Tensor) -> tuple[Tensor | None, ...]:
        from flame_nerf.canonical import _carry_kernels as kernels

        rays = len(ctx.samples.offsets) - 1
        out = torch.empty(rays, 3), torch.empty(rays, 3)
        gradients = [values.to(torch.float32).contiguous() for values in (to_points, to_directions)]
        _over_rays(kernels.carry_samples_gradient, ctx.samples, *ctx.tables, [*gradients, *out])
        return *out, None, None, None


def _over_rays(
    kernel: Any, samples: ShellSamples, transforms: list[Tensor], rotations: list[Tensor], arrays: list[Tensor]
) -> None:
    """Run a kernel of both directions over all rays."""
    packed = (samples.offsets, samples.mesh_index, samples.face, samples.t_start, samples.t_end)
    shared = [addresses(transforms), addresses(rotations), len(transforms[0]) if transforms else 0]
    shared += [values.numpy() for values in (*packed, *arrays)]
    run_in_chunks(lambda begin, end: kernel(begin, end, *shared), len(samples.offsets) - 1, _RAYS_PER_THREAD)
