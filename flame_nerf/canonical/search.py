"""Search structures over posed meshes: nearest triangle, and the samples of rays inside the shell.

Two implementations of :class:`MeshSearch`: packets of points through our own tree on the CPU (`search_numba`), and
Warp's BVH on CUDA (and, slower, on the CPU; `search_warp`). Both give the same faces up to ties and the same samples.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor


@dataclass(frozen=True)
class MarchSettings:
    """Settings of the march through the shell; lengths in metres."""

    step: float
    """Length of every sample."""
    behind: float
    """Depth below the face it hits first that a ray goes to; inf: through the whole head."""
    grazing: float
    """Distance after that hit at which it ends though it is not so deep; at `behind` or less, every ray ends `behind`
    after its hit."""
    through: bool
    """Whether a ray that leaves the mesh before its end, or is never so deep in it, goes on to what it hits next."""
    near: float
    """Nothing is sampled before this distance along the ray."""
    far: float
    """Nothing is sampled after this distance along the ray."""
    max_samples: int
    """Samples a ray may have; those farthest from the origin are dropped."""


@dataclass(frozen=True)
class CoarseSpace:
    """Where around a posed mesh there may be something: all that is not empty, and at least half a cell more."""

    full: UInt8[Tensor, "X Y Z"]
    """1 where there may be something; outside is nothing."""
    low: Float[Tensor, " 3"]
    """Lower corner, metres."""
    per_metre: float
    """Cells a metre."""


@dataclass(frozen=True)
class EmptySpace:
    """Known density in the canonical head, and the way there: samples of empty cells are left out."""

    density: Float[Tensor, " cells"]
    """Highest density met in each cell, 1/m, x slowest; inf where nobody ever looked."""
    resolution: int
    """Cells along each side of the box."""
    box: Float[Tensor, "2 3"]
    """Its lower and upper corner, metres; points outside belong to the nearest cell."""
    least_density: float
    """A cell is empty where its density is below this, 1/m."""
    unseen_too: bool
    """Cells where nobody ever looked count as empty."""
    transforms: Sequence[Float[Tensor, "F 3 4"]] = ()
    """From each posed mesh to the canonical head, per face; the mapping fills them in."""
    coarse: CoarseSpace | None = None
    """Of the one posed mesh, where a search may skip without looking for a nearest triangle; None: it is not known."""


@dataclass
class Shell:
    """Thickness of the shell per face, with what the search derives from it once."""

    thickness: Float[Tensor, " F"]
    least: float
    most: float
    derived: dict[str, Any]
    """The search's own precomputed arrays."""


@dataclass
class ShellSamples:
    """N samples of R rays, packed: those of ray r are ``offsets[r]`` to ``offsets[r + 1]``, by growing distance."""

    ray_index: Int[Tensor, " N"]
    """Ray of each sample."""
    t_start: Float[Tensor, " N"]
    """Where it begins along the ray, metres from the origin."""
    t_end: Float[Tensor, " N"]
    """Where it ends: one step on."""
    offsets: Int[Tensor, " R+1"]
    """First sample of each ray."""
    face: Int[Tensor, " N"]
    """Face nearest to the sample's middle."""
    mesh_index: Int[Tensor, " N"]
    """Posed mesh of each sample's ray."""
    distance: Float[Tensor, " N"]
    """Metres from the sample's middle to that face."""
    skipped: int = 0
    """Further samples of the shell that were left out because nothing is where they are."""

    def __len__(self) -> int:
        return len(self.ray_index)

    @property
    def middle(self) -> Float[Tensor, " N"]:
        """Distance of the samples' middles along their rays, metres."""
        return 0.5 * (self.t_start + self.t_end)

    def filled_up(self, count: int) -> ShellSamples:
        """The same samples, and the first of them again up to `count`: at the same places, without length, so that they
        add nothing to their rays. `offsets` don't know of them, nor do kernels that go by those: for torch.

        Raises:
            ValueError: more than twice as many.
        """
        spare = count - len(self)
        if not 0 <= spare <= len(self):
            raise ValueError(f"{len(self)} samples cannot be filled up to {count}")
        again, middle = slice(spare), self.middle[:spare]
        return dataclasses.replace(
            self,
            ray_index=torch.cat([self.ray_index, self.ray_index[again]]),
            t_start=torch.cat([self.t_start, middle]),
            t_end=torch.cat([self.t_end, middle]),
            face=torch.cat([self.face, self.face[again]]),
            mesh_index=torch.cat([self.mesh_index, self.mesh_index[again]]),
            distance=torch.cat([self.distance, self.distance[again]]),
        )

    def positions(self, origins: Float[Tensor, "R 3"], directions: Float[Tensor, "R 3"]) -> Float[Tensor, "N 3"]:
        """The samples' middles in the rays' frame, metres. Differentiable with respect to the rays."""
        along = self.middle[:, None]
        return origins.index_select(0, self.ray_index) + along * directions.index_select(0, self.ray_index)


class MeshSearch(Protocol):
    """Queries of the mapping to a search structure. A *handle* is one frame's structure."""

    def build(self, vertices: Float[Tensor, "V 3"], reuse: Any | None = None) -> Any:
        """Structure for posed vertices; ``reuse``, a handle no longer needed, is overwritten where that is cheaper."""

    def handle_bytes(self, handle: Any) -> int:
        """Memory of a handle."""

    def make_shell(self, thickness: Float[Tensor, " F"]) -> Shell:
        """Prepare a shell for :meth:`march`."""

    def nearest(
        self, handles: Sequence[Any], mesh_index: Int[Tensor, " N"], points: Float[Tensor, "N 3"], max_distance: float
    ) -> tuple[Int[Tensor, " N"], Float[Tensor, " N"]]:
        """Nearest face and its distance; -1 and inf where none lies within ``max_distance``."""

    def first_hit(
        self,
        handles: Sequence[Any],
        mesh_index: Int[Tensor, " R"],
        origins: Float[Tensor, "R 3"],
        directions: Float[Tensor, "R 3"],
    ) -> tuple[Float[Tensor, " R"], Int[Tensor, " R"]]:
        """Distance to the first face that a ray meets (either side), and the face; inf and -1 where it meets none."""

    def march(
        self,
        handles: Sequence[Any],
        mesh_index: Int[Tensor, " R"],
        origins: Float[Tensor, "R 3"],
        directions: Float[Tensor, "R 3"],
        start: Float[Tensor, " R"],
        shell: Shell,
        settings: MarchSettings,
        empty: EmptySpace | None = None,
    ) -> ShellSamples:
        """All samples of the rays inside the shell and not in empty space; ``start`` shifts a ray's grid, in steps."""
