"""Motions in an avatar's own numbers: made of poses, copied from its own subject or transferred from others."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from flame_nerf.motion.performance import Motion, Provenance
from flame_nerf.motion.pose import Pose, copied_motion
from flame_nerf.motion.subject_motion import SubjectMotion
from flame_nerf.motion.transfer import Performed, transferred
from flame_nerf.runtime.errors import MotionError
from flame_nerf.runtime.film_options import TransferConfig


def motion_of_poses(poses: Sequence[Pose], avatar: SubjectMotion, fps: float, provenance: Provenance) -> Motion:
    """A motion in the avatar's own numbers.

    Args:
        poses: its moments, at least one.
        avatar: whose poses they are.
        fps: moments a second.
        provenance: whose performance it is; `own_motion` copies those of the avatar's subject.
    """
    return Motion(
        expression=np.stack([pose.expression for pose in poses]),
        expression_names=avatar.pose_names,
        fps=fps,
        joints=np.stack([pose.joints for pose in poses]),
        joint_names=avatar.pose_joints,
        head_to_world=np.stack([pose.movement for pose in poses]),
        provenance=provenance,
    )


def own_motion(
    motion: Motion, avatar: SubjectMotion, subject: str, head_model: str, config: TransferConfig | None = None
) -> Motion:
    """Any motion in an avatar's own numbers: what the avatar's own subject did is copied, what others did transferred.

    Args:
        motion: anybody's.
        avatar: who performs it.
        subject: name of the avatar's subject, which its own motions have as their source.
        head_model: name of its head model.
        config: of the transfer.

    Returns:
        A motion whose names are the avatar's `pose_names` and `pose_joints`. Its `head_to_world` moves the head from
        where it rests.

    Raises:
        MotionError: no head model, or nothing in common.
    """
    if not avatar.can_pose:
        raise MotionError(f"new expressions cannot be posed: {avatar.why_no_head}")
    if not is_own(motion, avatar, subject):
        return _of_performed(transferred(motion, avatar, config, head_model), avatar, motion.provenance)
    return copied_motion(motion, avatar)


def is_own(motion: Motion, avatar: SubjectMotion, subject: str) -> bool:
    """Whether a motion is the avatar's own subject's, so that its numbers mean what the avatar's do."""
    known = {*motion.expression_names} <= {*avatar.pose_names} and {*motion.joint_names} <= {*avatar.pose_joints}
    return known and motion.provenance.source == subject


def _of_performed(performed: Performed, avatar: SubjectMotion, provenance: Provenance) -> Motion:
    return Motion(
        expression=performed.expression,
        expression_names=avatar.pose_names,
        fps=performed.fps,
        joints=performed.joints,
        joint_names=avatar.pose_joints,
        head_to_world=performed.head_movement,
        provenance=provenance,
    )
