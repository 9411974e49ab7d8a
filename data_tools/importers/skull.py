"""What of a head moves: told from the meshes alone, where no model says it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from data_tools.importers.capture import Capture
from data_tools.importers.overlay import BROW, CHIN
from flame_nerf.subject.rigid import rigid_fit, stands_still

SAMPLED = 48
"""Moments, evenly spread, that are looked at."""
SHARE = 0.25
"""Part of the vertices that is taken for the skull: those that move least against each other."""
ROUNDS = 3


@dataclass(frozen=True)
class Skull:
    """The part of a mesh that does not follow expressions."""

    vertices: Int[np.ndarray, " N"]
    moves: bool
    """Whether it moves in the world, so that heads must be stabilised."""

    def head_from_world(
        self, posed: Float[np.ndarray, "B V 3"], canonical: Float[np.ndarray, "V 3"]
    ) -> Float[np.ndarray, "B 4 4"]:
        """Rigid motions that carry posed heads back to where the canonical skull is."""
        if not self.moves:
            return np.tile(np.eye(4), (len(posed), 1, 1))
        return rigid_fit(posed[:, self.vertices].astype(np.float64), canonical[self.vertices].astype(np.float64))


def find_skull(capture: Capture, rows: Int[np.ndarray, " T"]) -> Skull:
    """The vertices that keep their places best, seen over some of the moments `rows`."""
    chosen = rows[np.unique(np.linspace(0, len(rows) - 1, SAMPLED).round().astype(int))]
    posed = capture.meshes.vertices(chosen.tolist()).astype(np.float64)
    canonical = capture.canonical.astype(np.float64)
    height = canonical[:, 1]
    # Below the chin everything hangs on the neck.
    possible = np.flatnonzero(height >= height.min() + CHIN * np.ptp(height))
    skull = possible
    for _ in range(ROUNDS):
        fit = rigid_fit(posed[:, skull], canonical[skull])
        placed = np.einsum("tij,tvj->tvi", fit[:, :3, :3], posed[:, possible]) + fit[:, None, :3, 3]
        drift = np.linalg.norm(placed - placed.mean(axis=0), axis=2).max(axis=0)
        skull = possible[np.argsort(drift, kind="stable")[: max(4, int(SHARE * len(canonical)))]]
    skull = np.sort(skull)
    fit = rigid_fit(posed[:, skull], canonical[skull])
    return Skull(skull, not capture.stabilised and not stands_still(fit, canonical[skull].mean(axis=0)))


def regions_by_motion(
    skull: Skull, faces: Int[np.ndarray, "F 3"], canonical: Float[np.ndarray, "V 3"]
) -> tuple[Int[np.ndarray, " F"], tuple[str, ...]]:
    """Scalp, neck and skin, for meshes without region names: steady and high or at the back, low, and the rest."""
    low, high = canonical.min(axis=0), canonical.max(axis=0)
    centre = (canonical[faces].mean(axis=1) - low) / np.maximum(high - low, 1e-9)
    steady = np.isin(faces, skull.vertices).all(axis=1)
    region = np.zeros(len(faces), dtype=np.int8)
    region[steady & ((centre[:, 1] > BROW) | (centre[:, 2] < 0.5))] = 1
    region[centre[:, 1] < CHIN - 0.1] = 2
    return region, ("skin", "scalp", "neck")
