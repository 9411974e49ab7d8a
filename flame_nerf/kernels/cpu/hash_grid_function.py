"""Hash grid on the CPU through compiled kernels, as an autograd function."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from flame_nerf.kernels.cpu.threads import parts_of, run_shares
from flame_nerf.kernels.grid_layout import GridLayout

# Below this many points waking a second thread costs more than it saves.
_POINTS_PER_SHARE = 2048


def encode_numba(x: Float[Tensor, "N 3"], table: Float[Tensor, "rows F"], layout: GridLayout) -> Float[Tensor, "N LF"]:
    """Same as `encode_torch`, several ten times faster on a CPU; float32 only.

    Levels are shared out among torch's number of threads. Points outside [0, 1]³ are moved to its border.

    Note:
        Differentiable once, with respect to `table`, and to `x` where it requires a gradient.
    """
    return _EncodeNumba.apply(x, table, layout)


def encode_rows(
    columns: Float[Tensor, "3 N"], table: Float[Tensor, "rows F"], layout: GridLayout
) -> Float[Tensor, "LF N"]:
    """The encoding with one feature after the other, for points given one axis after the other. No gradients."""
    from flame_nerf.kernels.cpu import hash_grid as kernels

    n = columns.shape[1]
    out = torch.empty(layout.out_dim, n)
    shares = _shares(n, layout)
    run_shares(kernels.encode, columns.numpy(), table.detach().numpy(), *_levels(layout), out.numpy(), shares=shares)
    return out


def encode_rows_gradients(
    columns: Float[Tensor, "3 N"],
    grad_out: Float[Tensor, "LF N"],
    table: Float[Tensor, "rows F"],
    layout: GridLayout,
    to_table: bool,
    to_points: bool,
) -> tuple[Float[Tensor, "rows F"] | None, Float[Tensor, "3 N"] | None]:
    """Gradients of `encode_rows` with respect to the table and to the points, where wanted."""
    from flame_nerf.kernels.cpu import hash_grid as kernels

    n = columns.shape[1]
    shares = _shares(n, layout)
    grad_table = torch.empty(len(table) if to_table else 0, layout.features_per_level)
    grad_points = torch.zeros(shares if to_points else 0, 3, n)
    run_shares(
        kernels.gradients,
        columns.numpy(),
        grad_out.numpy(),
        table.detach().numpy(),
        *_levels(layout),
        grad_table.numpy(),
        grad_points.numpy(),
        shares=shares,
    )
    return (grad_table if to_table else None), (grad_points.sum(dim=0) if to_points else None)


class _EncodeNumba(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, table: Tensor, layout: GridLayout) -> Tensor:
        columns = x.detach().t().float().contiguous()
        ctx.save_for_backward(columns, table)
        ctx.layout = layout
        return encode_rows(columns, table, layout).t().contiguous()

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_out: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        columns, table = ctx.saved_tensors
        to_points, to_table, _ = ctx.needs_input_grad
        grad_table, grad_columns = encode_rows_gradients(
            columns, grad_out.t().float().contiguous(), table, ctx.layout, to_table, to_points
        )
        return (None if grad_columns is None else grad_columns.t()), grad_table, None


def _levels(layout: GridLayout) -> tuple:
    return layout.scales, layout.resolutions, layout.sizes, layout.offsets, layout.dense


def _shares(n_points: int, layout: GridLayout) -> int:
    """Threads that levels are shared out among."""
    return min(layout.n_levels, parts_of(n_points, _POINTS_PER_SHARE))
