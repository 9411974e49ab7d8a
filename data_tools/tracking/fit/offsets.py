"""Room for what a statistical head cannot be: asymmetry, one ear that stands out, a crooked nose.

The identity basis gets further components: smooth bumps spread over the head, each free to push in three directions, by
a millimetre or two; where the eyeballs lie, and how far each eye is open at rest. They are fitted together with the
identity, so they only take up what it leaves.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from data_tools.tracking.fit.face.face_points import EYE_JOINTS
from flame_nerf.heads import HeadModel
from flame_nerf.heads.eyes import BLINKS

BUMPS = 80
"""Number of places."""
REACH = 0.018
"""Standard deviation of a bump's bell over the surface, metres."""
PUSH = 1.5e-3
"""Standard deviation of a bump's height, metres."""
EYES = 1e-3
"""Standard deviation of how much higher, and how much farther apart, a person's eyeballs lie, metres. Lids tell little
of it; what is left would be taken for a look up or down that never ends."""
LIDS = 0.3
"""Standard deviation of how far a person's eyes are open at rest, in blinks."""


def with_bumps(head: HeadModel) -> HeadModel:
    """The head with further identity components; the first ones are those it had."""
    centre = head.template[_spread(head)]
    moved = _bells(head.template, centre)
    joints = _bells(head.joint_template, centre)
    blinks = [head.expression_names.index(name) for name in BLINKS if name in head.expression_names]
    if blinks:
        moved = torch.cat([moved, LIDS * head.exprdirs[..., blinks]], dim=-1)
        joints = torch.cat([joints, joints.new_zeros(*joints.shape[:-1], len(blinks))], dim=-1)
    eyes = [head.joint_names.index(name) for name in EYE_JOINTS if name in head.joint_names]
    if len(eyes) == 2:
        unit = torch.eye(len(head.joint_names))[eyes]
        moved = torch.cat([moved, _eyes_move(head.skinning_weights[:, eyes])], dim=-1)
        joints = torch.cat([joints, _eyes_move(unit.T)], dim=-1)
    return replace(
        head,
        shapedirs=torch.cat([head.shapedirs, moved], dim=-1),
        joint_shapedirs=torch.cat([head.joint_shapedirs, joints], dim=-1),
    )


def _eyes_move(share: Float[Tensor, "N 2"]) -> Float[Tensor, "N 3 2"]:
    """Displacements by eyeballs that lie higher, and by such that lie farther apart.

    Args:
        share: how much each point goes with the left and the right eye.
    """
    result = torch.zeros(len(share), 3, 2)
    result[:, 1, 0] = share.sum(dim=1)
    result[:, 0, 1] = share[:, 0] - share[:, 1]
    return EYES * result


def _bells(points: Float[Tensor, "N 3"], centre: Float[Tensor, "K 3"]) -> Float[Tensor, "N 3 K3"]:
    """Displacements of points by all bumps along x, then along y, then along z."""
    height = PUSH * torch.exp(-0.5 * torch.cdist(points, centre).square() / REACH**2)
    return torch.cat([height[:, None, :] * torch.eye(3)[axis][None, :, None] for axis in range(3)], dim=-1)


def _spread(head: HeadModel) -> Int[Tensor, " K"]:
    """Vertices of the head (not the neck), as far from each other as can be, starting from the foremost."""
    share = head.skinning_weights[:, head.head_joint]
    candidates = (share > 0.9).nonzero()[:, 0]
    places = head.template[candidates]
    chosen = [int(places[:, 2].argmax())]
    nearest = (places - places[chosen[0]]).norm(dim=1)
    while len(chosen) < min(BUMPS, len(candidates)):
        chosen.append(int(nearest.argmax()))
        nearest = torch.minimum(nearest, (places - places[chosen[-1]]).norm(dim=1))
    return candidates[chosen]
