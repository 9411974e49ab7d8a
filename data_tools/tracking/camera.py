"""The pinhole camera and rigid motions, batched over frames.

Camera coordinates are OpenCV's: x right, y down, z forward, metres; pixels with 0 at the left and upper edge of the
picture. A frame's pose maps head coordinates to camera coordinates: p_camera = R p_head + t.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from torch import Tensor

FLIP = np.diag([1.0, -1.0, -1.0])
"""Between OpenCV's camera axes and OpenGL's, and the rotation of a head that looks straight into the camera."""


def to_camera(
    points_head: Float[Tensor, "*T L 3"], rotation: Float[Tensor, "*T 3 3"], translation: Float[Tensor, "*T 3"]
) -> Float[Tensor, "*T L 3"]:
    """Head coordinates to camera coordinates; differentiable."""
    return points_head @ rotation.transpose(-1, -2) + translation[..., None, :]


def camera_to_head(
    rotation: Float[np.ndarray, "T 3 3"], translation: Float[np.ndarray, "T 3"]
) -> Float[np.ndarray, "T 4 4"]:
    """Camera-to-world matrices (OpenGL axes) in a world that is the head frame: the stored cameras of a subject."""
    c2w = np.tile(np.eye(4), (len(rotation), 1, 1))
    inverse = np.swapaxes(rotation, 1, 2)
    c2w[:, :3, :3] = inverse @ FLIP
    c2w[:, :3, 3] = -(inverse @ translation[..., None])[..., 0]
    return c2w


def yaw_pitch_roll(rotation: Float[np.ndarray, "T 3 3"]) -> Float[np.ndarray, "T 3"]:
    """Angles of the head against a camera it looks straight into, radians.

    Yaw is positive when the head turns to the subject's left, pitch when it looks up, roll when it leans towards the
    subject's right shoulder (clockwise in the picture reversed).
    """
    facing = FLIP @ rotation
    forward = facing[..., :, 2]
    yaw = np.arctan2(forward[..., 0], forward[..., 2])
    pitch = np.arcsin(np.clip(forward[..., 1], -1.0, 1.0))
    side = facing[..., :, 0]
    level = np.stack([np.cos(yaw), np.zeros_like(yaw), -np.sin(yaw)], axis=-1)
    upright = np.cross(forward, level)
    roll = np.arctan2((side * upright).sum(-1), (side * level).sum(-1))
    return np.stack([yaw, pitch, roll], axis=-1)
