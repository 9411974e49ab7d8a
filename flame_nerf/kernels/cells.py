"""Cells of the canonical box: their one numbering.

Along each axis a point lies in cell (p - low) * cells a metre, rounded down, and outside of the box in the nearest;
x counts slowest. Its twins are `kernels.cpu.occupancy.axis_cell`, which the CPU's march inlines, and `_canonical_cell`
of `kernels.warp.mesh`.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from flame_nerf.kernels.availability import cpu_kernels_cover


def cells_per_metre(box: Float[Tensor, "2 3"], resolution: int) -> Float[Tensor, " 3"]:
    """Cells a metre along each axis of a box with `resolution` cells along each side."""
    return resolution / (box[1] - box[0])


@torch.no_grad()
def cells_of(points: Float[Tensor, "N 3"], box: Float[Tensor, "2 3"], resolution: int) -> Int[Tensor, " N"]:
    """Cell of each point; those outside of the box belong to the nearest.

    Args:
        points: metres.
        box: lower and upper corner, metres.
        resolution: cells along each side.
    """
    per_metre = cells_per_metre(box, resolution)
    if cpu_kernels_cover(points):
        from flame_nerf.kernels.cpu import occupancy as kernels

        cells = torch.empty(len(points), dtype=torch.int64)
        kernels.cells(points.contiguous().numpy(), box[0].numpy(), per_metre.numpy(), resolution, cells.numpy())
        return cells
    x, y, z = ((points - box[0]) * per_metre).long().clamp(0, resolution - 1).unbind(dim=1)
    return (x * resolution + y) * resolution + z
