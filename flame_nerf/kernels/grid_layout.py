"""Where each level of a multi-resolution hash grid lies in its table.

The layout is tiny-cuda-nn's (coherent prime hash, dense coarse levels, half-cell shift), so that one table serves every
implementation: a checkpoint trained on CUDA with tiny-cuda-nn opens on a laptop's CPU.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

# Instant-NGP, section 4: h(x) = (x ^ y·π2 ^ z·π3) mod T; the first factor is 1 so that x runs along cache lines.
PRIME_Y = 2_654_435_761
PRIME_Z = 805_459_861


@dataclass(frozen=True)
class GridLayout:
    """Sizes of a multi-resolution grid over [0, 1]³; level l has vertices at (x·scale_l + 0.5) ∈ ℕ³."""

    n_levels: int
    """Number of resolutions."""
    features_per_level: int
    """Values stored at each vertex."""
    log2_hashmap_size: int
    """log2 of the most rows a level may have; a level with more vertices than that is hashed."""
    base_resolution: int
    """Vertices along one axis at the coarsest level."""
    max_resolution: int
    """Vertices along one axis at the finest level."""

    def __post_init__(self) -> None:
        if self.n_levels < 1 or self.features_per_level < 1:
            raise ValueError(
                f"A hash grid needs at least one level and one feature, not n_levels={self.n_levels}, "
                f"features_per_level={self.features_per_level}."
            )
        if not 3 <= self.log2_hashmap_size <= 28:
            raise ValueError(f"log2_hashmap_size={self.log2_hashmap_size} is outside 3..28.")
        if not 2 <= self.base_resolution <= self.max_resolution:
            raise ValueError(
                "Resolutions must satisfy 2 <= base_resolution <= max_resolution, not "
                f"{self.base_resolution} and {self.max_resolution}."
            )

    @cached_property
    def growth(self) -> float:
        """Factor between the resolutions of neighbouring levels."""
        if self.n_levels == 1:
            return 1.0
        return math.exp(math.log(self.max_resolution / self.base_resolution) / (self.n_levels - 1))

    @cached_property
    def scales(self) -> np.ndarray:
        """[L] float32: vertex spacing is 1/scale."""
        # Rounded before the ceil below, or the last level's resolution would hang on the last bit of exp(log()).
        scales = [round(self.base_resolution * self.growth**level - 1.0, 4) for level in range(self.n_levels)]
        return np.array(scales, np.float32)

    @cached_property
    def resolutions(self) -> np.ndarray:
        """[L] uint32: vertices along one axis."""
        return np.ceil(self.scales).astype(np.uint32) + np.uint32(1)

    @cached_property
    def dense(self) -> np.ndarray:
        """[L] bool: every vertex has a row of its own."""
        return self.resolutions.astype(np.int64) ** 3 <= 1 << self.log2_hashmap_size

    @cached_property
    def sizes(self) -> np.ndarray:
        """[L] uint32: rows of each level; a power of two wherever the level is hashed."""
        rows = (self.resolutions.astype(np.int64) ** 3 + 7) // 8 * 8
        return np.minimum(rows, 1 << self.log2_hashmap_size).astype(np.uint32)

    @cached_property
    def offsets(self) -> np.ndarray:
        """[L] uint32: first row of each level."""
        return np.concatenate([[0], np.cumsum(self.sizes)[:-1]]).astype(np.uint32)

    @property
    def n_rows(self) -> int:
        """Rows of the whole table."""
        return int(self.sizes.sum(dtype=np.int64))

    @property
    def out_dim(self) -> int:
        """Features of one encoded point: levels × features."""
        return self.n_levels * self.features_per_level
