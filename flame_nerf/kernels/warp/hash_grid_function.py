"""Hash grid on CUDA through Warp, as an autograd function; on the CPU it runs too, on one thread."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from flame_nerf.kernels.grid_layout import GridLayout
from flame_nerf.kernels.warp.launch import launch, load_warp, wrap


def encode_warp(x: Float[Tensor, "N 3"], table: Float[Tensor, "rows F"], layout: GridLayout) -> Float[Tensor, "N LF"]:
    """Same as `encode_torch`, in one kernel forward and one backward; float32 only, also under autocast, where the
    field multiplies the features in float32 before its networks round them.

    Points outside [0, 1]³ are moved to its border. Never waits for the GPU.

    Note:
        Differentiable once, with respect to `table`, and to `x` where it requires a gradient. On CUDA gradients are
        summed in no fixed order.
    """
    return _EncodeWarp.apply(x, table, layout)


class _EncodeWarp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, table: Tensor, layout: GridLayout) -> Tensor:
        points, table = x.detach().float().contiguous(), table.detach().contiguous()
        ctx.save_for_backward(points, table)
        ctx.layout = layout
        out = torch.empty(len(x), layout.out_dim, device=x.device)
        _launch(_kernels(layout).encode, points, table, layout, [_rows(out, layout)])
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        layout, kernels, (points, table) = ctx.layout, _kernels(ctx.layout), ctx.saved_tensors
        to_points, to_table, _ = ctx.needs_input_grad
        # What has no rows is not wanted.
        grad_points = torch.zeros_like(points) if to_points else points[:0]
        grad_table = torch.zeros_like(table) if to_table else table[:0]
        grad_out = grad_out.float().contiguous()
        more = [_rows(grad_out, layout), wrap(grad_table, kernels.values), wrap(grad_points, load_warp().vec3)]
        _launch(kernels.gradients, points, table, layout, more)
        return (grad_points if to_points else None), (grad_table if to_table else None), None


def _kernels(layout: GridLayout) -> Any:
    from flame_nerf.kernels.warp import hash_grid as kernels

    return kernels.kernels_for(layout.features_per_level)


def _launch(kernel: Any, points: Tensor, table: Tensor, layout: GridLayout, more: list[Any]) -> None:
    """Run one of the kernels, which begin with the same arguments."""
    wp = load_warp()
    scales, levels = _levels(layout, points.device)
    shared = [wrap(points, wp.vec3), _words(table, layout), wrap(scales), wrap(levels, wp.vec4ui), len(points)]
    launch(kernel, layout.n_levels * len(points), [*shared, *more], points.device)


@lru_cache(maxsize=32)
def _levels(layout: GridLayout, device: torch.device) -> tuple[Float[Tensor, " L"], Int[Tensor, "L 4"]]:
    """Scales, and (resolution, rows, first row, whether dense) of each level, on a device."""
    shapes = np.stack([layout.resolutions, layout.sizes, layout.offsets, layout.dense], axis=1)
    return torch.from_numpy(layout.scales).to(device), torch.from_numpy(shapes.astype(np.int32)).to(device)


def _rows(features: Float[Tensor, "N LF"], layout: GridLayout) -> Any:
    """Encoded points as a kernel's array [N, L] of rows."""
    return _words(features.view(len(features), layout.n_levels, layout.features_per_level), layout)


def _words(features: Float[Tensor, "*N F"], layout: GridLayout) -> Any:
    """Features as a kernel's array of rows."""
    even = layout.features_per_level % 2 == 0
    return wrap(features.view(torch.int64) if even else features, _kernels(layout).row)
