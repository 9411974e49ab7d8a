"""A head model in other axes, or a part of one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool, Float

from flame_nerf.heads import HeadModel, HeadModelError

_AXES = {"x": 0, "y": 1, "z": 2}


def to_head_axes(head: HeadModel, forward: str, up: str, scale: float) -> HeadModel:
    """The model in metres with z along `forward` and y along `up`, each given as a signed axis like "+x".

    Raises:
        HeadModelError: both name the same axis, or the scale is not positive.
    """
    if forward[-1] == up[-1]:
        raise HeadModelError(f"--forward {forward} and --up {up} lie on one axis: they must be two different ones")
    if not (np.isfinite(scale) and scale > 0):
        raise HeadModelError(f"--scale is {scale}, expected a positive number of metres")
    y, z = _axis(up), _axis(forward)
    turn = torch.from_numpy(np.stack([np.cross(y, z), y, z])).float()
    if torch.equal(turn, torch.eye(3)) and scale == 1.0:
        return head

    def turned(values: torch.Tensor, axis: int) -> torch.Tensor:
        return scale * (turn @ values.movedim(axis, -1)[..., None])[..., 0].movedim(-1, axis)

    posedirs = head.posedirs
    if posedirs is not None:
        # The entries of a rotation change with the axes too: R_file = turn^T R turn.
        entries = posedirs.unflatten(0, (-1, 3, 3))
        entries = torch.einsum("ac,bd,jcdvk->jabvk", turn, turn, entries).flatten(0, 2)
        posedirs = turned(entries, 2)
    return replace(
        head,
        template=turned(head.template, 1),
        shapedirs=turned(head.shapedirs, 1),
        exprdirs=turned(head.exprdirs, 1),
        joint_template=turned(head.joint_template, 1),
        joint_shapedirs=turned(head.joint_shapedirs, 1),
        joint_exprdirs=None if head.joint_exprdirs is None else turned(head.joint_exprdirs, 1),
        posedirs=posedirs,
    )


def _axis(name: str) -> Float[np.ndarray, "3"]:
    axis = np.zeros(3)
    axis[_AXES[name[-1]]] = -1.0 if name[0] == "-" else 1.0
    return axis


def carried_by_head(head: HeadModel) -> Bool[np.ndarray, " V"]:
    """Vertices that the head joint, its descendants and the joint below it carry for the greater part."""
    carrying = {head.head_joint, head.parents[head.head_joint]} - {-1}
    for joint, parent in enumerate(head.parents):
        if parent in carrying and parent != head.parents[head.head_joint]:
            carrying.add(joint)
    return (head.skinning_weights[:, sorted(carrying)].sum(1) > 0.5).numpy()


def cut_to(head: HeadModel, kept: Bool[np.ndarray, " V"]) -> HeadModel:
    """The model cut to some vertices, to the joints that carry them, and moved so that its head joint is the origin.

    Raises:
        HeadModelError: no triangle is left.
    """
    faces = head.faces.numpy()
    whole = kept[faces].all(1)
    if not whole.any():
        raise HeadModelError(f"the {int(kept.sum())} vertices to keep hold no whole triangle of head '{head.name}'")
    # Vertices of no triangle would be left hanging.
    used = np.unique(faces[whole])
    part = head.subset(torch.from_numpy(used))
    needed = {int(joint) for joint in (part.skinning_weights > 1e-4).any(0).nonzero()} | {0, head.head_joint}
    for joint in sorted(needed, reverse=True):
        while head.parents[joint] >= 0:
            joint = head.parents[joint]
            needed.add(joint)
    rows = sorted(needed)
    weights = part.skinning_weights[:, rows]
    posedirs = part.posedirs
    if posedirs is not None:
        # The root has no correctives; the other joints nine each.
        posedirs = posedirs.unflatten(0, (-1, 9))[[row - 1 for row in rows if row > 0]].flatten(0, 1)
    origin = head.joint_template[head.head_joint]
    return replace(
        part,
        template=part.template - origin,
        joint_template=head.joint_template[rows] - origin,
        joint_shapedirs=head.joint_shapedirs[rows],
        joint_exprdirs=None if head.joint_exprdirs is None else head.joint_exprdirs[rows],
        joint_names=tuple(head.joint_names[row] for row in rows),
        parents=tuple(rows.index(head.parents[row]) if head.parents[row] >= 0 else -1 for row in rows),
        skinning_weights=weights / weights.sum(1, keepdim=True),
        posedirs=posedirs,
    )
