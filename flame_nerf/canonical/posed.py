"""One frame's posed mesh with all that the mapping derives from it, and points that were carried by it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass
class PosedMesh:
    """One frame's structures, made by :meth:`CanonicalMapping.pose`. Read only."""

    vertices: Float[Tensor, "V 3"]
    """Posed vertices, world metres."""
    transforms: Float[Tensor, "F 3 4"]
    """Posed to canonical, per face: of the whole neighbourhood (blend per face) or of the face alone (per point)."""
    rotations: Float[Tensor, "F 3 3"]
    """Rotation of ``transforms``, for directions."""
    centres: Float[Tensor, "F 3"]
    """Face centres, world metres."""
    usable: Float[Tensor, " F"]
    """1 for faces with a frame, 0 for faces without area."""
    search: Any = field(repr=False)
    """The search structure's handle."""
    nbytes: int
    """Memory of all of it."""


@dataclass
class CanonicalPoints:
    """Points carried to canonical space."""

    points: Float[Tensor, "N 3"]
    """Canonical positions, metres."""
    directions: Float[Tensor, "N 3"] | None
    """The directions that were given, turned along."""
    face: Int[Tensor, " N"]
    """Face whose neighbourhood carried the point; -1: none within ``max_distance``, the point is where it was."""
    distance: Float[Tensor, " N"] | None
    """Metres to that face in the posed mesh; None where the faces were given."""


def checked_index(index: Tensor, count: int, what: str, least: int) -> Tensor:
    """The index as contiguous int64. Kernels on the CPU would read foreign memory where it is out of range."""
    index = index.to(torch.int64).contiguous()
    if index.device.type == "cpu" and len(index):
        low, high = (int(value) for value in index.aminmax())
        if low < least or high >= count:
            raise ValueError(f"{what} must lie in {least} to {count - 1}, got {low} to {high}")
    return index
