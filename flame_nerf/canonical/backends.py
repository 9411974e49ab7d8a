"""Which implementation of a search structure, and of the way to the canonical head, serves where.

What may run on this machine at all, `flame_nerf.kernels.availability` says.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from flame_nerf.canonical.carry import CarryKernels, NumbaCarry
from flame_nerf.canonical.search import MeshSearch
from flame_nerf.canonical.search_numba import NumbaSearch

Backend = Literal["auto", "numba", "warp"]


def make_search(faces: Int[Tensor, "F 3"], vertices: Float[Tensor, "V 3"], backend: Backend) -> MeshSearch:
    """The search structure for the device of ``vertices``: ``auto`` is numba on the CPU and warp on CUDA."""
    if backend == "auto":
        backend = "numba" if vertices.device.type == "cpu" else "warp"
    if backend == "numba":
        if vertices.device.type != "cpu":
            raise ValueError(f"canonical backend 'numba' runs on the CPU only, not on {vertices.device}: use 'auto'")
        return NumbaSearch(faces, vertices)
    if backend == "warp":
        from flame_nerf.canonical.search_warp import WarpSearch

        return WarpSearch(faces, vertices)
    raise ValueError(f"canonical backend must be 'auto', 'numba' or 'warp', not {backend!r}")


def make_carry(backend: Backend, device: torch.device) -> CarryKernels:
    """The kernels that belong to the search structure of a device."""
    if backend == "numba" or (backend == "auto" and device.type == "cpu"):
        return NumbaCarry()
    from flame_nerf.canonical.carry_warp import WarpCarry

    return WarpCarry()
