"""How fine the field is at each place: as fine as its grid where cameras looked, coarser where none did."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from scipy.spatial import cKDTree
from torch import Tensor, nn

from flame_nerf.kernels.cells import cells_of

RESOLUTION = 64
"""Cells along each side of the canonical box: half a centimetre or so."""

FEWEST = 5
"""Levels that are left anywhere: with four, hair that only the back has was learned as grey in place of brown."""


class Detail(nn.Module):
    """Which of the hash grid's finest levels the field does without in each cell of the canonical box; part of the
    checkpoint.

    Rays of training meet a place that no camera filmed a few times in all. The coarse levels' cells there are met often
    enough to learn the mean of what they are told; the finest would keep what single rays said, and share their rows
    with places that are far away: grain.

    Attributes:
        left_out: levels in each cell. All zero: the field has all of them everywhere.
    """

    box: Float[Tensor, "2 3"]
    left_out: UInt8[Tensor, " cells"]
    _level: Int[Tensor, " E"]

    def __init__(self, box: Float[Tensor, "2 3"], levels: int, features_per_level: int):
        """
        Args:
            box: lower and upper corner of the canonical box, metres.
            levels, features_per_level: of the grid.
        """
        super().__init__()
        self.register_buffer("box", box.clone(), persistent=False)
        self.register_buffer("left_out", torch.zeros(RESOLUTION**3, dtype=torch.uint8))
        level = torch.arange(levels).repeat_interleave(features_per_level)
        self.register_buffer("_level", level, persistent=False)
        self._most = 0

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        # Runs from before there was one are shown as they were. A pipeline loads its model, and then itself without.
        state_dict.setdefault(prefix + "left_out", self.left_out.clone())
        super()._load_from_state_dict(state_dict, prefix, *rest)
        self._most = int(self.left_out.max())

    @torch.no_grad()
    def learn(self, left_out: UInt8[Tensor, " V"], vertices: Float[Tensor, "V 3"]) -> None:
        """Take what the field shall do without around each vertex of the canonical head, eighths of its levels rounded
        down; a cell has its nearest's."""
        along = (torch.arange(RESOLUTION) + 0.5) / RESOLUTION
        unit = torch.cartesian_prod(along, along, along)
        low, high = self.box.cpu()
        nearest = cKDTree(vertices.cpu().numpy()).query((low + unit * (high - low)).numpy(), eps=0.1)[1]
        count = int(self._level.max()) + 1
        levels = (left_out.cpu().long() * count // 8).clamp_max(max(0, count - FEWEST))
        of_cell = levels[torch.from_numpy(np.asarray(nearest))]
        self.left_out.copy_(of_cell)
        self._most = int(of_cell.max())

    def of_points(
        self, points: Float[Tensor, "N 3"], condition: Float[Tensor, "B C"], index: Int[Tensor, " N"]
    ) -> tuple[Float[Tensor, "D C"], Int[Tensor, " N"], Float[Tensor, "D E"] | None]:
        """Conditions and each point's row of them, as they were given, but one row for each of the details that there
        are; and factors of the grid's features for each row. None: all are 1.

        Args:
            points: in the canonical head, metres.
            condition: of the B moments at hand.
            index: row of each point.
        """
        if self._most == 0:
            return condition, index, None
        kinds = self._most + 1
        kind = self.left_out[cells_of(points, self.box, RESOLUTION)]
        kept = self._level <= self._level.max() - torch.arange(kinds, device=points.device)[:, None]
        factors = kept.to(condition.dtype).repeat(len(condition), 1)
        return condition.repeat_interleave(kinds, dim=0), index * kinds + kind, factors


def in_order(
    query: Callable[..., tuple[Float[Tensor, " N"], Float[Tensor, "N 3"]]],
    points: Float[Tensor, "N 3"],
    directions: Float[Tensor, "N 3"],
    condition: Float[Tensor, "D C"],
    index: Int[Tensor, " N"],
    factors: Float[Tensor, "D E"],
) -> tuple[Float[Tensor, " N"], Float[Tensor, "N 3"]]:
    """What a field answers, asked with points of equal rows beside each other, with which the CPU's kernels are
    fastest."""
    # Sorted by their digits, which takes a twentieth of the time, are 16 bits and no more.
    order = torch.from_numpy(np.argsort(index.numpy().astype(np.int16), kind="stable"))
    back = torch.empty_like(order).index_copy_(0, order, torch.arange(len(order)))
    points, directions, index = (values.index_select(0, order) for values in (points, directions, index))
    sigma, rgb = query(points, directions, condition, index, factors)
    return sigma.index_select(0, back), rgb.index_select(0, back)
