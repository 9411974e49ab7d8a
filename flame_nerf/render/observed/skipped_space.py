"""Where around a posed mesh there may be anything at all, roughly: a march that sees so skips the search there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from flame_nerf.canonical import CanonicalMapping, CoarseSpace, EmptySpace, PosedMesh
from flame_nerf.canonical.backends import make_carry
from flame_nerf.canonical.carry import CarryKernels, carry_vectors


@dataclass
class FullCells:
    """The canonical cells that are not known to be empty."""

    middles: Float[Tensor, "N 3"]
    """Metres."""
    face: Int[Tensor, " N"]
    """Nearest triangles."""
    diagonal: float
    """Of a cell, metres."""
    kernels: CarryKernels

    @classmethod
    @torch.no_grad()
    def of(cls, mapping: CanonicalMapping, empty: EmptySpace) -> FullCells:
        """Those of a head that was trained; takes a tenth of a second."""
        full = empty.density >= empty.least_density
        if empty.unseen_too:
            full &= empty.density.isfinite()
        side, cell = empty.resolution, full.nonzero()[:, 0]
        places = torch.stack([cell // side**2, cell // side % side, cell % side], dim=1)
        low, high = empty.box
        size = (high - low) / side
        middles = low + (places + 0.5) * size
        nearest = torch.zeros(len(middles), dtype=torch.long, device=middles.device)
        canonical = mapping.pose(mapping.canonical_vertices)
        face = mapping.to_canonical([canonical], nearest, middles).face
        return cls(middles, face, float(size.norm()), make_carry(mapping.config.backend, mapping.device))

    @torch.no_grad()
    def around(self, mesh: PosedMesh) -> CoarseSpace | None:
        """Carried to a posed mesh; None where there are none. Milliseconds.

        A point of a posed head and the middle of the canonical cell that it falls into are less than half a diagonal
        apart, and go the same way but for the bend between neighbouring triangles. Cells here are a diagonal wide, and
        those next to a full one count as full.
        """
        if len(self.middles) == 0:
            return None
        linear, offset = mesh.transforms[:, :, :3], mesh.transforms[:, :, 3]
        # A triangle without area has no way back; it has no samples either.
        usable = linear.det().abs() > 1e-6
        back = torch.linalg.inv(torch.where(usable[:, None, None], linear, torch.eye(3, device=linear.device)))
        tables = torch.cat([back, -(back @ offset[:, :, None])], dim=2).contiguous()
        posed = carry_vectors(self.kernels, self.middles, [tables], torch.zeros_like(self.face), self.face)
        if not bool(usable.all()):
            posed = posed[usable[self.face]]
        low = posed.amin(dim=0) - 2 * self.diagonal
        place = ((posed - low) / self.diagonal).long()
        size = [int(most) + 3 for most in place.amax(dim=0)]
        full = torch.zeros(size, dtype=torch.uint8, device=place.device)
        full.view(-1)[(place[:, 0] * size[1] + place[:, 1]) * size[2] + place[:, 2]] = 1
        for axis in range(3):
            full = _with_neighbours(full, axis)
        return CoarseSpace(full, low, 1 / self.diagonal)


def _with_neighbours(full: UInt8[Tensor, "X Y Z"], axis: int) -> UInt8[Tensor, "X Y Z"]:
    """The largest of each cell and the two next to it along an axis."""
    out, last = full.clone(), full.shape[axis] - 1
    out.narrow(axis, 1, last).copy_(torch.maximum(full.narrow(axis, 1, last), full.narrow(axis, 0, last)))
    before = out.narrow(axis, 0, last)
    before.copy_(torch.maximum(before, full.narrow(axis, 1, last)))
    return out


class SkippedSpace:
    """Adds to the empty space of a picture's one mesh where nothing is around it at all; kept while it is the same."""

    def __init__(self, mapping: CanonicalMapping) -> None:
        self._mapping = mapping
        self._full: tuple[tuple[int, int], FullCells] | None = None
        self._around: tuple[PosedMesh, CoarseSpace | None] | None = None

    def added(
        self, empty: EmptySpace | None, meshes: Sequence[PosedMesh], version: tuple[int, int]
    ) -> EmptySpace | None:
        """The empty space with its `coarse`; as it is in training, for several meshes, on a GPU, and
        where triangles are not blended.

        Args:
            version: of its densities: another whenever they are.
        """
        if empty is None or not empty.unseen_too or len(meshes) != 1 or self._mapping.device.type != "cpu":
            return empty
        if self._mapping.config.neighbourhood == "face" or self._mapping.config.blend_regions:
            # Neighbouring triangles that go each their own way leave gaps between the cells that they carry.
            return empty
        if self._full is None or self._full[0] != version:
            self._full, self._around = (version, FullCells.of(self._mapping, empty)), None
        # A picture is marched in parts.
        if self._around is None or self._around[0] is not meshes[0]:
            self._around = meshes[0], self._full[1].around(meshes[0])
        return replace(empty, coarse=self._around[1])
