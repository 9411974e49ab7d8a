"""Multi-resolution hash grid (Müller et al., "Instant Neural Graphics Primitives", 2022) behind one module."""

from __future__ import annotations

import logging
from functools import lru_cache
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from flame_nerf.encodings.tcnn_grid import encode_tcnn, tcnn_problem
from flame_nerf.encodings.torch_grid import encode_torch
from flame_nerf.kernels.availability import numba_problem
from flame_nerf.kernels.cpu.hash_grid_function import encode_numba
from flame_nerf.kernels.grid_layout import GridLayout
from flame_nerf.kernels.warp.hash_grid_function import encode_warp
from flame_nerf.kernels.warp.launch import warp_cuda_problem

Implementation = Literal["auto", "torch", "numba", "warp", "tcnn"]
_ENCODERS = {"torch": encode_torch, "numba": encode_numba, "warp": encode_warp, "tcnn": encode_tcnn}
# tiny-cuda-nn's and Instant-NGP's: small enough that the first decoded values come from the network's biases.
_INITIAL_RANGE = 1e-4


class HashGrid(nn.Module):
    """Encodes points of [0, 1]³ by interpolating a learned table at several resolutions.

    One table and one layout serve all implementations, so a state_dict moves freely between them and devices.
    """

    def __init__(
        self,
        n_levels: int = 8,
        features_per_level: int = 2,
        log2_hashmap_size: int = 16,
        base_resolution: int = 16,
        max_resolution: int = 512,
        implementation: Implementation = "auto",
    ) -> None:
        """
        Args:
            n_levels: number of resolutions, spaced geometrically.
            features_per_level: values per vertex.
            log2_hashmap_size: log2 of the most vertices stored per level; finer levels are hashed.
            base_resolution: vertices along an axis at the coarsest level.
            max_resolution: vertices along an axis at the finest level.
            implementation: "auto" takes, where the table lies, the first that works: on CUDA of tiny-cuda-nn, Warp and
                torch, on the CPU of numba and torch.

        Raises:
            ValueError: sizes that make no grid, or an implementation of another name.
        """
        super().__init__()
        if implementation not in get_args(Implementation):
            raise ValueError(f"implementation={implementation!r} is not one of {get_args(Implementation)}.")
        self.layout = GridLayout(n_levels, features_per_level, log2_hashmap_size, base_resolution, max_resolution)
        self.implementation: Implementation = implementation
        self.table = nn.Parameter(torch.empty(self.layout.n_rows, features_per_level))
        nn.init.uniform_(self.table, -_INITIAL_RANGE, _INITIAL_RANGE)

    @property
    def out_dim(self) -> int:
        """Features of one encoded point."""
        return self.layout.out_dim

    def forward(self, x: Float[Tensor, "N 3"]) -> Float[Tensor, "N LF"]:
        """Encode points.

        Note:
            Differentiable with respect to the table, and to `x` where it requires a gradient.

        Args:
            x: points in [0, 1]³.
        """
        return _ENCODERS[self.backend](x, self.table, self.layout)

    @property
    def backend(self) -> str:
        """The implementation that is used where the table lies now."""
        if self.implementation != "auto":
            return self.implementation
        # The kernels are float32; other precisions are for tests.
        if self.table.dtype != torch.float32:
            return "torch"
        if self.table.is_cuda:
            return cuda_backend()
        return "numba" if numba_problem() is None else "torch"


@lru_cache(maxsize=1)
def cuda_backend() -> Literal["tcnn", "warp", "torch"]:
    """The fastest implementation that works on this machine's GPU; says once in the log where that is plain torch."""
    without_tcnn = tcnn_problem()
    if without_tcnn is None:
        return "tcnn"
    without_warp = warp_cuda_problem()
    if without_warp is None:
        return "warp"
    logging.getLogger(__name__).warning(
        "Hash grid runs in plain torch on CUDA, many times slower: %s; %s.", without_warp, without_tcnn
    )
    return "torch"
