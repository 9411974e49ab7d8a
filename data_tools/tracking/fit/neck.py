"""How the shoulders stand while the head turns.

Landmarks say nothing of it. A neck that moves rigidly with the head drags the shoulders through the picture; people
keep them nearly still. So the torso follows the head slowly and in part, and the joints of the neck share what is left.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from data_tools.tracking.camera import FLIP
from data_tools.tracking.masks.smoothing import smooth_over_time
from flame_nerf.geometry import axis_angle_to_matrix, matrix_to_axis_angle
from flame_nerf.heads import HeadModel

TORSO_SECONDS = 1.0
"""Turns of the head that last longer than about this are taken along by the torso,"""
TORSO_SHARE = 0.4
"""to this part."""
LASTING_SHARE = (0.3, 0.3, 0.8)
"""Part of the head's mean nod, turn and lean away from the camera that the torso shares: most people sit before it, but
a camera that is held askew, or a person who leans in a seat, leans both."""


def neck_pose(
    head: HeadModel, rotation: Float[Tensor, "T 3 3"], seconds: Float[np.ndarray, " T"]
) -> Float[Tensor, "T J 3"]:
    """Rotations of the joints from root to head such that the torso stays still while the head turns.

    Args:
        rotation: head to camera axes.
        seconds: time of each frame.

    Returns:
        Axis-angle per joint, zero for jaw and eyes. float64.
    """
    away = matrix_to_axis_angle(torch.from_numpy(FLIP) @ rotation)
    lasting = away.mean(dim=0)
    slow = torch.from_numpy(smooth_over_time((away - lasting).numpy(), seconds, TORSO_SECONDS))
    torso = lasting * lasting.new_tensor(LASTING_SHARE) + TORSO_SHARE * slow
    head_in_torso = axis_angle_to_matrix(-torso) @ axis_angle_to_matrix(away)
    chain = chain_to_head(head)
    pose = torch.zeros(len(rotation), len(head.joint_names), 3, dtype=torch.float64)
    pose[:, chain] = (matrix_to_axis_angle(head_in_torso) / len(chain))[:, None]
    return pose


def joints_in_head(head: HeadModel, pose: Float[Tensor, "T J 3"]) -> Float[Tensor, "T J 3 3"]:
    """How each joint of a posed head is turned against the head's, which `HeadModel.vertices` leaves in place."""
    turned: list[Tensor] = []
    for joint, parent in enumerate(head.parents):
        own = axis_angle_to_matrix(pose[:, joint])
        turned.append(torch.eye(3, dtype=pose.dtype).expand(len(pose), 3, 3) if parent < 0 else turned[parent] @ own)
    return turned[head.head_joint].transpose(1, 2)[:, None] @ torch.stack(turned, dim=1)


def torso_in_head(head: HeadModel, pose: Float[Tensor, "T J 3"]) -> Float[Tensor, "T 3 3"]:
    """Rotation from the root's axes to the head's: the chain's turns undone."""
    return joints_in_head(head, pose)[:, head.parents.index(-1)]


def chain_to_head(head: HeadModel) -> list[int]:
    """Joints from below the root to the head's."""
    chain, joint = [], head.head_joint
    while head.parents[joint] >= 0:
        chain.insert(0, joint)
        joint = head.parents[joint]
    return chain
