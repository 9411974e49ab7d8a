"""Faces of the track with their mouths opened: further than they were filmed, maybe."""

from __future__ import annotations

import torch

from flame_nerf.motion.frame import PosedFrame
from flame_nerf.motion.subject_motion import SubjectMotion

LEAST = 0.3
"""Openings are drawn from here to 1, as shares of the widest."""
WIDEST_TURN = 0.35
"""Radians by which a jaw is turned that has no `jawOpen` by name."""


def open_mouth(motion: SubjectMotion, timestep: int) -> PosedFrame | None:
    """A timestep's face with its mouth open, drawn anew each time; None where no face can be posed, or no jaw opens."""
    if not motion.can_pose:
        return None
    expression, joints = motion.coefficients(timestep)
    expression = {name: value for name, value in expression.items() if name in motion.pose_names}
    joints = {name: turn for name, turn in joints.items() if name in motion.pose_joints}
    opening = LEAST + (1 - LEAST) * float(torch.rand(()))
    if "jawOpen" in motion.pose_names:
        expression["jawOpen"] = opening
    elif "jaw" in motion.pose_joints:
        joints["jaw"] = (opening * WIDEST_TURN, 0.0, 0.0)
    else:
        return None
    return motion.pose(expression, joints)
