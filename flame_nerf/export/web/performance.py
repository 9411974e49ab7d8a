"""The recorded performance of an avatar, for a program that poses the head by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float

from flame_nerf.export.web.arrays import array, columns
from flame_nerf.geometry import axis_angle_to_matrix, matrix_to_axis_angle
from flame_nerf.refinement.export import refined_subject

if TYPE_CHECKING:
    from flame_nerf.motion import LiveHead
    from flame_nerf.subject import Subject

MOST_FRAMES = 6000
"""Moments that a page holds, four minutes of most videos; the rest is left out."""


def performance(model: Any, base_c2w: Float[np.ndarray, "4 4"]) -> dict[str, Any]:
    """Coefficients, turns of joints and the head's movement of every moment of the track, as training corrected it.

    Args:
        model: a trained model whose head can be posed.
        base_c2w: the camera before which the head moves, head frame, OpenGL axes.
    """
    live = model.motion.live
    subject = refined_subject(model.subject, model.refinement, model.head)
    track = subject.track
    count = min(track.num_timesteps, MOST_FRAMES)
    expression = _ordered(track.expression[:count], track.expression_names, live.expression_names)
    joints = _ordered(track.pose[:count].swapaxes(1, 2), track.joint_names, live.joint_names).swapaxes(1, 2)
    joints = joints.reshape(count, -1)
    stored, turned = columns(expression), columns(joints)
    return {
        "count": count,
        "fps": subject.fps,
        "expression": {name: stored[name] for name in ("type", "base64")},
        "expressionScale": stored["scale"],
        "joints": {name: turned[name] for name in ("type", "base64")},
        "jointScale": turned["scale"],
        "head": array(head_movement(subject, count, base_c2w)[:, :3].reshape(count, 12).astype(np.float32)),
    }


def head_movement(subject: Subject, count: int, base_c2w: Float[np.ndarray, "4 4"]) -> Float[np.ndarray, "T 4 4"]:
    """How the head moves in its own frame as the camera `base_c2w` sees it; between its neighbours where no picture
    shows a moment.

    Args:
        subject: stabilised: its cameras are in the head frame.
        count: moments, from the first on.
    """
    known = {frame.timestep: base_c2w @ np.linalg.inv(frame.c2w) for frame in subject.frames if frame.timestep < count}
    if not known:
        return np.tile(np.eye(4), (count, 1, 1))
    rows = np.array(sorted(known))
    moved = np.stack([known[row] for row in rows])
    after = np.searchsorted(rows, np.arange(count)).clip(0, len(rows) - 1)
    before = np.maximum(after - (rows[after] > np.arange(count)), 0)
    gap = np.maximum(rows[after] - rows[before], 1)
    share = np.clip((np.arange(count) - rows[before]) / gap, 0, 1)
    out = moved[before].copy()
    out[:, :3, 3] += share[:, None] * (moved[after] - moved[before])[:, :3, 3]
    between = torch.from_numpy(np.swapaxes(moved[before], 1, 2)[:, :3, :3] @ moved[after][:, :3, :3])
    turn = axis_angle_to_matrix(matrix_to_axis_angle(between) * torch.from_numpy(share)[:, None]).numpy()
    out[:, :3, :3] = moved[before][:, :3, :3] @ turn
    return out


def rest_joints(model: Any, live: LiveHead) -> Float[np.ndarray, " 3J"]:
    """Turns of the joints of a face that nobody moves: as `SubjectMotion.pose` has them."""
    return np.concatenate([np.asarray(model.motion.carriage(name), np.float32) for name in live.joint_names])


def _ordered(values: np.ndarray, names: tuple[str, ...], wanted: tuple[str, ...]) -> np.ndarray:
    """Last axis from the order of `names` to that of `wanted`; zeros where `names` lacks one."""
    out = np.zeros((*values.shape[:-1], len(wanted)))
    for column, name in enumerate(wanted):
        if name in names:
            out[..., column] = values[..., names.index(name)]
    return out
