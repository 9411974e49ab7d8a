"""Poses of one avatar in its own numbers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from jaxtyping import Float

from flame_nerf.motion.performance import Motion, interpolated
from flame_nerf.runtime.errors import MotionError


@dataclass(frozen=True, eq=False)
class Pose:
    """One moment of an avatar by its coefficients."""

    expression: Float[np.ndarray, " E"]
    """In the order of the avatar's `pose_names`."""
    joints: Float[np.ndarray, "J 3"]
    """Axis-angle rotations in the order of its `pose_joints`, radians."""
    movement: Float[np.ndarray, "4 4"]
    """Rigid movement of the whole head from where it rests, in the head frame, metres."""


class Poseable(Protocol):
    """An avatar that poses are of."""

    @property
    def pose_names(self) -> tuple[str, ...]:
        """Its expressions."""

    @property
    def pose_joints(self) -> tuple[str, ...]:
        """Its joints."""

    def rest_pose(self) -> Pose:
        """How it rests."""


def copied_motion(motion: Motion, avatar: Poseable) -> Motion:
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


def pose_at(motion: Motion, position: float) -> Pose:
    """The pose at a row number, which need not be whole, of a motion in the avatar's own numbers."""
    moment = interpolated(motion, np.array([position]))
    movement = np.eye(4) if moment.head_to_world is None else moment.head_to_world[0]
    return Pose(moment.expression[0], moment.joints[0], movement)
