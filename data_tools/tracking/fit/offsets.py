"""Room for what a statistical head cannot be: asymmetry, one ear that stands out, a crooked nose.

The identity basis gets further components: smooth bumps spread over the head, each free to push in three directions, by
a millimetre or two. They are fitted together with the identity, so they only take up what it leaves.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from flame_nerf.heads import HeadModel

BUMPS = 80
"""Number of places."""
REACH = 0.018
"""Standard deviation of a bump's bell over the surface, metres."""
PUSH = 1.5e-3
"""Standard deviation of a bump's height, metres."""


def with_bumps(head: HeadModel) -> HeadModel:
    """The head with further identity components; the first ones are those it had."""
    centre = head.template[_spread(head)]
    moved = _bells(head.template, centre)
    joints = _bells(head.joint_template, centre)
    return replace(
        head,
        shapedirs=torch.cat([head.shapedirs, moved], dim=-1),
        joint_shapedirs=torch.cat([head.joint_shapedirs, joints], dim=-1),
    )


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
