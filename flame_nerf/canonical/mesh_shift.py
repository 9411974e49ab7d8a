"""Corrections of meshes whose search structures stay as they are."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class MeshShift:
    """Shift of triangles by corrections, for meshes whose search structures stay as they are; metres."""

    posed: Float[Tensor, "B F 3"]
    """Of the posed meshes."""
    canonical: Float[Tensor, "F 3"] | None
    """Of the canonical mesh."""

    def detach(self) -> MeshShift:
        """The same without gradients."""
        return MeshShift(self.posed.detach(), None if self.canonical is None else self.canonical.detach())
