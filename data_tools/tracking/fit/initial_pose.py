"""A first guess: the mean face placed in each frame by the perspective-n-point method."""

from __future__ import annotations

import numpy as np
import torch

from data_tools.tracking.fit.energy import Seen
from data_tools.tracking.fit.face.face_points import FacePoints
from data_tools.tracking.fit.residuals import FaceState, anchor_of

FOCAL_PRIOR = 1.35
"""Usual focal length of a talking-head video in units of the picture's longer side. One head does not tell: a longer
lens farther away gives nearly the same picture."""
TRUSTED = 0.3
"""Weight from which a point helps to place the face."""
ENOUGH = 7
"""Points from which a frame is placed for itself; one with fewer starts where the nearest such frame is. Three points
have four solutions, and the wrong one of them is no start for anything."""


def first_guess(points: FacePoints, seen: Seen, focal: float) -> FaceState:
    """Neutral mean face in each frame's place, eyes straight ahead."""
    import cv2

    trusted = (points.weight > TRUSTED) & ~points.gaze_points
    sure = torch.ones_like(seen.pixels[..., 0]) if seen.trust is None else seen.trust
    enough = min(ENOUGH, int((sure[:, trusted] > 0).sum(dim=1).max()))
    at_head = (points.mean - anchor_of(points))[trusted].numpy()
    intrinsics = np.array([[focal, 0, float(seen.centre[0])], [0, focal, float(seen.centre[1])], [0, 0, 1.0]])
    frames = len(seen.pixels)
    rotations, shifts, placed = np.empty((frames, 3, 3)), np.empty((frames, 3)), []
    for frame, pixels in enumerate(seen.pixels[:, trusted].numpy()):
        found = (sure[frame, trusted] > 0).numpy()
        if found.sum() >= enough:
            _, turn, shift = cv2.solvePnP(at_head[found], pixels[found], intrinsics, None, flags=cv2.SOLVEPNP_SQPNP)
            rotations[frame], shifts[frame] = cv2.Rodrigues(turn)[0], shift[:, 0]
            placed.append(frame)
    for frame in set(range(frames)) - set(placed):
        nearest = min(placed, key=lambda other: abs(other - frame))
        rotations[frame], shifts[frame] = rotations[nearest], shifts[nearest]
    return FaceState(
        rotation=torch.from_numpy(rotations),
        shift=torch.from_numpy(shifts),
        gaze=torch.zeros(frames, 2, 2, dtype=torch.float64),
        expression=torch.zeros(frames, points.expression.shape[-1], dtype=torch.float64),
        identity=torch.zeros(points.shape.shape[-1], dtype=torch.float64),
        focal=focal,
    )
