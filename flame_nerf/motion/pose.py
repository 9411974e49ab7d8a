"""Poses of one avatar in its own numbers, and motions made of them: what sliders set and keyframes carry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from flame_nerf.motion.performance import Motion, Provenance, interpolated
from flame_nerf.motion.transfer import Performed, transferred
from flame_nerf.runtime.errors import MotionError

if TYPE_CHECKING:
    from flame_nerf.motion.subject_motion import SubjectMotion
    from flame_nerf.runtime.drive_options import TransferConfig


@dataclass(frozen=True, eq=False)
class Pose:
    """One moment of an avatar by its coefficients."""

    expression: Float[np.ndarray, " E"]
    """In the order of the avatar's `pose_names`."""
    joints: Float[np.ndarray, "J 3"]
    """Axis-angle rotations in the order of its `pose_joints`, radians."""
    movement: Float[np.ndarray, "4 4"]
    """Rigid movement of the whole head from where it rests, in the head frame, metres."""


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


def copied_motion(motion: Motion, avatar: SubjectMotion) -> Motion:
    """A motion whose numbers mean what the avatar's do, in the avatar's order; what it does not say rests.

    Raises:
        MotionError: a name that the avatar has not.
    """
    strange = [name for name in motion.expression_names if name not in avatar.pose_names]
    strange += [name for name in motion.joint_names if name not in avatar.pose_joints]
    if strange:
        raise MotionError(
            f"{motion.provenance.source or 'the motion'}: the avatar's head model has no {strange[0]!r}; it was made "
            "with another head model's avatar"
        )
    rest = avatar.rest_pose()
    expression = np.tile(rest.expression, (len(motion), 1))
    joints = np.tile(rest.joints, (len(motion), 1, 1))
    for name in motion.expression_names:
        expression[:, avatar.pose_names.index(name)] = motion.column(name)
    for row, name in enumerate(motion.joint_names):
        joints[:, avatar.pose_joints.index(name)] = motion.joints[:, row]
    movement = np.tile(np.eye(4), (len(motion), 1, 1))
    if motion.head_to_world is not None:
        movement = motion.head_to_world
        if motion.camera is not None:
            # Seen by a camera, its world is the camera's: what counts is how the head moved since it began.
            movement = np.linalg.inv(movement[0]) @ movement
    return replace(
        motion,
        expression=expression,
        expression_names=avatar.pose_names,
        joints=joints,
        joint_names=avatar.pose_joints,
        head_to_world=movement,
        camera=None,
    )


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


def pose_at(motion: Motion, position: float) -> Pose:
    """The pose at a row number, which need not be whole, of a motion in the avatar's own numbers."""
    moment = interpolated(motion, np.array([position]))
    return Pose(moment.expression[0], moment.joints[0], moment.head_to_world[0])
