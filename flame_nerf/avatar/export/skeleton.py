"""A person's head as programs for animation know one: a mesh at rest, offsets by name, joints that carry the skin.

The joints stand in the head model's own order, with the root at rest: a neck that bends carries the head along, where
the head frame keeps the skull still. `to_head_frame` is the way from the one to the other.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Int

from flame_nerf.motion.arkit import arkit_name
from flame_nerf.motion.files.sources import motion_of_subject
from flame_nerf.motion.pose import copied_motion
from flame_nerf.motion.transfer import head_movement, transferred
from flame_nerf.runtime.errors import UserError
from flame_nerf.runtime.film_options import TransferConfig

if TYPE_CHECKING:
    from flame_nerf.motion import LiveHead, Motion

MOST_JOINTS = 4
"""Joints that carry one vertex: what every program can read."""
STILL = 1e-7
"""Metres below which an offset is none: all of a head's together stay below a hundredth of a millimetre."""


@dataclass(frozen=True, eq=False)
class Skeleton:
    """V vertices, F triangles, M offsets by name, J joints; metres, the head frame at rest."""

    vertices: Float[np.ndarray, "V 3"]
    """The person with a neutral face and no joint turned."""
    triangles: Int[np.ndarray, "F 3"]
    offsets: Float[np.ndarray, "M V 3"]
    """How far each vertex moves at a weight of 1, float32."""
    names: tuple[str, ...]
    """Of the offsets: ARKit's spelling where it is one of ARKit's, else the head model's."""
    joint_names: tuple[str, ...]
    parents: tuple[int, ...]
    """Row of each joint's parent, -1 for the root."""
    joints: Float[np.ndarray, "J 3"]
    """Places of the joints."""
    carried_by: Int[np.ndarray, "V 4"]
    """Joints that carry each vertex, those with the largest share first."""
    shares: Float[np.ndarray, "V 4"]
    """Their shares, float32; each row sums to 1."""
    resting: Float[np.ndarray, "J 3"]
    """Turns of the joints when nobody turns them, axis-angle, radians: how the person carries neck and gaze."""


@dataclass(frozen=True, eq=False)
class Performance:
    """T moments of a skeleton."""

    weights: Float[np.ndarray, "T M"]
    """Of the skeleton's offsets."""
    turns: Float[np.ndarray, "T J 3"]
    """Of its joints, axis-angle against their parents, radians."""
    movement: Float[np.ndarray, "T 4 4"]
    """Rigid movement of the head frame: of the subject's own, from where its head is on average."""
    fps: float


def skeleton_of(model: Any) -> Skeleton:
    """The skeleton of a trained model's person.

    Raises:
        UserError: the head model is not to be had.
    """
    live: LiveHead | None = model.motion.live
    if live is None:
        raise UserError(
            f"a head with joints and expressions needs its head model: {model.motion.why_no_head}; "
            "`flame-nerf export obj` writes the stored frames"
        )
    head = live.head
    directions = head.exprdirs.clone()
    for name in live.turns:
        # Programs set an offset's weight and turn no joint with it: here the eyeball is in the offset.
        column = live.expression_names.index(name)
        directions[..., column] = model.head.exprdirs[..., column]
    columns = list(directions.unbind(dim=-1)) + [directions @ mixture for mixture in live.derived.values()]
    offsets = torch.stack(columns).numpy().astype(np.float32)
    offsets[np.abs(offsets).max(axis=-1) < STILL] = 0.0
    carried_by, shares = _four_largest(head.skinning_weights.numpy().astype(np.float64))
    return Skeleton(
        vertices=head.template.numpy().astype(np.float32),
        triangles=head.faces.numpy(),
        offsets=offsets,
        names=tuple(arkit_name(name) or name for name in live.pose_names),
        joint_names=live.joint_names,
        parents=tuple(head.parents),
        joints=head.joint_template.numpy().astype(np.float64),
        carried_by=carried_by,
        shares=shares,
        resting=model.motion.rest_pose().joints,
    )


