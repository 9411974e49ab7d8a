"""Occupancy of the canonical head: the field is not queried where it is known to be empty."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.distributed as dist
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from tyro.conf import Fixed

from flame_nerf.canonical import EmptySpace, ShellSamples
from flame_nerf.kernels.availability import cpu_kernels_cover
from flame_nerf.kernels.cells import cells_of
from flame_nerf.runtime.old_runs import StoredConfig

EMPTY_OPACITY = 2e-3
"""A sample is empty where even the highest density observed makes it less opaque than this: half of an 8-bit step."""
EMPTY_IN_PICTURES = 5e-3
"""The same for pictures, which show less of such haze than an 8-bit step a sample: there is much of it over the scalp,
and without it much of the space there is skipped. Pictures keep 58 dB and more to those with it."""
MEMORY = 0.9
"""Part of a cell's highest density that remains when an exploring step finds less there: of an opaque
cell, 60 such steps or some 700 steps in all make an empty one."""


@dataclass
class OccupancyConfig(StoredConfig):
    """Skipping of samples by the densities that training observed."""

    enabled: Fixed[bool] = True
    """Skip samples that are known to be empty. Off in tests, which compare with every sample."""
    resolution: int = 96
    """Cells along each side of the canonical box. Smaller cells skip more of the empty space close to the surface, and
    memory grows with the cube."""
    start_step: Fixed[int] = 200
    """Training step from which samples are skipped."""
    explore_every: Fixed[int] = 12
    """Every so many steps all samples are evaluated, so that what is skipped can come back."""


@dataclass
class _Copied:
    """A copy of a grid's densities."""

    density: Float[Tensor, " cells"]
    version: int
    """Torch's count of its own changes to the grid when it was made: kernels are not counted."""
    learned: list[Int[Tensor, " N"]] = field(default_factory=list)
    """Cells that kernels learned of since."""


class OccupancyGrid(nn.Module):
    """Highest density met in each cell of the canonical box; part of the checkpoint.

    It is the highest over all expressions shown so far: nothing is skipped because it is empty in another expression.
    Samples behind an opaque surface are not skipped: a cell is too coarse to say where in it the surface lies, and a
    sample wrongly left out is a hole in the head. `behind` keeps them few.
    """

    aabb: Float[Tensor, "2 3"]
    highest: Float[Tensor, " cells"]

    def __init__(self, aabb: Float[Tensor, "2 3"], config: OccupancyConfig):
        super().__init__()
        self.config = config
        cells = config.resolution**3 if config.enabled else 0
        self.register_buffer("aabb", aabb.clone(), persistent=False)
        self.register_buffer("highest", torch.full((cells,), torch.inf))
        self._copied: _Copied | None = None
        self._learned = 0

    @property
    def version(self) -> tuple[int, int]:
        """Another whenever the grid is: torch's count of its own changes, and how often kernels learned."""
        return self.highest._version, self._learned

    def note_change(self) -> None:
        """Its densities change: also where a recording changes them, which this module knows nothing of."""
        self._learned += 1

    def cells(self, p_canonical: Float[Tensor, "N 3"]) -> Int[Tensor, " N"]:
        """Cell of each canonical point; points outside of the box belong to the nearest."""
        return cells_of(p_canonical.detach(), self.aabb, self.config.resolution)

    def kept(self, cells: Int[Tensor, " N"], samples: ShellSamples) -> Int[Tensor, " K"]:
        """Samples worth asking the field about, in their order."""
        length = samples.t_end - samples.t_start
        return (self.highest[cells] * length >= EMPTY_OPACITY).nonzero()[:, 0]

    def empty_space(self, step: float, unseen_too: bool) -> EmptySpace:
        """Known empty space, for a march that skips it by itself.

        Args:
            step: length of its samples, metres.
            unseen_too: leave out what training never met, and what hardly shows in a picture.
        """
        opacity = EMPTY_IN_PICTURES if unseen_too else EMPTY_OPACITY
        return EmptySpace(self.highest, self.config.resolution, self.aabb, opacity / step, unseen_too)

    def frozen(self, empty: EmptySpace) -> EmptySpace:
        """Of this grid, but as it is now whatever is learned from here on, until this is called again: then the same
        memory is brought up to date, by what was learned meanwhile alone where only the kernels learned."""
        copied = self._copied
        if copied is None or copied.version != self.highest._version:
            copied = self._copied = _Copied(self.highest.clone(), self.highest._version)
        if copied.learned:
            from flame_nerf.kernels.cpu import occupancy as kernels

            for cells in copied.learned:
                kernels.copy_cells(cells.numpy(), self.highest.numpy(), copied.density.numpy())
            copied.learned.clear()
        return dataclasses.replace(empty, density=copied.density)

    def unseen(self, cells: Int[Tensor, " N"]) -> Bool[Tensor, " N"]:
        """True if no training ray ever asked about a cell: the far side of a head that never turned."""
        return self.highest[cells].isinf()

    def learn(self, cells: Int[Tensor, " N"], sigma: Float[Tensor, " N"], exploring: bool) -> None:
        """Take note of densities (1/m) that were met. Where several processes train, an exploring step brings what all
        of them met together: all must call this for the same steps.
        """
        self.note_change()
        sigma = sigma.detach().float()
        # Only what is looked at fades: a cell between the rays of this step is as full as it was.
        memory = MEMORY if exploring else 1.0
        if cpu_kernels_cover(sigma):
            from flame_nerf.kernels.cpu import occupancy as kernels

            kernels.learn(cells.numpy(), sigma.contiguous().numpy(), np.float32(memory), self.highest.numpy())
            if self._copied is not None:
                self._copied.learned.append(cells)
        else:
            known = self.highest[cells]
            self.highest[cells] = torch.where(known.isinf(), 0.0, known * memory)
            self.highest.scatter_reduce_(0, cells, sigma, "amax")
        if exploring and dist.is_available() and dist.is_initialized():
            self._agree(cells)

    def _agree(self, looked_at: Int[Tensor, " N"]) -> None:
        """The same grid in all processes, as one process would have it that looked at the cells of all of them."""
        looked = torch.full_like(self.highest, -1.0)
        looked[looked_at] = self.highest[looked_at]
        known = self.highest.masked_fill(self.highest.isinf(), -1.0)
        both = torch.stack([looked, known])
        dist.all_reduce(both, dist.ReduceOp.MAX)
        # What one process looked at may have faded in it; elsewhere the highest that any of them met counts.
        merged = torch.where(both[0] >= 0, both[0], both[1])
        self.highest.copy_(merged.masked_fill(merged < 0, torch.inf))


def select(samples: ShellSamples, kept: Int[Tensor, " K"]) -> ShellSamples:
    """The samples of the given numbers, which must ascend, as packed samples of the same rays."""
    offsets = torch.searchsorted(kept, samples.offsets)
    arrays = {
        field.name: getattr(samples, field.name).index_select(0, kept)
        for field in dataclasses.fields(samples)
        if field.name not in ("offsets", "skipped")
    }
    skipped = samples.skipped + len(samples) - len(kept)
    return dataclasses.replace(samples, offsets=offsets, skipped=skipped, **arrays)
