"""The recorded performance of an avatar, for a program that poses the head by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from flame_nerf.avatar.export.web.arrays import array, columns
from flame_nerf.motion.performance import transforms_at
from flame_nerf.refinement.export import refined_subject

if TYPE_CHECKING:
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
    positions = np.interp(np.arange(count), rows, np.arange(len(rows)))
    return transforms_at(np.stack([known[row] for row in rows]), positions)


def _ordered(values: np.ndarray, names: tuple[str, ...], wanted: tuple[str, ...]) -> np.ndarray:
    """Last axis from the order of `names` to that of `wanted`; zeros where `names` lacks one."""
    out = np.zeros((*values.shape[:-1], len(wanted)))
    for column, name in enumerate(wanted):
        if name in names:
            out[..., column] = values[..., names.index(name)]
    return out
