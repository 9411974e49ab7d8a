"""Points and directions carried to the canonical head by per-face transforms, as autograd functions.

Two sets of :class:`CarryKernels`: numba's on the CPU, and Warp's on CUDA (and, slower, on the CPU).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from flame_nerf.canonical.search import ShellSamples
from flame_nerf.kernels.cpu.threads import run_in_chunks

_RAYS_PER_THREAD = 256
"""Rays below which a second thread costs more than it brings."""


class CarryKernels(Protocol):
    """Kernels of one device. All tensors are float32 (indices int64), contiguous, and without gradients."""

    def apply_tables(
        self,
        vectors: Float[Tensor, "N 3"],
        tables: Sequence[Float[Tensor, "F 3 W"]],
        mesh_index: Int[Tensor, " N"],
        face: Int[Tensor, " N"],
        transpose: bool,
    ) -> Float[Tensor, "N 3"]:
        """``M v + offset`` (see :func:`carry_vectors`), or with ``transpose`` ``M^T v``; v itself where face is -1."""

    def carry_samples(
        self,
        samples: ShellSamples,
        transforms: Sequence[Float[Tensor, "F 3 4"]],
        rotations: Sequence[Float[Tensor, "F 3 3"]],
        origins: Float[Tensor, "R 3"],
        directions: Float[Tensor, "R 3"],
    ) -> tuple[Float[Tensor, "N 3"], Float[Tensor, "N 3"]]:
        """Middles of samples, and their rays' directions, in the canonical head."""

    def carry_samples_gradient(
        self,
        samples: ShellSamples,
        transforms: Sequence[Float[Tensor, "F 3 4"]],
        rotations: Sequence[Float[Tensor, "F 3 3"]],
        to_points: Float[Tensor, "N 3"],
        to_directions: Float[Tensor, "N 3"],
    ) -> tuple[Float[Tensor, "R 3"], Float[Tensor, "R 3"]]:
        """Gradients to origins and directions, given those to what :meth:`carry_samples` gives.

        With p' = M (o + t d) + b and d' = R d: to o the sum of M^T g, to d the sum of t M^T g + R^T g'.
        """


def carry_vectors(
    kernels: CarryKernels,
    vectors: Float[Tensor, "N 3"],
    tables: Sequence[Float[Tensor, "F 3 W"]],
    mesh_index: Int[Tensor, " N"],
    face: Int[Tensor, " N"],
) -> Float[Tensor, "N 3"]:
    """``M v + offset`` by the row [M | offset] of each vector's mesh and face; tables of width 3 have no offset.

    Vectors whose face is -1 stay as they are.

    Note: differentiable once, with respect to ``vectors``. The tables are read where they lie.
    """
    return _CarryVectors.apply(kernels, vectors, list(tables), mesh_index, face)


def carry_samples(
    kernels: CarryKernels,
    origins: Float[Tensor, "R 3"],
    directions: Float[Tensor, "R 3"],
    samples: ShellSamples,
    transforms: Sequence[Float[Tensor, "F 3 4"]],
    rotations: Sequence[Float[Tensor, "F 3 3"]],
) -> tuple[Float[Tensor, "N 3"], Float[Tensor, "N 3"]]:
    """Middles of the samples and their rays' directions in the canonical head.

    Note: differentiable once, with respect to ``origins`` and ``directions``; the faces are held fixed.
    """
    return _CarrySamples.apply(kernels, origins, directions, samples, list(transforms), list(rotations))


class NumbaCarry:
    """:class:`CarryKernels` on the CPU."""

    def apply_tables(
        self, vectors: Tensor, tables: Sequence[Tensor], mesh_index: Tensor, face: Tensor, transpose: bool
    ) -> Tensor:
        from flame_nerf.kernels.cpu import carry as kernels

        out = torch.empty_like(vectors)
        faces, _, width = tables[0].shape
        kernels.apply_tables(
            _addresses(tables), width, transpose, mesh_index.numpy(), face.numpy(), vectors.numpy(), faces, out.numpy()
        )
        return out

    def carry_samples(
        self,
        samples: ShellSamples,
        transforms: Sequence[Tensor],
        rotations: Sequence[Tensor],
        origins: Tensor,
        directions: Tensor,
    ) -> tuple[Tensor, Tensor]:
        from flame_nerf.kernels.cpu import carry as kernels

        out = torch.empty(len(samples), 3), torch.empty(len(samples), 3)
        _over_rays(kernels.carry_samples, samples, transforms, rotations, [origins, directions, *out])
        return out

    def carry_samples_gradient(
        self,
        samples: ShellSamples,
        transforms: Sequence[Tensor],
        rotations: Sequence[Tensor],
        to_points: Tensor,
        to_directions: Tensor,
    ) -> tuple[Tensor, Tensor]:
        from flame_nerf.kernels.cpu import carry as kernels

        rays = len(samples.offsets) - 1
        out = torch.empty(rays, 3), torch.empty(rays, 3)
        _over_rays(kernels.carry_samples_gradient, samples, transforms, rotations, [to_points, to_directions, *out])
        return out


def _over_rays(
    kernel: Any,
    samples: ShellSamples,
    transforms: Sequence[Tensor],
    rotations: Sequence[Tensor],
    arrays: Sequence[Tensor],
) -> None:
    """Run a kernel of both directions over all rays."""
    packed = (samples.offsets, samples.mesh_index, samples.face, samples.t_start, samples.t_end)
    shared = [_addresses(transforms), _addresses(rotations), len(transforms[0]) if transforms else 0]
    shared += [values.numpy() for values in (*packed, *arrays)]
    run_in_chunks(lambda begin, end: kernel(begin, end, *shared), len(samples.offsets) - 1, _RAYS_PER_THREAD)


def _addresses(tables: Sequence[Tensor]) -> np.ndarray:
    """Addresses of contiguous float32 tables. Whoever uses them must keep the tables alive."""
    return np.array([table.data_ptr() for table in tables], np.uint64)


class _CarryVectors(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, kernels: CarryKernels, vectors: Tensor, tables: list[Tensor], mesh_index: Tensor, face: Tensor
    ) -> Tensor:
        ctx.kernels, ctx.tables = kernels, tables
        ctx.save_for_backward(mesh_index, face)
        return kernels.apply_tables(_plain(vectors), tables, mesh_index, face, transpose=False)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        mesh_index, face = ctx.saved_tensors
        carried = ctx.kernels.apply_tables(_plain(gradient), ctx.tables, mesh_index, face, transpose=True)
        return None, carried, None, None, None


class _CarrySamples(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        kernels: CarryKernels,
        origins: Tensor,
        directions: Tensor,
        samples: ShellSamples,
        transforms: list[Tensor],
        rotations: list[Tensor],
    ) -> tuple[Tensor, Tensor]:
        ctx.kernels, ctx.fixed = kernels, (samples, transforms, rotations)
        return kernels.carry_samples(samples, transforms, rotations, _plain(origins), _plain(directions))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, to_points: Tensor, to_directions: Tensor) -> tuple[Tensor | None, ...]:
        gradients = ctx.kernels.carry_samples_gradient(*ctx.fixed, _plain(to_points), _plain(to_directions))
        return None, *gradients, None, None, None


def _plain(values: Tensor) -> Tensor:
    return values.detach().to(torch.float32).contiguous()
