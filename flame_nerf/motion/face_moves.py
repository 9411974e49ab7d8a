"""How far each number of a condition moves the face."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from flame_nerf.motion.subject_motion import SubjectMotion

A_TURN = 0.2
"""Radians by which joints are turned to see what they move."""


def face_moves(avatar: SubjectMotion) -> Float[np.ndarray, "C S 3"] | None:
    """What a unit of each entry of a condition moves, at the spots of the head that one of them moves most.

    Args:
        avatar: who is posed, from the neutral face.

    Returns:
        Displacement of S spots a unit (radian) of each of the C entries of `condition_names`, as a share of the head's
        height. To first order what any face does to the mesh. None where new expressions cannot be posed.
    """
    if not avatar.can_pose:
        return None
    of_head = avatar.of_head.numpy()
    neutral = avatar.neutral().vertices.cpu().numpy()[of_head]
    moves = []
    for name in avatar.condition_names:
        joint, _, axis = name.rpartition(".")
        if joint in avatar.pose_joints:
            turn = np.array(avatar.rest_joint(joint))
            turn["xyz".index(axis)] += A_TURN
            posed, unit = avatar.pose(None, {joint: tuple(turn)}), A_TURN
        else:
            posed, unit = avatar.pose({name: 1.0}), 1.0
        moves.append((posed.vertices.cpu().numpy()[of_head] - neutral) / unit)
    moved = np.stack(moves)
    spots = np.unique(np.linalg.norm(moved, axis=-1).argmax(axis=1))
    return moved[:, spots] / np.ptp(neutral[:, 1])
