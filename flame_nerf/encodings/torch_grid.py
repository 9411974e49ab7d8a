"""Hash grid in plain torch: the reference that the faster paths are tested against, for any device and precision."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from flame_nerf.kernels.grid_layout import PRIME_Y, PRIME_Z, GridLayout

_CORNERS = tuple((c & 1, (c >> 1) & 1, c >> 2) for c in range(8))


def encode_torch(x: Float[Tensor, "N 3"], table: Float[Tensor, "rows F"], layout: GridLayout) -> Float[Tensor, "N LF"]:
    """Trilinear interpolation of the table at every level, levels side by side.

    Note:
        Differentiable with respect to `x` and `table`, any number of times in `table`.

    Args:
        x: points in [0, 1]³.
        table: rows of all levels, in the order and with the sizes `layout` gives.
        layout: the grid's sizes.
    """
    return torch.cat([_encode_level(x, table, layout, level) for level in range(layout.n_levels)], dim=-1)


def _encode_level(x: Tensor, table: Tensor, layout: GridLayout, level: int) -> Float[Tensor, "N F"]:
    position = x * float(layout.scales[level]) + 0.5
    cell = position.detach().floor()
    upper = position - cell
    lower = 1.0 - upper
    cell = cell.long()
    corners = cell[:, None, :] + torch.tensor(_CORNERS, device=x.device)
    weights = [
        (upper if cx else lower)[:, 0] * (upper if cy else lower)[:, 1] * (upper if cz else lower)[:, 2]
        for cx, cy, cz in _CORNERS
    ]
    rows = table.index_select(0, _row_index(corners, layout, level).flatten())
    return (rows.view(len(x), 8, layout.features_per_level) * torch.stack(weights, dim=-1)[..., None]).sum(dim=1)


def _row_index(vertices: Int[Tensor, "N 8 3"], layout: GridLayout, level: int) -> Int[Tensor, "N 8"]:
    resolution, size = int(layout.resolutions[level]), int(layout.sizes[level])
    x, y, z = vertices.unbind(dim=-1)
    if layout.dense[level]:
        # The half-cell shift puts the last vertex one past the end; like tiny-cuda-nn, it wraps.
        index = x + y * resolution + z * resolution**2
    else:
        # int64 keeps the products exact; the low bits that survive the modulus are those of 32-bit arithmetic.
        index = x ^ (y * PRIME_Y) ^ (z * PRIME_Z)
    return index % size + int(layout.offsets[level])
