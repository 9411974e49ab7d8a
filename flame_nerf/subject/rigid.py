"""Rigid fits of a head's skull, and whether it stands still."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from flame_nerf.geometry import polar_rotation

STABLE_ANGLE, STABLE_SHIFT = 0.02, 2e-3
"""A track whose skull turns and shifts less than this (radians, metres) is stabilised already. The expression moves
the scalp a little too: a fit below this would only add its own jitter to the tracker's."""


def rigid_fit(source: Float[np.ndarray, "T N 3"], target: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "T 4 4"]:
    """Rotation and translation that lay each source point set onto the target, least squares (Kabsch)."""
    source_centre, target_centre = source.mean(axis=1), target.mean(axis=0)
    covariance = np.einsum("tni,nj->tij", source - source_centre[:, None], target - target_centre)
    transform = np.tile(np.eye(4), (len(source), 1, 1))
    transform[:, :3, :3] = np.swapaxes(polar_rotation(covariance), 1, 2)
    transform[:, :3, 3] = target_centre - np.einsum("tij,tj->ti", transform[:, :3, :3], source_centre)
    return transform


def stands_still(head_from_world: Float[np.ndarray, "T 4 4"], centre: Float[np.ndarray, "3"]) -> bool:
    """Whether rigid motions of a skull about its centre are so small that the world is the head frame already."""
    angle = np.arccos(np.clip((np.trace(head_from_world[:, :3, :3], axis1=1, axis2=2) - 1) / 2, -1, 1))
    shift = np.linalg.norm(head_from_world[:, :3, :3] @ centre + head_from_world[:, :3, 3] - centre, axis=1)
    return bool(angle.max() < STABLE_ANGLE and shift.max() < STABLE_SHIFT)
