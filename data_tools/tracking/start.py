"""A first guess: the mean face placed in each frame by the perspective-n-point method."""

from __future__ import annotations

import numpy as np
import torch

from data_tools.tracking.energy import Seen
from data_tools.tracking.face_points import FacePoints
from data_tools.tracking.residuals import FaceState, anchor_of

FOCAL_PRIOR = 1.35
"""Usual focal length of a talking-head video in units of the picture's longer side. One head does not tell: a longer
lens farther away gives nearly the same picture."""


def first_guess(points: FacePoints, seen: Seen, focal: float) -> FaceState:
    """Neutral mean face in each frame's place, eyes straight ahead."""
    import cv2

    trusted = (points.weight > 0.3) & ~points.gaze_points
    at_head = (points.mean - anchor_of(points))[trusted].numpy()
    intrinsics = np.array([[focal, 0, float(seen.centre[0])], [0, focal, float(seen.centre[1])], [0, 0, 1.0]])
    rotations, shifts = [], []
    for pixels in seen.pixels[:, trusted].numpy():
        _, turn, shift = cv2.solvePnP(at_head, pixels, intrinsics, None, flags=cv2.SOLVEPNP_SQPNP)
        rotations.append(cv2.Rodrigues(turn)[0])
        shifts.append(shift[:, 0])
    frames = len(rotations)
    return FaceState(
        rotation=torch.from_numpy(np.stack(rotations)),
        shift=torch.from_numpy(np.stack(shifts)),
        gaze=torch.zeros(frames, 2, 2, dtype=torch.float64),
        expression=torch.zeros(frames, len(points.expression_rows), dtype=torch.float64),
        identity=torch.zeros(points.shape.shape[-1], dtype=torch.float64),
        focal=focal,
    )
