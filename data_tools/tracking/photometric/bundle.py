"""Who it is, by the pictures too: identity, offsets and all frames' parameters in one Gauss-Newton step."""

from __future__ import annotations

from dataclasses import replace
from threading import Lock

import numpy as np
import torch
from jaxtyping import Int

from data_tools.tracking.fit.energy import Seen
from data_tools.tracking.fit.face.face_points import FacePoints
from data_tools.tracking.fit.outline import Outline
from data_tools.tracking.fit.residuals import FaceState
from data_tools.tracking.fit.shape import PlaceSums, ShapeEquations, shape_equations, shape_step
from data_tools.tracking.photometric.atlas import Atlas
from data_tools.tracking.photometric.residuals import WEIGHT, PhotometricFrames, Rows
from data_tools.tracking.photometric.surfels import Surfels

SHARE = 4
"""One point in so many is looked at, each for so many."""


def bundle_step(
    points: FacePoints,
    state: FaceState,
    seen: Seen,
    frames: PhotometricFrames,
    surfels: Surfels,
    atlas: Atlas,
    outline: Outline | None = None,
    outlined: Int[np.ndarray, " K"] | None = None,
) -> FaceState:
    """One step of identity and frames by landmarks, pictures and outline; the focal length is held.

    Pictures of one head tell its focal length no better than landmarks do, and let it drift.

    Args:
        outline: of the frames `outlined`; what it says is taken for all frames.
    """
    equations = shape_equations(points, state, seen)
    add_photometric(equations, state, frames, surfels, atlas)
    if outline is not None:
        evidence = outline.evidence(state.frames(outlined))
        factor = len(state.shift) / len(outlined)
        row = torch.from_numpy(outlined)[evidence.frame]
        equations.add(replace(evidence, frame=row, weight=evidence.weight * factor))
    return shape_step(points, state, equations, state.focal, focal_free=False)


def add_photometric(
    equations: ShapeEquations, state: FaceState, frames: PhotometricFrames, surfels: Surfels, atlas: Atlas
) -> None:
    """Add what the pictures say to the normal equations of frames and shape, in place."""
    lock, say, places = Lock(), SHARE * WEIGHT / len(surfels), PlaceSums.of(len(surfels))

    def add(t: int, rows: Rows) -> None:
        frame, residual = torch.from_numpy(rows.frame), torch.from_numpy(rows.residual)
        weight = torch.from_numpy(say * rows.weight)[:, None]
        by_head, by_focal = torch.from_numpy(rows.by_head), torch.from_numpy(rows.log_focal)
        own = torch.empty(len(frame), len(equations.shared_gradient))
        own[:, :-1] = (by_head[:, None] @ surfels.shape[rows.which])[:, 0]
        own[:, -1] = by_focal
        by_frame = (frame * weight).T
        equations.hessian[t] += by_frame @ frame
        equations.gradient[t] += by_frame @ residual
        equations.cross[t] += by_frame @ own
        with lock:
            places.add_some(torch.from_numpy(rows.which), by_head * weight, by_head, by_focal, residual)
            equations.shared_hessian[-1, -1] += (weight[:, 0] * by_focal.square()).sum()
            equations.shared_gradient[-1] += (weight[:, 0] * by_focal * residual).sum()

    frames.rows(state, atlas, equations.gradient.shape[1], add, SHARE)
    places.add_to(equations, surfels.shape)
