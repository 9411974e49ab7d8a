"""A texture without unfolding: every triangle carries its own small grid of values.

A triangle with n steps an edge has (n + 1)(n + 2) / 2 texels, at barycentric coordinates (1 - (i + j) / n, i / n,
j / n). Computed once on the rest shape and looked up by triangle and place in it, the texture sticks to the skin.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int


def grid(steps: int) -> Float[np.ndarray, "K 3"]:
    """Barycentric coordinates of a triangle's texels, in their stored order."""
    i, j = np.array([(i, j) for i in range(steps + 1) for j in range(steps + 1 - i)]).T
    return np.stack([steps - i - j, i, j], axis=1) / steps


@dataclass(frozen=True)
class Texels:
    """C values at every texel of a mesh whose triangles have grids of different fineness."""

    values: Float[np.ndarray, "N C"]
    first: Int[np.ndarray, " F"]
    """Row of each triangle's first texel."""
    steps: Int[np.ndarray, " F"]

    @staticmethod
    def of(layers: Sequence[tuple[int, Float[np.ndarray, "F K C"]]]) -> Texels:
        """From one (steps, values) pair for each part of the mesh, in the order of its triangles."""
        steps = np.concatenate([np.full(len(values), step) for step, values in layers])
        sizes = (steps + 1) * (steps + 2) // 2
        values = np.concatenate([values.reshape(-1, values.shape[-1]) for _, values in layers])
        return Texels(values.astype(np.float32), np.cumsum(sizes) - sizes, steps)

    def at(self, face: Int[np.ndarray, " R"], barycentric: Float[np.ndarray, "R 3"]) -> Float[np.ndarray, "R C"]:
        """The nearest texel's values at points of the mesh."""
        steps = self.steps[face]
        i = np.rint(barycentric[:, 1] * steps).astype(np.int64)
        j = np.minimum(np.rint(barycentric[:, 2] * steps).astype(np.int64), steps - i)
        # Rows of i before this one have steps + 1, steps, ... texels.
        return self.values[self.first[face] + i * (steps + 1) - i * (i - 1) // 2 + j]
