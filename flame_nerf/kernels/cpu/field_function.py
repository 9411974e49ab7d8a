"""The whole field on the CPU as one autograd function: hash grid, both networks and all their gradients."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from flame_nerf.kernels.cpu.field_layout import Plan
from flame_nerf.kernels.cpu.hash_grid_function import encode_rows, encode_rows_gradients
from flame_nerf.kernels.cpu.threads import run_in_chunks
from flame_nerf.kernels.grid_layout import GridLayout

_BLOCKS_PER_THREAD = 8
"""Blocks of points below which a second thread costs more than it brings."""


@dataclass(frozen=True)
class FieldShape:
    """What is constant about a field."""

    layout: GridLayout
    """Of the hash grid."""
    plan: Plan
    """Of the networks."""
    scaled: bool
    """Frames scale the grid's features."""
    degree: int
    """Of the direction's harmonics."""
    log_initial_density: float
    """Added to the density network's first output."""


def evaluate_field(
    points: Float[Tensor, "N 3"],
    directions: Float[Tensor, "N 3"],
    frame_index: Int[Tensor, " N"],
    table: Float[Tensor, "rows F"],
    weights: Float[Tensor, " P"],
    frames: Float[Tensor, "B K"],
    box: Float[Tensor, "2 3"],
    shape: FieldShape,
) -> tuple[Float[Tensor, " N"], Float[Tensor, "N 3"]]:
    """Density (1/m) and colour, as `FlameNerfField.canonical` computes them with torch; float32, on the CPU.

    Note:
        Differentiable once, with respect to `points`, `directions`, `table`, `weights` and `frames`.

    Args:
        points: in the canonical head, metres.
        directions: unit viewing directions there.
        frame_index: row of `frames` of each point. Fastest where equal ones lie together.
        table: the hash grid's.
        weights: of both networks, from `plan.pack_weights`.
        frames: scales and shifts of the frames at hand, from `plan.pack_frames`.
        box: corners of the canonical box, metres.
        shape: all that is constant.
    """
    return _Field.apply(points, directions, table, weights, frames, frame_index, box, shape)


class _Field(torch.autograd.Function):
    @staticmethod
    def forward(ctx, points, directions, table, weights, frames, frame_index, box, shape):
        from flame_nerf.kernels.cpu import field as kernels

        n = len(points)
        unit, (low, high) = torch.empty(3, n), box.numpy()
        kernels.to_unit(points.detach().contiguous().numpy(), low, high - low, unit.numpy())
        directions, frame_index = directions.detach().contiguous(), frame_index.contiguous()
        weights, frames = weights.detach(), frames.detach()
        features = encode_rows(unit, table, shape.layout)
        sigma, rgb = torch.empty(n), torch.empty(n, 3)
        inputs = _arguments(features, unit, directions, frame_index, frames, weights, shape)
        run_in_chunks(
            lambda begin, end: kernels.forward(*_points(begin, end, n), *inputs, sigma.numpy(), rgb.numpy()),
            _blocks(n),
            _BLOCKS_PER_THREAD,
        )
        ctx.save_for_backward(features, unit, directions, frame_index, frames, weights, table, box)
        ctx.shape = shape
        return sigma, rgb

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_sigma, grad_rgb):
        from flame_nerf.kernels.cpu import field as kernels

        features, unit, directions, frame_index, frames, weights, table, box = ctx.saved_tensors
        to_points, to_directions, to_table = ctx.needs_input_grad[:3]
        n = len(directions)
        grad_sigma, grad_rgb = grad_sigma.contiguous().numpy(), grad_rgb.contiguous().numpy()
        grad_features = torch.empty_like(features)
        grad_directions = torch.empty(n if to_directions else 0, 3)
        inputs = _arguments(features, unit, directions, frame_index, frames, weights, ctx.shape)

        def work(begin: int, end: int) -> tuple[Tensor, Tensor]:
            to_weights, to_frames = torch.zeros_like(weights), torch.zeros_like(frames)
            kernels.backward(
                *_points(begin, end, n), *inputs, grad_sigma, grad_rgb, to_directions,
                grad_features.numpy(), grad_directions.numpy(), to_weights.numpy(), to_frames.numpy(),
            )  # fmt: skip
            return to_weights, to_frames

        parts = run_in_chunks(work, _blocks(n), _BLOCKS_PER_THREAD)
        grad_weights, grad_frames = (torch.stack(values).sum(dim=0) for values in zip(*parts, strict=True))
        grad_table, grad_points = encode_rows_gradients(
            unit, grad_features, table, ctx.shape.layout, to_table, to_points
        )
        if to_points:
            grad_unit, grad_points, (low, high) = grad_points, torch.empty(n, 3), box.numpy()
            kernels.to_unit_gradient(grad_unit.numpy(), unit.numpy(), high - low, grad_points.numpy())
        return (
            grad_points,
            grad_directions if to_directions else None,
            grad_table,
            grad_weights,
            grad_frames,
            None,
            None,
            None,
        )


def _arguments(
    features: Tensor, unit: Tensor, directions: Tensor, frame_index: Tensor, frames: Tensor, weights: Tensor,
    shape: FieldShape,
) -> tuple:  # fmt: skip
    """What both kernels read, in their order."""
    plan = shape.plan
    return (
        features.numpy(), unit.numpy(), directions.numpy(), frame_index.numpy(), frames.numpy(), shape.scaled,
        plan.layers, weights.numpy(), plan.n_rows, plan.density_row, plan.harmonics_row, plan.color_row,
        shape.degree, np.float32(shape.log_initial_density),
    )  # fmt: skip


def _blocks(n: int) -> int:
    from flame_nerf.kernels.cpu.dense import BLOCK

    return -(-n // BLOCK)


def _points(begin: int, end: int, n: int) -> tuple[int, int]:
    """Points of a range of blocks."""
    from flame_nerf.kernels.cpu.dense import BLOCK

    return begin * BLOCK, min(end * BLOCK, n)