def performance_of(model: Any, head_moves: bool = True) -> Performance:
    """What the subject of a trained model did, in the order of its skeleton.

    Args:
        head_moves: with the head's own movement, where it is known; without, the head stands still.
    """
    motion = motion_of_subject(model.subject)
    own = copied_motion(motion, model.motion)
    as_it_was = TransferConfig(head_gain=float(head_moves), head_from="mean", smoothing=0.0)
    movement = head_movement(motion, model.motion, as_it_was)
    return Performance(own.expression.astype(np.float32), own.joints.astype(np.float64), movement, motion.fps)


def performance_by(model: Any, motion: Motion, head_moves: bool = True) -> Performance:
    """Another's performance on the head of a trained model, as `flame-nerf drive --motion` has it.

    Args:
        motion: what the performer did.
        head_moves: see `performance_of`; the movement is from where the head is at first.

    Raises:
        MotionError: it cannot be carried to this head.
    """
    config = TransferConfig(head_gain=float(head_moves))
    performed = transferred(motion, model.motion, config, head_model=model.head.name)
    return Performance(
        performed.expression, performed.joints.astype(np.float64), performed.head_movement, performed.fps
    )


def to_head_frame(model: Any, turns: Float[np.ndarray, "T J 3"]) -> Float[np.ndarray, "T 4 4"]:
    """Rigid transforms from where turned joints leave the skin, the root at rest, to the head frame."""
    head = model.motion.live.head
    placed = head.placement(head.template.new_zeros(0), torch.from_numpy(turns).float())
    return np.linalg.inv(placed.double().numpy())


def furthest_from_head_model(model: Any, skeleton: Skeleton, performance: Performance, count: int = 40) -> float:
    """Largest distance, metres, between a skeleton and the head model that it stands for, over a performance.

    What makes it more than rounding: correctives that follow the joints, joints that follow the expression (FLAME has
    both), and vertices that more than four joints carry.

    Args:
        count: moments that are looked at, evenly spread.
    """
    live: LiveHead = model.motion.live
    shares = np.zeros((len(skeleton.vertices), len(skeleton.joints)), np.float32)
    np.add.at(shares, (np.arange(len(shares))[:, None], skeleton.carried_by), skeleton.shares)
    plain = replace(
        live.head,
        exprdirs=torch.from_numpy(skeleton.offsets).movedim(0, -1),
        skinning_weights=torch.from_numpy(shares),
        posedirs=None,
        joint_exprdirs=None,
    )
    mixed = torch.stack([*torch.eye(len(live.expression_names)), *live.derived.values()])
    farthest = 0.0
    for row in np.unique(np.linspace(0, len(performance.weights) - 1, count).round().astype(int)):
        weights, turns = torch.from_numpy(performance.weights[row]), torch.from_numpy(performance.turns[row]).float()
        here = plain.vertices(plain.template.new_zeros(0), weights, turns)
        farthest = max(farthest, float((here - live.vertices(weights @ mixed, turns)).norm(dim=-1).max()))
    return farthest


def _four_largest(weights: Float[np.ndarray, "V J"]) -> tuple[Int[np.ndarray, "V 4"], Float[np.ndarray, "V 4"]]:
    """The joints with the largest weights, and weights that sum to 1; joint 0 where there are fewer."""
    spare = max(0, MOST_JOINTS - weights.shape[1])
    weights = np.pad(weights, ((0, 0), (0, spare)))
    joints = np.argsort(-weights, axis=1, kind="stable")[:, :MOST_JOINTS]
    shares = np.take_along_axis(weights, joints, axis=1)
    # So small a share moves nothing, and as float32 might be none.
    shares[shares < 1e-6] = 0.0
    joints[shares == 0.0] = 0
    return joints, (shares / shares.sum(axis=1, keepdims=True)).astype(np.float32)
