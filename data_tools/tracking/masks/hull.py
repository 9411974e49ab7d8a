"""A soft visual hull: the space around a head that the mattes of most frames take for the head.

A network's matte takes pieces of the background along, others in every frame. They do not move with the head. A point
that is carried along with the mesh near it and belongs to the head, as hair does, lies inside almost every matte.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from scipy.spatial import cKDTree

from flame_nerf.geometry import vertex_normals

HAIR_REACH, SKIN_REACH = 0.06, 0.02
"""How far from the mesh's scalp, and from the rest of it, hair may be, metres. What lies farther is background or
shoulder that the matte took along."""
REACH = 0.0075
"""How far beyond the hull a matte may go, metres: hair moves, and a track errs."""
SPACING, MOST_CELLS = 0.006, 400_000
"""Between the hull's points, metres; more around heads whose surroundings would have more cells than that."""
DEEPEST = 0.006
"""How far below the mesh points are wanted, metres: deeper inside there is nothing to ask."""
ALIKE_DEG = 5.0
"""Frames whose heads are turned alike to about this angle say much the same."""
VOTES = 120
"""Shared out among the frames,"""
CANDIDATES = 2000
"""of which so many are looked at, evenly spread: one a second tells enough of an hour."""
BELOW = 0.015
"""How far below the collar the neck itself is taken along, metres: the cut, steadier than the mesh, ends it."""
MAJORITY = 0.8
"""Mean matte from which a point belongs to the head. Of very short clips one frame may say no."""


@dataclass(frozen=True)
class NearPoints:
    """Points around a mesh that move with the vertex next to each."""

    anchor: Int[np.ndarray, " N"]
    """That vertex."""
    offset: Float[np.ndarray, "N 3"]
    """From it to the point on the canonical mesh, metres."""
    joints: Float[np.ndarray, "N J"]
    """Its skinning weights."""
    reach: float
    """How far around the points a matte may go, metres: more than they are apart."""

    def some(self, which: Bool[np.ndarray, " N"]) -> NearPoints:
        """Some of the points."""
        return NearPoints(self.anchor[which], self.offset[which], self.joints[which], self.reach)

    def posed(self, vertices: Float[np.ndarray, "V 3"], turns: Float[np.ndarray, "J 3 3"]) -> Float[np.ndarray, "N 3"]:
        """Where the points are on a posed mesh, in its frame.

        Args:
            turns: rotation of each joint from the canonical pose.
        """
        turning = np.abs(turns - np.eye(3)).max(axis=(1, 2)) > 1e-6
        if not turning.any():
            return vertices[self.anchor] + self.offset
        moved = np.flatnonzero(self.joints[:, turning].any(axis=1))
        still, offset = self.offset[moved], self.offset.copy()
        turned = (still @ turn.T.astype(np.float32) for turn in turns)
        offset[moved] = sum(share[:, None] * part for share, part in zip(self.joints[moved].T, turned, strict=True))
        return vertices[self.anchor] + offset


def points_around(
    canonical: Float[np.ndarray, "V 3"],
    faces: Int[np.ndarray, "F 3"],
    skinning: Float[np.ndarray, "V J"],
    above: Bool[np.ndarray, " V"],
    scalp: Bool[np.ndarray, " V"],
) -> NearPoints:
    """A lattice of points wherever hair or skin may be, near a mesh and a little below it.

    Args:
        canonical: the mesh with all joints at rest.
        above: vertices above the collar.
        scalp: those that bear hair.
    """
    low, high = canonical[above].min(axis=0) - HAIR_REACH, canonical[above].max(axis=0) + HAIR_REACH
    spacing = max(SPACING, float(np.prod(high - low) / MOST_CELLS) ** (1 / 3))
    axes = [np.arange(a, b, spacing) for a, b in zip(low, high, strict=True)]
    lattice = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    # What the matte may reach beyond the points counts.
    reach = max(REACH, 1.25 * spacing)
    hair, skin = (max(wanted - reach, spacing) for wanted in (HAIR_REACH, SKIN_REACH))
    held = np.flatnonzero(cKDTree(canonical[above]).query(canonical, distance_upper_bound=BELOW)[0] < BELOW)
    distance, nearest = cKDTree(canonical[held]).query(lattice, distance_upper_bound=max(hair, skin))
    near = distance < skin
    if (above & scalp).any():
        near |= np.isfinite(cKDTree(canonical[above & scalp]).query(lattice, distance_upper_bound=hair)[0])
    lattice, anchor = lattice[near], held[nearest[near]]
    offset = lattice - canonical[anchor]
    height = (offset * vertex_normals(canonical, faces)[anchor]).sum(axis=1)
    wanted = (height > -max(DEEPEST, spacing)) & (above[anchor] | (height <= 0))
    return NearPoints(anchor[wanted], offset[wanted].astype(np.float32), skinning[anchor[wanted]], reach)


def choose_voters(rotation: Float[np.ndarray, "T 3 3"]) -> tuple[Int[np.ndarray, " K"], Float[np.ndarray, " K"]]:
    """Frames that decide, and how many votes each has: seldom seen sides of the head have more than their share of the
    frames, but not so many that a few bad frames outvote the rest.

    Args:
        rotation: head to camera.
    """
    looked_at = np.unique(np.linspace(0, len(rotation) - 1, CANDIDATES).round().astype(int))
    turned = rotation[looked_at].reshape(-1, 9).astype(np.float32)
    angle = np.degrees(np.arccos(np.clip((turned @ turned.T - 1) / 2, -1, 1)))
    alike = np.exp(-0.5 * (angle / ALIKE_DEG) ** 2).sum(axis=1)
    share = np.cumsum(alike**-0.5)
    ballots = np.searchsorted(share / share[-1], (np.arange(VOTES) + 0.5) / VOTES)
    rows, votes = np.unique(np.minimum(ballots, len(looked_at) - 1), return_counts=True)
    return looked_at[rows], votes.astype(float)


class Poll:
    """Votes of some frames on which points lie inside their mattes."""

    def __init__(self, points: int) -> None:
        self._votes: list[float] = []
        self._cast, self._inside = np.zeros(points), np.zeros(points)

    def ask(self, pixels: Float[np.ndarray, "N 2"], matte: UInt8[np.ndarray, "H W"], votes: float) -> None:
        """Take a frame's votes on the points that its picture shows.

        Args:
            pixels: the points; NaN where they lie behind the camera.
        """
        limit = np.array(matte.shape[::-1])
        shown = np.flatnonzero(((pixels >= 0) & (pixels < limit)).all(axis=1))
        column, row = pixels[shown].astype(np.int32).T
        self._votes.append(votes)
        self._cast[shown] += votes
        self._inside[shown] += votes / 255 * matte[row, column]

    def add(self, other: Poll) -> None:
        """Count another poll's votes, on the same points, too."""
        self._votes += other._votes
        self._cast += other._cast
        self._inside += other._inside

    def elected(self) -> Bool[np.ndarray, " N"]:
        """Points inside the mattes of a clear majority of the frames that show them; those that none shows, too."""
        without_one = 1 - max(self._votes) / sum(self._votes)
        return self._inside >= min(MAJORITY, without_one) * self._cast - 1e-6
