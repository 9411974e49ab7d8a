"""Shoulders and chest under the head mesh, lofted from its lower border. They are background: no mask shows them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

_RINGS = ((1.0, 1.0, 0.0), (1.12, 1.05, 0.008), (1.32, 1.12, 0.022), (1.52, 1.2, 0.05), (1.62, 1.3, 0.10),
          (1.66, 1.4, 0.18), (1.68, 1.45, 0.60))  # fmt: skip
"""Width and depth of each ring, in those of the head mesh's lower border, and how far it lies below, metres."""


@dataclass(frozen=True)
class Torso:
    """Which vertices of the head it hangs on, and its faces (rows of what `vertices` returns)."""

    border: Int[np.ndarray, " B"]
    faces: Int[np.ndarray, "G 3"]

    def vertices(
        self, head_vertices: Float[np.ndarray, "V 3"], torso_to_head: Float[np.ndarray, "3 3"]
    ) -> Float[np.ndarray, "N 3"]:
        """The torso under a posed head, in the head frame, metres.

        Args:
            torso_to_head: rotation from the body's axes to the head's.
        """
        loop = head_vertices[self.border]
        centre = loop.mean(axis=0)
        local = (loop - centre) @ torso_to_head
        rings = []
        for row, (wide, deep, drop) in enumerate(_RINGS):
            level = local[:, 1] * (1 - row / (len(_RINGS) - 1))
            rings.append(np.stack([local[:, 0] * wide, level - drop, local[:, 2] * deep], axis=1))
        return np.concatenate(rings) @ torso_to_head.T + centre


def make_torso(vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"]) -> Torso:
    """A torso for a head mesh that ends at the neck in one open border, below all its other open borders."""
    half = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1)
    edges, count = np.unique(half, axis=0, return_counts=True)
    border = np.unique(edges[count == 1])
    # The other open borders are those of the eyes' sockets, at the height of the origin.
    low = border[vertices[border, 1] < -0.12]
    around = vertices[low] - vertices[low].mean(axis=0)
    loop = low[np.argsort(np.arctan2(around[:, 0], around[:, 2]))]
    size = len(loop)
    here, there = np.arange(size), (np.arange(size) + 1) % size
    strips = []
    for ring in range(len(_RINGS) - 1):
        a, b = ring * size + here, ring * size + there
        strips += [np.stack([a, a + size, b], axis=1), np.stack([b, a + size, b + size], axis=1)]
    return Torso(loop, np.concatenate(strips))
