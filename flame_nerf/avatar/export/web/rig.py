"""A head that moves, as plain numbers for a program that poses it by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from flame_nerf.avatar.export.web.arrays import array, indices, sparse_directions

if TYPE_CHECKING:
    from flame_nerf.motion import LiveHead


def rig(live: LiveHead) -> dict[str, Any]:
    """All that `LiveHead.vertices` and `LiveHead.pose` know, for the page's script.

    Skinning weights are in 8 bits, directions in 16: vertices are met to some hundredths of a millimetre.
    """
    head = live.head
    weights = np.round(head.skinning_weights.numpy() * 255).astype(np.uint8)
    document: dict[str, Any] = {
        "expressions": list(live.expression_names),
        "joints": list(live.joint_names),
        "parents": list(head.parents),
        "headJoint": head.head_joint,
        "template": array(head.template.numpy().astype(np.float32)),
        "faces": indices(head.faces.numpy()),
        "weights": array(weights),
        "jointTemplate": array(head.joint_template.numpy().astype(np.float32)),
        "directions": sparse_directions(head.exprdirs.numpy()),
        "derived": [{"name": name, "mixture": mixture.tolist()} for name, mixture in live.derived.items()],
        "turns": [
            {
                "expression": live.expression_names.index(name),
                "joint": live.joint_names.index(joint),
                "axis": turn.tolist(),
            }
            for name, (joint, turn) in live.turns.items()
        ],
    }
    if head.joint_exprdirs is not None:
        document["jointDirections"] = array(head.joint_exprdirs.numpy().astype(np.float32))
    if head.posedirs is not None:
        # Stored as [V, 3, P], like expressions; the rotations' entries in the model's order.
        document["correctives"] = sparse_directions(np.moveaxis(head.posedirs.numpy(), 0, 2))
    return document
